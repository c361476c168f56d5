"""What series of the same code show of a machine: how far apart they come out, and so which differences can be seen."""

from __future__ import annotations

import math
import statistics as stats
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison, decision, sides, statistics
from ttsbench.reports.decide.pairing import SIDES, Pair, Pairing
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.table import Table

SCHEMA_VERSION = 1
SERIES_MIN = 20
LASTS = timedelta(days=30)
SHARE = 0.95
# Of a scenario's section `measure`, what a process's figure depends on.
MEASURED_ALIKE = ("warmup", "repeats", "start")
COLUMNS = ("stack", "figure", "floor", "limit", f"sees at {decision.PAIRS_MIN}", f"at {decision.PAIRS_MAX}", "takes")


@dataclass(frozen=True)
class SeriesDifferences:
    """Pairs of the same code: for each figure the differences d, in the order in which they ran."""

    differences: dict[str, tuple[float, ...]]
    seconds: float
    void: int = 0

    @property
    def pairs(self) -> int:
        return max(map(len, self.differences.values()), default=0)


@dataclass(frozen=True)
class CalibratedStack:
    key: str
    slots: dict[str, str]
    series: tuple[SeriesDifferences, ...] = ()

    @property
    def figures(self) -> tuple[Metric, ...]:
        """Those that every series has."""
        gating = metrics.that_gate() if self.series else ()
        return tuple(metric for metric in gating if all(self._whole(series, metric) for series in self.series))

    @staticmethod
    def _whole(series: SeriesDifferences, metric: Metric) -> bool:
        differences = series.differences.get(metric.name, ())
        return len(differences) >= decision.PAIRS_MIN and all(map(math.isfinite, differences))

    def floor(self, metric: Metric) -> float | None:
        """How far apart the same code comes out: the 95th percentile over the series, each the mean of its pairs."""
        if len(self.series) < SERIES_MIN or metric not in self.figures:
            return None
        apart = statistics.percentile([abs(stats.fmean(s.differences[metric.name])) for s in self.series], SHARE)
        return None if apart is None else math.expm1(apart)

    @property
    def floors(self) -> dict[str, float]:
        """By figure; a part that was not calibrated has that of the whole."""
        own = {metric.name: floor for metric in self.figures if (floor := self.floor(metric)) is not None}
        whole = own.get(metrics.RTF.name)
        return own if whole is None else {m.name: whole for m in metrics.that_gate() if m.part_of} | own

    def spread(self, metric: Metric) -> float:
        """Of the pairs within a series, over all series."""
        return math.sqrt(stats.fmean(stats.variance(s.differences[metric.name]) for s in self.series))

    @property
    def pair_seconds(self) -> float:
        """What one pair takes, with the start of its series shared out."""
        return sum(s.seconds for s in self.series) / max(1, sum(s.pairs + s.void for s in self.series))


@dataclass(frozen=True)
class Calibration:
    schema_version: int
    ttsbench_version: str
    scenario: str
    made_utc: str
    environment: dict[str, Any]
    scenario_understood: dict[str, Any]
    stacks: tuple[CalibratedStack, ...] = field(default=())

    def objection(self, run: sides.Measured, now: datetime) -> str:
        """Why it says nothing about a run; empty where it does."""
        if now - datetime.fromisoformat(self.made_utc) > LASTS:
            return f"made more than {LASTS.days} days ago, on {self.made_utc[:10]}"
        return "; ".join(sides.different(identity(self), identity(run)))

    def floors(self, cell: Cell) -> dict[str, float]:
        """For the figures of one stack; nothing where its options are not those that were calibrated."""
        stack = next((stack for stack in self.stacks if stack.key == cell.key), None)
        if stack is None or any(stack.slots.get(slot, option) != option for slot, option in cell.slots.items()):
            return {}
        return stack.floors

    def extended(self, cell: Cell, series: SeriesDifferences) -> Calibration:
        """With one more series of a stack."""
        stacks = {stack.key: stack for stack in self.stacks}
        known = stacks.get(cell.key, CalibratedStack(cell.key, cell.slots))
        stacks[cell.key] = replace(known, series=(*known.series, series))
        return replace(self, stacks=tuple(stacks.values()))

    def series_of(self, key: str) -> int:
        return next((len(stack.series) for stack in self.stacks if stack.key == key), 0)


def identity(run: sides.Measured) -> dict[str, Any]:
    """What has to be the same for a calibration to hold."""
    measure = run.scenario_understood.get("measure") or {}
    return {**sides.identity(run), **{f"measure.{name}": measure.get(name) for name in MEASURED_ALIKE}}


def begun(run: Run) -> Calibration:
    """Nothing yet, of this machine and this work."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    understood = {name: run.scenario_understood.get(name) for name in ("model", "fake", "workload", "measure")}
    return Calibration(SCHEMA_VERSION, run.ttsbench_version, run.scenario, now, run.environment, understood)


def series_of(attempts: Sequence[Pair], seconds: float) -> SeriesDifferences:
    """What pairs of the same code differ by."""
    pairing = Pairing(tuple(attempts))
    cells = [cell for side in SIDES for cell in pairing.cells(side)]
    judged = (*comparison.gating_metrics(cells), *comparison.part_metrics(cells))
    differences = {m.name: tuple(pair.difference(m) for pair in pairing.valid) for m in judged}
    return SeriesDifferences(differences, seconds, len(pairing.void))


def table(calibration: Calibration) -> Table:
    """A row for each figure of each stack."""
    rows = tuple(row for stack in calibration.stacks for row in _rows(stack))
    return Table.of(f"{calibration.scenario}, {calibration.made_utc[:10]}", COLUMNS, rows, tuple(_notes(calibration)))


def _rows(stack: CalibratedStack) -> Iterator[tuple[str, ...]]:
    for metric in stack.figures:
        floor, spread = stack.floor(metric), stack.spread(metric)
        limit = decision.threshold(floor)
        seen = (decision.smallest(limit, spread, pairs) for pairs in (decision.PAIRS_MIN, decision.PAIRS_MAX))
        yield (
            stack.key,
            metric.label,
            "–" if floor is None else f"{floor:.1%}",
            f"{limit:.1%}",
            *(f"{share:.1%}" for share in seen),
            _time_for_same(stack, decision.pairs_for_same(limit, spread)),
        )


def _time_for_same(stack: CalibratedStack, pairs: int | None) -> str:
    if pairs is None:
        return "stays open"
    return f"{pairs} pairs, {_duration(pairs * stack.pair_seconds)}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _notes(calibration: Calibration) -> Iterator[str]:
    yield f"floor: 95 % of the series of the same code differ by less; limit: that, or {decision.THRESHOLD_MIN:.0%}"
    yield "sees: the smallest slowdown that so many pairs show four times out of five"
    yield "takes: until the same code is called the same; slower takes as long again, for a second series"
    for stack in calibration.stacks:
        void = sum(series.void for series in stack.series)
        with_void = f"; {void} pairs were void" if void else ""
        few = f"; a floor takes {SERIES_MIN}" if len(stack.series) < SERIES_MIN else ""
        yield f"{stack.key}: {len(stack.series)} series, {stack.pair_seconds:.1f} s a pair{with_void}{few}"


def floors_of_both(calibration: Calibration, pair: Pair) -> Mapping[str, float]:
    """For a pair of two stacks, the larger floor of each figure."""
    ours, theirs = (calibration.floors(pair.cells(side)[0]) for side in SIDES)
    return {name: max(ours.get(name, 0.0), theirs.get(name, 0.0)) for name in ours.keys() | theirs.keys()}
