"""What each slot of an ablated stack brings alone, and what the stack loses without it."""

from __future__ import annotations

from dataclasses import dataclass

from ttsbench.records.runs import ONLY, WITHOUT, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.table import Column, Table, of_field

# So much slower must the fastest process of one side be than the slowest of the other.
NOTICEABLE = 1.02


@dataclass(frozen=True)
class SlotEffect:
    """One slot; alone it may need others, and others may have to go with it. Lower is better."""

    slot: str
    needs: tuple[str, ...]
    alone: Estimate | None
    takes: tuple[str, ...]
    taken_back: Estimate | None


@dataclass(frozen=True)
class Ablation:
    """The two ends and what lies between them."""

    metric: Metric
    baseline: Estimate
    full: Estimate
    effects: tuple[SlotEffect, ...]


def ablation(run: Run) -> Ablation | None:
    """None where the run is no ablation, or an end of it did not run."""
    if not run.ablated:
        return None
    [stacks] = run_tables.results(run)[:1] or [[]]
    metric = metrics.speed(run.cells)
    estimates = {stack.label: stack.estimate(metric) for stack in stacks}
    baseline, full = estimates.get(run.baseline), estimates.get(run.ablated)
    if baseline is None or full is None:
        return None
    slots = dict.fromkeys(slot for label in estimates for prefix in (ONLY, WITHOUT) for slot in _slots(label, prefix))
    return Ablation(metric, baseline, full, tuple(_effect_of(slot, estimates) for slot in slots))


def _slots(label: str, prefix: str) -> tuple[str, ...]:
    return tuple(label.removeprefix(prefix).split("+")) if label.startswith(prefix) else ()


def _effect_of(slot: str, estimates: dict[str, Estimate | None]) -> SlotEffect:
    """Of the stacks that have or lack the slot, those that have or lack the fewest others."""
    alone, taken_back = (
        min(
            (label for label in estimates if slot in _slots(label, prefix)),
            key=lambda label: label.count("+"),
            default="",
        )
        for prefix in (ONLY, WITHOUT)
    )
    needs, takes = (
        tuple(other for other in _slots(label, prefix) if other != slot)
        for label, prefix in ((alone, ONLY), (taken_back, WITHOUT))
    )
    return SlotEffect(slot, needs, estimates.get(alone), takes, estimates.get(taken_back))


def tables(run: Run) -> list[Table]:
    effects = ablation(run)
    return [table(effects)] if effects else []


def table(ablation: Ablation) -> Table:
    """A row per slot: its factor alone, the factor lost without it, and what follows from both."""
    columns = (
        Column("slot", of_field("slot")),
        Column("alone", lambda effect: _factor(ablation.baseline, effect.alone), "times"),
        Column("together with", lambda effect: ", ".join(effect.needs) or None),
        Column("lost without", lambda effect: _factor(effect.taken_back, ablation.full), "times"),
        Column("which takes along", lambda effect: ", ".join(effect.takes) or None),
        Column("verdict", lambda effect: verdict(ablation, effect)),
    )
    speed_up = f"the full stack is {ablation.baseline.median / ablation.full.median:.2f}× as fast as the baseline"
    return Table("Ablation", columns, ablation.effects, (speed_up,)).without_empty_columns()


def _factor(slower: Estimate | None, faster: Estimate | None) -> float | None:
    return None if slower is None or faster is None else slower.median / faster.median


def verdict(ablation: Ablation, effect: SlotEffect) -> str:
    """Whether it pays, and whether it needs others for it."""
    alone, lost = _effect(ablation.baseline, effect.alone), _effect(effect.taken_back, ablation.full)
    if alone is None and lost is None:
        return "not measured"
    if 1 in (alone, lost):
        if alone == 1 and not effect.needs:
            return "pays" if lost in (1, None) else "pays only alone"
        return "pays only with others"
    return "costs" if -1 in (alone, lost) else "not shown"


def _effect(slower: Estimate | None, faster: Estimate | None) -> int | None:
    """1 where it saves time, -1 where it costs some, 0 where processes lie too far apart, or are too few, to tell."""
    if slower is None or faster is None:
        return None
    if min(slower.processes, faster.processes) < 2:
        return 0
    return (slower.low > faster.high * NOTICEABLE) - (faster.low > slower.high * NOTICEABLE)


def steps(ablation: Ablation) -> list[tuple[str, float, float]]:
    """Label, where a bar begins and where it ends: from the baseline's figure to the full stack's.

    A bar is what a slot saves when it is the one taken back. What the slots save one by one need not add up; the last
    step is what they save only together.
    """
    steps, at = [("baseline", 0.0, ablation.baseline.median)], ablation.baseline.median
    taken_back = {tuple(sorted((effect.slot, *effect.takes))): effect.taken_back for effect in ablation.effects}
    for slots, without in taken_back.items():
        if without is not None:
            steps.append((", ".join(slots), at, at - (without.median - ablation.full.median)))
            at = steps[-1][2]
    return [*steps, ("only together", at, ablation.full.median), ("full", 0.0, ablation.full.median)]
