"""What stands beside speed: memory and quality of both sides, so that nobody reads one without the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ttsbench.records.measurements import Quality
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.decide.pairing import BASELINE, CANDIDATE
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.table import Column, Table, of_field

TITLE = "Memory and quality beside speed"


def costs(matches: Sequence[Match]) -> Table | None:
    """A row per side: speed, memory, then quality against fp32 upstream, of several texts the worst."""
    sides = [_Side(match, side) for match in matches for side in (BASELINE, CANDIDATE)]
    columns = (
        Column("stack", of_field("label")),
        *run_tables.metric_columns(metrics.shown_in(metrics.COSTS)),
        *(figure.column(lambda side: side.qualities) for figure in run_tables.QUALITY),
    )
    table = Table(TITLE, columns, tuple(sides), tuple(_changes(matches))).without_empty_columns()
    unique = dict(zip(table.texts, sides, strict=True))
    return replace(table, rows=tuple(unique.values())) if len(table.columns) > 1 else None


@dataclass(frozen=True)
class _Side:
    """One side of a match: all its processes that ran, but speeds of those alone that count, if any does."""

    match: Match
    side: str

    @property
    def label(self) -> str:
        at = f" ({self.match.point})" if self.match.point else ""
        return f"{self.match.candidate}{at}" if self.side == CANDIDATE else f"{self.match.baseline}{at}, baseline"

    @cached_property
    def cells(self) -> list[Cell]:
        return [cell for pair in self.match.pairing.pairs for cell in pair.cells(self.side) if cell.ok]

    def median(self, metric: Metric) -> float | None:
        counted = self.match.pairing.cells(self.side, metric) if metric.per_utterance else []
        return statistics.median(map(metric.read, counted or self.cells))

    @property
    def qualities(self) -> list[Quality]:
        return [text for cell in self.cells for text in cell.quality]


def _changes(matches: Sequence[Match]) -> dict[str, None]:
    """Whose output differs by design."""
    return {
        f"{match.candidate} changes the output: {reason}": None
        for match in matches
        for pair in match.pairing.pairs
        for cell in pair.candidate
        for reason in cell.changes_output
    }
