"""What stands beside speed: memory and quality of both sides, so that nobody reads one without the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide.exact_counts import ALLOCATED
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.decide.statistics import estimate
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import Table

FIGURES = (metrics.RTF, metrics.FORWARD, metrics.PEAK_MEMORY, ALLOCATED, metrics.FORWARD_PEAK, metrics.ENERGY)
TITLE = "Memory and quality beside speed"


def beside(matches: Sequence[Match]) -> Table | None:
    """A row per side: speed, memory, then quality against fp32 upstream, of several texts the worst."""
    sides = [side for match in matches for side in _sides(match)]
    shown = [metric for metric in FIGURES if any(metric.of(cell) is not None for side in sides for cell in side.cells)]
    judged = any(cell.quality for side in sides for cell in side.cells)
    columns = ("stack", *(metric.label for metric in shown), *(label for label, *_ in run_tables.QUALITY if judged))
    rows = dict.fromkeys(
        (side.label, *_figures(side, shown), *(_quality(side.cells) if judged else ())) for side in sides
    )
    return Table(TITLE, columns, tuple(rows), tuple(_changes(matches))) if len(columns) > 1 else None


@dataclass(frozen=True)
class _Side:
    """All that ran of it, and what speeds are taken of."""

    label: str
    cells: list[Cell]
    at_one_pace: list[Cell]


def _sides(match: Match) -> Iterator[_Side]:
    at = f" ({match.point})" if match.point else ""
    for label, side in ((f"{match.baseline}{at}, baseline", "baseline"), (f"{match.candidate}{at}", "candidate")):
        cells = [cell for pair in match.pairing.pairs for cell in getattr(pair, side) if cell.ok]
        counted = [cell for pair in match.pairing.at_one_pace for cell in getattr(pair, side)]
        yield _Side(label, cells, counted or cells)


def _figures(side: _Side, shown: Sequence[Metric]) -> Iterator[str]:
    for metric in shown:
        middle = estimate(metric.of(cell) for cell in (side.at_one_pace if metric.spoken else side.cells))
        yield metric.text(middle.median if middle else None)


def _quality(cells: Sequence[Cell]) -> tuple[str, ...]:
    return run_tables.quality_figures([text for cell in cells for text in cell.quality])


def _changes(matches: Sequence[Match]) -> dict[str, None]:
    """Whose output differs by design."""
    return {
        f"{match.candidate} changes the output: {reason}": None
        for match in matches
        for pair in match.pairing.pairs
        for cell in pair.candidate
        for reason in cell.changes_output
    }
