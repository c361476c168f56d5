"""From rows to pairs: which process is compared with which, which pairs are void, and how many more are needed."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.measurements import Guard
from ttsbench.records.runs import Cell
from ttsbench.reports.decide import decision, paces, statistics
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.metrics import LOWER, Metric
from ttsbench.reports.readings import in_evidence

CLOCK_SPREAD_MAX = 0.03
RETRIES = 2
CANDIDATE, BASELINE = SIDES = ("candidate", "baseline")
_recompilations = in_evidence("compiler.recompilations_while_timing")
_captures = in_evidence("compiler.captures_while_timing")


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
        cells = ((side, cell) for side in SIDES for cell in self.cells(side))
        spoiled = tuple(f"{side}: {reason}" for side, cell in cells for reason in spoiled_by(cell))
        return spoiled or tuple(self._at_two_paces())

    def cells(self, side: str, metric: Metric | None = None) -> tuple[Cell, ...]:
        """One side's processes; for a metric of utterances, with those alone that can be compared."""
        pair = self.at_one_pace if metric is not None and metric.per_utterance else self
        return pair.candidate if side == CANDIDATE else pair.baseline

    def difference(self, metric: Metric) -> float:
        """d = ln(candidate ÷ baseline), each the median of its processes; where more is better, its negative."""
        difference = decision.log_ratio(*(self._median(metric, side) for side in SIDES))
        return difference if metric.better == LOWER else -difference

    def _median(self, metric: Metric, side: str) -> float | None:
        """None if a process lacks the figure or holds a NaN."""
        values = [None if side in self._broken else metric.read(cell) for cell in self.cells(side, metric)]
        return None if None in values else statistics.median(values)

    @functools.cached_property
    def _broken(self) -> frozenset[str]:
        return frozenset(side for side in SIDES if any(map(has_no_time, self.cells(side))))

    @functools.cached_property
    def at_one_pace(self) -> Pair:
        """The utterances at one pace of the device. A call without a time is never filtered out."""
        one_stack = len({cell.stack for cell in (*self.candidate, *self.baseline)}) == 1
        if not self.one_device or not one_stack or self.candidate == self.baseline or self._broken:
            return self
        return Pair(*paces.alike(self.candidate, self.baseline))

    @property
    def utterances(self) -> int:
        return sum(len(cell.utterances) for cell in (*self.candidate, *self.baseline))

    @property
    def pace_difference(self) -> float:
        """ln of the device's pace for the candidate over that for the baseline, over all utterances."""
        return decision.log_ratio(*(statistics.median(paces.of(cells)) for cells in (self.candidate, self.baseline)))

    def _at_two_paces(self) -> Iterator[str]:
        """A device that was faster for one side than for the other, by work that is the same for both."""
        if not self.at_one_pace.candidate:
            before, after = _range(paces.of(self.baseline)), _range(paces.of(self.candidate))
            yield f"the device was at two paces: a kernel took {before} ns at the baseline, {after} at the candidate"


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def has_no_time(cell: Cell) -> bool:
    """Whether a call has no time: the median of the others would hide it."""
    seconds = (*(u.rtf for u in cell.utterances), *(f.wall_seconds for f in cell.forwards))
    return not all(0 < value < math.inf for value in seconds)


def pair_of(candidate: Cell, baseline: Cell) -> Pair:
    return Pair((candidate,), (baseline,))


@dataclass(frozen=True)
class Pairing:
    """The pairs of a comparison in the order in which they ran, and the rows that have no partner."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Cell, ...] = ()

    @functools.cached_property
    def valid(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if not pair.void)

    @property
    def void(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.void)

    def cells(self, side: str, metric: Metric | None = None) -> list[Cell]:
        """One side's processes that count; for a metric of utterances, with those alone that can be compared."""
        return [cell for pair in self.valid for cell in pair.cells(side, metric)]

    def values(self, side: str, metric: Metric) -> list[float]:
        return statistics.finite(map(metric.read, self.cells(side, metric)))

    def median(self, side: str, metric: Metric) -> float | None:
        return statistics.median(map(metric.read, self.cells(side, metric)))

    @property
    def left_out(self) -> tuple[int, int]:
        """Utterances of pairs that count which have no partner at the same pace, and of how many."""
        utterances = sum(pair.utterances for pair in self.valid)
        return utterances - sum(pair.at_one_pace.utterances for pair in self.valid), utterances

    @property
    def pace_objections(self) -> Iterator[str]:
        """A side that the device is slower for, time and again: then it may be what that side does to the device."""
        left_out, _ = self.left_out
        if left_out:
            pace = decision.judge([pair.pace_difference for pair in self.valid], paces.PACE_SPREAD_MAX)
            if pace.verdict in decision.DIFFERENT:
                side = CANDIDATE if pace.verdict is Verdict.SLOWER else BASELINE
                yield f"the device itself was slower for the {side}, {max(pace.ratio, 1 / pace.ratio):.2f}× on average"


def spoiled_by(cell: Cell) -> list[str]:
    """What makes a process's figures worthless: it did not run as asked, or something else slowed it down."""
    if not cell.ok:
        return [f"{cell.status}: {cell.reason}"]
    compiled, captured = _recompilations(cell), _captures(cell)
    return [
        *_by_the_guard(cell.guard or Guard()),
        *([f"the compiler ran {compiled:g} times during timing"] if compiled else []),
        *([f"{captured:g} CUDA graphs were captured during timing"] if captured else []),
    ]


def _by_the_guard(guard: Guard) -> Iterable[str]:
    yield from (f"throttled: {reason}" for reason in guard.throttle_reasons)
    yield from (f"another process was on the GPU: {name}" for name in guard.foreign_processes)
    low, high = guard.sm_clock_mhz_min, guard.sm_clock_mhz_max
    if low and high and high / low - 1 > CLOCK_SPREAD_MAX:
        yield f"the SM clock went from {low} to {high} MHz"


def pair_up(candidate: Iterable[Cell], baseline: Iterable[Cell]) -> Pairing:
    """Process by process: within a run, plan has put the two of the same number side by side, in alternating order."""
    theirs = {cell.process: cell for cell in baseline if cell.kind == "timed"}
    ours = {cell.process: cell for cell in candidate if cell.kind == "timed"}
    both = sorted(ours.keys() & theirs.keys())
    lone = [*(ours[n] for n in sorted(ours.keys() - both)), *(theirs[n] for n in sorted(theirs.keys() - both))]
    return Pairing(tuple(pair_of(ours[number], theirs[number]) for number in both), tuple(lone))


@dataclass(frozen=True)
class PairsNeeded:
    """How many pairs a series should run next, and why it ends before it has all, where it does."""

    count: int
    given_up: str = ""


def pairs_needed(attempts: Sequence[Pair], goal: int) -> PairsNeeded:
    """How many more pairs bring the valid ones to a goal. Each void pair may be retried twice; then the series ends."""
    valid, tries = 0, 0
    for pair in attempts:
        tries = 0 if not pair.void else tries + 1
        valid += not pair.void
        if tries > RETRIES:
            return PairsNeeded(0, f"pair {valid + 1} was void {tries} times; the last time: {'; '.join(pair.void)}")
    return PairsNeeded(max(goal - valid, 0))
