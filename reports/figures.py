"""A run as figures for other tools: one row per stack, point and metric, over the processes that count."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.decide.comparison import gating_metrics
from ttsbench.reports.decide.pairing import spoiled_by
from ttsbench.reports.decide.sides import timed
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.run_tables import point_name
from ttsbench.reports.tables.table import Table


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
        for metric in exported(cells):
            if (estimate := statistics.estimate(map(metric.read, cells))) is not None:
                spread = estimate.spread if math.isfinite(estimate.spread) else None
                yield Figure(
                    stack, point, metric.name, metric.unit.recorded, estimate.median, estimate.low, estimate.high,
                    spread, estimate.processes,
                )  # fmt: skip


def exported(cells: Sequence[Cell]) -> list[Metric]:
    """What a verdict is about, and what else stands in the first table of a report."""
    shown = metrics.shown_in(metrics.OVERVIEW)
    return [*gating_metrics(cells), *(metric for metric in shown if not metric.gates or metric.part_of)]


COLUMNS = tuple(field.name for field in dataclasses.fields(Figure))


def rows(figures: Sequence[Figure]) -> Table:
    return Table.of("", COLUMNS, tuple(dataclasses.astuple(figure) for figure in figures))
