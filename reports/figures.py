"""A run as figures for other tools: one row per stack, point and metric, over the processes that count."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.decide.comparison import FIGURES, gating
from ttsbench.reports.decide.pairing import spoiled_by
from ttsbench.reports.decide.sides import timed
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import loads
from ttsbench.reports.tables.run_tables import point_name
from ttsbench.reports.tables.table import Table

# Beside what every verdict looks at: the two parts that most of the time goes to, S3Gen's in seconds.
ALSO_SHOWN = (metrics.DECODE, metrics.S3GEN)
METRICS = FIGURES | {metric.name: metric for metric in ALSO_SHOWN}
# Of the values as they stand in a record.
UNITS = {
    metrics.RTF.name: "s/s",
    metrics.TTFA.name: "s",
    metrics.FORWARD.name: "s",
    loads.BUSIEST.name: "s/s",
    loads.LIGHTEST.name: "s",
    metrics.PEAK_MEMORY.name: "bytes",
    metrics.ENERGY.name: "J/s",
    metrics.DECODE.name: "s/token",
    metrics.S3GEN.name: "s",
    metrics.S3GEN_RTF.name: "s/s",
}


@dataclass(frozen=True)
class Figure:
    """One metric of one stack at one point: the median of the processes' medians, and the least and greatest."""

    stack: str
    point: str
    metric: str
    unit: str
    median: float
    low: float
    high: float
    spread: float | None
    processes: int

    @property
    def name(self) -> str:
        """Of what it is a figure."""
        return f"{self.stack} ({self.point})" if self.point else self.stack


def figures(run: Run) -> list[Figure]:
    """Every figure that a run has; what spoils a pair leaves a process out here too."""
    return list(_figures(run))


def _figures(run: Run) -> Iterator[Figure]:
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in timed(run):
        if not spoiled_by(cell):
            groups.setdefault((cell.stack, point_name(cell.point)), []).append(cell)
    for (stack, point), cells in groups.items():
        for metric in (*gating(cells), *ALSO_SHOWN):
            if (found := _over_processes(metric, cells)) is not None:
                spread = found.spread if math.isfinite(found.spread) else None
                yield Figure(
                    stack, point, metric.name, UNITS[metric.name], found.median, found.low, found.high, spread,
                    found.processes,
                )  # fmt: skip


def _over_processes(metric: Metric, cells: Sequence[Cell]) -> statistics.Estimate | None:
    return statistics.estimate(metric.of(cell) for cell in cells)


COLUMNS = tuple(field.name for field in dataclasses.fields(Figure))


def rows(found: Sequence[Figure]) -> Table:
    """As a table."""
    return Table.of("", COLUMNS, tuple(dataclasses.astuple(figure) for figure in found))
