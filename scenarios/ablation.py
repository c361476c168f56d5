"""What each slot of a stack brings: every slot alone against the baseline, and the full stack with each taken back.

Some slots cannot stand alone: a graph needs a static cache and a sampler on the device. Such a slot comes with the
fewest companions from the full stack that let it run, and goes with those that cannot stay without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from ttsbench.errors import UsageError, suggest
from ttsbench.optimizations import registry
from ttsbench.optimizations.stacks import complete
from ttsbench.records.runs import ONLY, WITHOUT

if TYPE_CHECKING:
    from ttsbench.scenarios.schema import Scenario


Slots = dict[str, str]
Runs = Callable[[Mapping[str, str]], bool]


def ablate(scenario: Scenario, stack: str) -> Scenario:
    """The scenario with the stacks of an ablation in the place of its own; the baseline and the full stack stay."""
    if stack not in scenario.stacks:
        raise UsageError(f"--ablate {stack} names no stack; {suggest(stack, scenario.stacks)}")
    baseline, full = scenario.stacks[scenario.baseline], scenario.stacks[stack]
    if scenario.matrix:
        raise UsageError("--ablate needs a scenario without a matrix", mend="Take it out, or set one value with --set")
    # No part of what is measured: every stack keeps to the full one's.
    rule = {slot: option for slot, option in full.items() if not registry.BY_NAME[slot].is_part}
    ends = complete(baseline), complete({**full, **rule})
    changed = {slot: ends[1][slot] for slot in ends[1] if ends[0][slot] != ends[1][slot] and slot not in rule}
    if stack == scenario.baseline or not changed:
        raise UsageError(f"--ablate {stack} differs in no slot from the baseline '{scenario.baseline}'")
    made = stacks_of(
        {**baseline, **rule}, changed, lambda slots: not scenario.workload.conflict(slots, scenario.model.family)
    )
    stacks = {scenario.baseline: dict(baseline), stack: {**baseline, **rule, **changed}, **made}
    return scenario.model_copy(update={"stacks": stacks, "claims": ()})


def stacks_of(baseline: Slots, changed: Slots, runs: Runs) -> dict[str, Slots]:
    """Each slot alone and each taken back, by name; equal ones once, and none that is one of the two ends."""
    made: dict[str, Slots] = {}
    for slot in changed:
        alone = _fewest(baseline, changed, runs, {slot})
        if len(alone) < len(changed):
            made.setdefault(ONLY + "+".join(alone), {**baseline, **alone})
    for slot in changed:
        kept = _most_without(baseline, changed, runs, slot)
        if kept:
            made.setdefault(WITHOUT + "+".join(s for s in changed if s not in kept), {**baseline, **kept})
    return made


def _fewest(baseline: Slots, changed: Slots, runs: Runs, needed: set[str]) -> Slots:
    """The smallest part of the full stack that has these slots and can run; the whole where no smaller one can."""
    others = [slot for slot in changed if slot not in needed]
    for count in range(len(others) + 1):
        for companions in combinations(others, count):
            part = {slot: option for slot, option in changed.items() if slot in needed or slot in companions}
            if runs({**baseline, **part}):
                return part
    return changed


def _most_without(baseline: Slots, changed: Slots, runs: Runs, slot: str) -> Slots:
    """The largest part of the full stack that lacks this slot and can run; empty where nothing else can."""
    others = [other for other in changed if other != slot]
    for count in range(len(others), 0, -1):
        for kept in combinations(others, count):
            part = {other: changed[other] for other in changed if other in kept}
            if runs({**baseline, **part}):
                return part
    return {}
