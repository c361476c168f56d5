"""Where a series of figures changed for good: steps of its level, told from noise, spikes and drift.

The series is cut where that brings the points nearer to the medians of their segments than a penalty per cut takes away
(optimal partitioning by absolute deviations, in units of the noise). Nothing is drawn at random;
tests/reports/test_change_points.py shows how often it errs.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ttsbench.reports.decide.decision import THRESHOLD_MIN

# Two spikes side by side are no segment of four.
SEGMENT_MIN = 4
# In simulations of steady series of 8 to 200 points, one in a hundred gained as much from any cut.
PENALTY = 8.5
# Of ln; figures that hardly vary, as memory does, would otherwise change all the time.
NOISE_MIN = 0.002
# Of the absolute deviation of a normal distribution, and of the difference of two draws.
NORMAL_QUARTILE, DIFFERENCE = 0.6745, math.sqrt(2)


@dataclass(frozen=True)
class LevelChange:
    """From this point on the level is different; both are medians."""

    index: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.after / self.before


@dataclass(frozen=True)
class Trend:
    """A series stepped, or drifted by so much from its first point to its last, or neither."""

    changes: tuple[LevelChange, ...] = ()
    drift: float = 1.0


def trend(values: Sequence[float]) -> Trend:
    """Of positive figures in the order in which they were measured."""
    if len(values) < 2 * SEGMENT_MIN:
        return Trend()
    logs = [math.log(value) for value in values]
    noise = _noise(logs)
    cuts, stepped = _partition(logs, noise)
    slope, drifted = _line(logs, noise)
    if cuts and drifted < stepped:
        whole = math.exp(slope * (len(values) - 1))
        return Trend(drift=whole if abs(math.log(whole)) > math.log1p(THRESHOLD_MIN) else 1.0)
    return Trend(_large_enough(values, cuts))


def _noise(logs: Sequence[float]) -> float:
    """The standard deviation, from the differences of neighbours: a step is one of many, and a drift hardly shows."""
    steps = statistics.median(abs(after - before) for before, after in itertools.pairwise(logs))
    return max(steps / NORMAL_QUARTILE / DIFFERENCE, NOISE_MIN)


def _partition(logs: Sequence[float], noise: float) -> tuple[list[int], float]:
    """The best cuts, and what they leave: deviations over noise and a penalty for each cut."""
    count = len(logs)
    costs = [_deviations(logs[start:]) for start in range(count)]
    best, origin = [math.inf] * (count + 1), [0] * (count + 1)
    best[0] = -PENALTY
    for end in range(SEGMENT_MIN, count + 1):
        for start in (0, *range(SEGMENT_MIN, end - SEGMENT_MIN + 1)):
            cost = best[start] + costs[start][end - start - 1] / noise + PENALTY
            if cost < best[end]:
                best[end], origin[end] = cost, start
    cuts, end = [], count
    while end := origin[end]:
        cuts.append(end)
    return cuts[::-1], best[count]


def _deviations(logs: Sequence[float]) -> list[float]:
    """Of the first point, the first two and so on: how far all of them lie from their median."""
    ordered: list[float] = []
    cost, costs = 0.0, []
    for value in logs:
        if ordered:
            low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
            cost += max(low - value, value - high, 0.0)
        bisect.insort(ordered, value)
        costs.append(cost)
    return costs


def _line(logs: Sequence[float], noise: float) -> tuple[float, float]:
    """Theil and Sen's slope, and what the straight line leaves; it too costs a penalty."""
    pairs = itertools.combinations(enumerate(logs), 2)
    slope = statistics.median((later - earlier) / (j - i) for (i, earlier), (j, later) in pairs)
    rest = [value - slope * place for place, value in enumerate(logs)]
    middle = statistics.median(rest)
    return slope, sum(abs(value - middle) for value in rest) / noise + PENALTY


def _large_enough(values: Sequence[float], cuts: list[int]) -> tuple[LevelChange, ...]:
    """Those of 3 % and more, as in any verdict; the least is taken back first, since its segments become one."""
    while cuts:
        ends = [0, *cuts, len(values)]
        levels = [statistics.median(values[start:end]) for start, end in itertools.pairwise(ends)]
        changes = [LevelChange(cut, *pair) for cut, pair in zip(cuts, itertools.pairwise(levels), strict=True)]
        least = min(changes, key=lambda change: abs(math.log(change.ratio)))
        if abs(math.log(least.ratio)) > math.log1p(THRESHOLD_MIN):
            return tuple(changes)
        cuts = [cut for cut in cuts if cut != least.index]
    return ()
