"""What stands beside speed: memory and quality of both sides, so that nobody reads one without the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ttsbench.records.measurements import Quality
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide.exact_counts import ALLOCATED
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.decide.statistics import estimate
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.table import Column, Table, of_field

FIGURES = (metrics.RTF, metrics.FORWARD, metrics.PEAK_MEMORY, ALLOCATED, metrics.FORWARD_PEAK, metrics.ENERGY)
TITLE = "Memory and quality beside speed"


def beside(matches: Sequence[Match]) -> Table | None:
    """A row per side: speed, memory, then quality against fp32 upstream, of several texts the worst."""
    sides = [side for match in matches for side in _sides(match)]
    columns = (
        Column("stack", of_field("label")),
        *(Column(metric.label, lambda side, metric=metric: side.median(metric), metric.text) for metric in FIGURES),  # type: ignore[misc]
        *(figure.column(lambda side: side.qualities) for figure in run_tables.QUALITY),
    )
    table = Table(TITLE, columns, tuple(sides), tuple(_changes(matches))).without_empty_columns()
    unique = dict(zip(table.texts, sides, strict=True))
    return replace(table, rows=tuple(unique.values())) if len(table.columns) > 1 else None


@dataclass(frozen=True)
class _Side:
    """All that ran of it, and what speeds are taken of."""

    label: str
    cells: list[Cell]
    at_one_pace: list[Cell]

    def median(self, metric: Metric) -> float | None:
        middle = estimate(metric.of(cell) for cell in (self.at_one_pace if metric.spoken else self.cells))
        return middle.median if middle else None

    @property
    def qualities(self) -> list[Quality]:
        return [text for cell in self.cells for text in cell.quality]


def _sides(match: Match) -> Iterator[_Side]:
    at = f" ({match.point})" if match.point else ""
    for label, side in ((f"{match.baseline}{at}, baseline", "baseline"), (f"{match.candidate}{at}", "candidate")):
        cells = [cell for pair in match.pairing.pairs for cell in getattr(pair, side) if cell.ok]
        counted = [cell for pair in match.pairing.at_one_pace for cell in getattr(pair, side)]
        yield _Side(label, cells, counted or cells)


def _changes(matches: Sequence[Match]) -> dict[str, None]:
    """Whose output differs by design."""
    return {
        f"{match.candidate} changes the output: {reason}": None
        for match in matches
        for pair in match.pairing.pairs
        for cell in pair.candidate
        for reason in cell.changes_output
    }
