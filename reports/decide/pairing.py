"""From rows to pairs: which process is laid beside which, which pairs are void, and how many more are wanted."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.records.measurements import Guard
from ttsbench.records.runs import Cell
from ttsbench.reports.decide import decision, paces, statistics
from ttsbench.reports.metrics import Metric

CLOCK_SPREAD_MAX = 0.03
RETRIES = 2


@dataclass(frozen=True)
class Pair:
    """Two processes of one series, one after the other; or two whole series, each of which counts as one then."""

    candidate: tuple[Cell, ...]
    baseline: tuple[Cell, ...]
    # Another device has another pace by nature.
    one_device: bool = True

    @functools.cached_property
    def void(self) -> tuple[str, ...]:
        """Why nothing can be learned from it; empty where something can."""
        sides = (("candidate", self.candidate), ("baseline", self.baseline))
        spoiled = tuple(f"{side}: {reason}" for side, cells in sides for cell in cells for reason in spoiled_by(cell))
        return spoiled or tuple(self._at_two_paces())

    @functools.cached_property
    def at_one_pace(self) -> Pair:
        """What of it can be compared, where the device changed its own speed. A call without a time hides nowhere."""
        cells = (*self.candidate, *self.baseline)
        one_stack = len({cell.stack for cell in cells}) == 1
        if not self.one_device or not one_stack or self.candidate == self.baseline or any(map(_broken, cells)):
            return self
        candidate, baseline = paces.alike(self.candidate, self.baseline)
        return Pair(candidate, baseline)

    @property
    def utterances(self) -> int:
        """Of both sides."""
        return sum(len(cell.utterances) for cell in (*self.candidate, *self.baseline))

    @property
    def pace_difference(self) -> float:
        """ln of the device's pace for the candidate over that for the baseline, over all that was spoken."""
        ours, theirs = (statistics.median(paces.of(cells)) for cells in (self.candidate, self.baseline))
        return decision.log_ratio(ours, theirs)

    def _at_two_paces(self) -> Iterator[str]:
        """A device that was faster for one side than for the other, by work that is the same for both."""
        if not self.at_one_pace.candidate:
            before, after = _range(paces.of(self.baseline)), _range(paces.of(self.candidate))
            yield f"the device was at two paces: a kernel took {before} ns at the baseline, {after} at the candidate"

    def difference(self, metric: Metric) -> float:
        """d = ln(candidate ÷ baseline), each the median of its process's utterances, as far as they can be compared."""
        pair = self.at_one_pace if metric.spoken else self
        return decision.log_ratio(_middle(metric, pair.candidate), _middle(metric, pair.baseline))


def _middle(metric: Metric, cells: Sequence[Cell]) -> float | None:
    """The median of the processes; nothing where one of them has no such figure, or holds what is no number."""
    values = [None if _broken(cell) else metric.of(cell) for cell in cells]
    return None if None in values else statistics.median(values)


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _broken(cell: Cell) -> bool:
    """Whether a call has no time: the median of the others would hide it."""
    seconds = (*(u.rtf for u in cell.utterances), *(f.wall_seconds for f in cell.forwards))
    return not all(0 < value < math.inf for value in seconds)


def beside(candidate: Cell, baseline: Cell) -> Pair:
    """Two processes."""
    return Pair((candidate,), (baseline,))


@dataclass(frozen=True)
class Pairing:
    """The pairs of a comparison in the order in which they ran, and the rows that no other stands beside."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Cell, ...] = ()

    @functools.cached_property
    def valid(self) -> tuple[Pair, ...]:
        """Those that count."""
        return tuple(pair for pair in self.pairs if not pair.void)

    @functools.cached_property
    def at_one_pace(self) -> tuple[Pair, ...]:
        """What of those that count has speeds that can be compared."""
        return tuple(pair.at_one_pace for pair in self.valid)

    def behind(self, metric: Metric) -> tuple[Pair, ...]:
        """What a figure is taken of."""
        return self.at_one_pace if metric.spoken else self.valid

    @property
    def left_out(self) -> tuple[int, int]:
        """Utterances of pairs that count which have none beside them at the same pace, and of how many."""
        spoken = sum(pair.utterances for pair in self.valid)
        return spoken - sum(pair.utterances for pair in self.at_one_pace), spoken

    @property
    def void(self) -> tuple[Pair, ...]:
        """Those that do not."""
        return tuple(pair for pair in self.pairs if pair.void)


def spoiled_by(cell: Cell) -> list[str]:
    """What makes a process's figures worthless: it did not run as asked, or something else slowed it down."""
    if not cell.ok:
        return [f"{cell.status}: {cell.reason}"]
    compiled = _number(cell.evidence, "compiler", "recompilations_while_timing")
    captured = _number(cell.evidence, "compiler", "captures_while_timing")
    return [
        *_by_the_guard(cell.guard or Guard()),
        *([f"the compiler worked {compiled:g} times while the clock ran"] if compiled else []),
        *([f"{captured:g} CUDA graphs were captured while the clock ran"] if captured else []),
    ]


def _by_the_guard(guard: Guard) -> Iterable[str]:
    yield from (f"throttled: {reason}" for reason in guard.throttle_reasons)
    yield from (f"another process was on the GPU: {name}" for name in guard.foreign_processes)
    low, high = guard.sm_clock_mhz_min, guard.sm_clock_mhz_max
    if low and high and high / low - 1 > CLOCK_SPREAD_MAX:
        yield f"the SM clock went from {low} to {high} MHz"


def _number(evidence: dict[str, Any], *path: str) -> float:
    """A count in the evidence; zero where it is not there."""
    found: Any = evidence
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, int | float) else 0


def pair_up(candidate: Iterable[Cell], baseline: Iterable[Cell]) -> Pairing:
    """Process by process: within a run, plan has put the two of the same number side by side, in alternating order."""
    theirs = {cell.process: cell for cell in baseline if cell.kind == "timed"}
    ours = {cell.process: cell for cell in candidate if cell.kind == "timed"}
    both = sorted(ours.keys() & theirs.keys())
    lone = [*(ours[n] for n in sorted(ours.keys() - both)), *(theirs[n] for n in sorted(theirs.keys() - both))]
    return Pairing(tuple(beside(ours[number], theirs[number]) for number in both), tuple(lone))


@dataclass(frozen=True)
class Wanted:
    """What a series should do next, and why, where it should stop without having all its pairs."""

    pairs: int
    given_up: str = ""


def wanted(attempts: Sequence[Pair], goal: int) -> Wanted:
    """How many more pairs bring the valid ones to a goal. Each void one may be tried again twice, then it is over."""
    valid, tries = 0, 0
    for pair in attempts:
        tries = 0 if not pair.void else tries + 1
        valid += not pair.void
        if tries > RETRIES:
            return Wanted(0, f"pair {valid + 1} was void {tries} times, at last because {'; '.join(pair.void)}")
    return Wanted(max(goal - valid, 0))
