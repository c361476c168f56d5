"""What stands beside speed: memory and quality of both sides, so that nobody reads one without the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ttsbench.records import Cell
from ttsbench.reports import metrics, tables
from ttsbench.reports.exact import ALLOCATED
from ttsbench.reports.metrics import Metric
from ttsbench.reports.sides import Match
from ttsbench.reports.statistics import estimate
from ttsbench.reports.tables import Table

FIGURES = (metrics.RTF, metrics.FORWARD, metrics.PEAK_MEMORY, ALLOCATED, metrics.FORWARD_PEAK, metrics.ENERGY)
TITLE = "Memory and quality beside speed"


def beside(matches: Sequence[Match]) -> Table | None:
    """A row per side: speed, memory, then quality against fp32 upstream, of several texts the worst."""
    sides = [(label, cells) for match in matches for label, cells in _sides(match)]
    shown = [metric for metric in FIGURES if any(metric.of(cell) is not None for _, cells in sides for cell in cells)]
    judged = any(cell.quality for _, cells in sides for cell in cells)
    columns = ("stack", *(metric.label for metric in shown), *(label for label, *_ in tables.QUALITY if judged))
    rows = dict.fromkeys((name, *_figures(cells, shown), *(_quality(cells) if judged else ())) for name, cells in sides)
    return Table(TITLE, columns, tuple(rows), tuple(_changes(matches))) if len(columns) > 1 else None


def _sides(match: Match) -> Iterator[tuple[str, list[Cell]]]:
    at = f" ({match.point})" if match.point else ""
    pairs = match.pairing.compared or match.pairing.pairs
    yield f"{match.baseline}{at}, baseline", [c for pair in pairs for c in pair.baseline if c.ok]
    yield f"{match.candidate}{at}", [c for pair in pairs for c in pair.candidate if c.ok]


def _figures(cells: Sequence[Cell], shown: Sequence[Metric]) -> Iterator[str]:
    for metric in shown:
        middle = estimate(metric.of(cell) for cell in cells)
        yield metric.text(middle.median if middle else None)


def _quality(cells: Sequence[Cell]) -> tuple[str, ...]:
    return tables.quality_figures([text for cell in cells for text in cell.quality])


def _changes(matches: Sequence[Match]) -> dict[str, None]:
    """Whose output differs by design."""
    return {
        f"{match.candidate} changes the output: {reason}": None
        for match in matches
        for pair in match.pairing.pairs
        for cell in pair.candidate
        for reason in cell.changes_output
    }
