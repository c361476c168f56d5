"""Slower, faster, same or inconclusive: the one place where a difference is decided. Pure: numbers in, verdicts out.

The unit is a pair of processes of one series, and what is judged the mean of d = ln(candidate ÷ baseline) over pairs.
docs/statistics.md explains the rule, and `ttsbench selftest` shows how often it errs.
"""

from __future__ import annotations

import functools
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

LOOKS = (5, 7, 9, 11, 13, 15)
PAIRS_MIN, PAIRS_MAX = LOOKS[0], LOOKS[-1]
LEVEL = 0.975
THRESHOLD_MIN = 0.03
POWER = 0.8
# What is left of a constant ratio after its logarithms were rounded.
ROUNDING = 1e-12
MAX_POWER = math.log(sys.float_info.max)


class Verdict(StrEnum):
    """What can be said of a difference; only the last one says nothing."""

    SLOWER = "slower"
    FASTER = "faster"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"


DIFFERENT = (Verdict.SLOWER, Verdict.FASTER)


@dataclass(frozen=True)
class Judgement:
    """One figure's verdict: candidate over baseline with its interval, and what could have been seen at all.

    Ratios above 1 mean that the candidate takes more. `mde` is the least slowdown that so many pairs, as far apart as
    these, would have shown four times out of five.
    """

    verdict: Verdict
    pairs: int
    threshold: float
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    mde: float = math.nan
    reason: str = ""

    @property
    def decided(self) -> bool:
        """Whether more pairs are of no use."""
        return self.verdict is not Verdict.INCONCLUSIVE


# What `look` and `decide` have in common: differences and thresholds by figure.
Decide = Callable[[Mapping[str, Sequence[float]], Mapping[str, float]], dict[str, Judgement]]


def threshold(floor: float | None = None) -> float:
    """The least difference that counts: 3 %, or the A/A floor where that is larger."""
    if floor is None:
        return THRESHOLD_MIN
    if not math.isfinite(floor) or floor < 0:
        raise ValueError(f"a floor is a share of the figure, zero or more, not {floor!r}")
    return max(THRESHOLD_MIN, floor)


def log_ratio(candidate: float | None, baseline: float | None) -> float:
    """d of one pair; not a number where either figure is missing or has no logarithm."""
    if candidate is None or baseline is None or not (0 < candidate < math.inf and 0 < baseline < math.inf):
        return math.nan
    return math.log(candidate) - math.log(baseline)


def decide(
    differences: Mapping[str, Sequence[float]], thresholds: Mapping[str, float] | None = None
) -> dict[str, Judgement]:
    """Each figure's verdict at the first look that brought one, and otherwise at the last look there are pairs for.

    The looks are at 5, 7, … 15 pairs in their order; what was seen after a verdict does not take it back.
    """
    settled: dict[str, Judgement] = {}
    last: dict[str, Judgement] = {}
    for pairs in looks(max(map(len, differences.values()), default=0)):
        last = look({name: values[:pairs] for name, values in differences.items()}, thresholds)
        settled |= {name: j for name, j in last.items() if j.decided and name not in settled}
    return last | settled


def looks(pairs: int) -> list[int]:
    """How many pairs there are at each look, of so many in all; one look that is too early, where there are too few."""
    return [count for count in LOOKS if count <= pairs] or [pairs]


def look(
    differences: Mapping[str, Sequence[float]], thresholds: Mapping[str, float] | None = None
) -> dict[str, Judgement]:
    """All figures at one look, over all pairs given. Of several, slower and faster stand up to Holm's correction."""
    limits = thresholds or {}
    singly = {name: judge(values, limits.get(name, THRESHOLD_MIN)) for name, values in differences.items()}
    chances = {name: _chance(differences[name], judgement) for name, judgement in singly.items()}
    holding = _holm(chances)
    return {
        name: _not_by_holm(judgement) if judgement.verdict in DIFFERENT and name not in holding else judgement
        for name, judgement in singly.items()
    }


def judge(differences: Sequence[float], limit: float = THRESHOLD_MIN) -> Judgement:
    """One figure by itself: a t-interval of the mean at one-sided 97.5 % against ±limit."""
    pairs = len(differences)
    undecided = Judgement(Verdict.INCONCLUSIVE, pairs, limit)
    if missing := sum(not math.isfinite(d) for d in differences):
        return replace(undecided, reason=f"{missing} of {pairs} pairs have no figure")
    too_few = f"{pairs} of {PAIRS_MIN} pairs: too few to decide"
    if pairs < 2:
        return replace(undecided, reason=too_few)
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    allowed, half = math.log1p(limit), quantile(LEVEL, pairs - 1) * spread / math.sqrt(pairs)
    judgement = replace(
        undecided,
        ratio=_exp(mean),
        low=_exp(mean - half),
        high=_exp(mean + half),
        mde=smallest(limit, spread, pairs),
    )
    if pairs < PAIRS_MIN:
        return replace(judgement, reason=too_few)
    if spread <= ROUNDING and any(differences):
        return replace(judgement, reason="all pairs differ by exactly the same amount: this is no measurement")
    verdict = _verdict(mean - half, mean + half, allowed)
    crosses = "" if verdict is not Verdict.INCONCLUSIVE else "the interval crosses a limit"
    return replace(judgement, verdict=verdict, reason=crosses)


def smallest(limit: float, spread: float, pairs: int) -> float:
    """The least slowdown that so many pairs, so far apart, show four times out of five: the MDE."""
    quantiles = quantile(LEVEL, pairs - 1) + quantile(POWER, pairs - 1)
    return _exp(math.log1p(limit) + quantiles * spread / math.sqrt(pairs)) - 1


def pairs_for_same(limit: float, spread: float) -> int | None:
    """The first look that calls the same code the same four times out of five; None if no look does."""
    for pairs in LOOKS:
        # To either side a tenth is left over.
        quantiles = quantile(LEVEL, pairs - 1) + quantile((1 + POWER) / 2, pairs - 1)
        if quantiles * spread / math.sqrt(pairs) <= math.log1p(limit):
            return pairs
    return None


def _exp(power: float) -> float:
    """Infinite where a float has no room."""
    return math.exp(power) if power < MAX_POWER else math.inf


def _verdict(low: float, high: float, allowed: float) -> Verdict:
    if low > allowed:
        return Verdict.SLOWER
    if high < -allowed:
        return Verdict.FASTER
    return Verdict.SAME if -allowed < low and high < allowed else Verdict.INCONCLUSIVE


@functools.lru_cache(maxsize=256)
def quantile(level: float, degrees: int) -> float:
    """Of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))


def _chance(differences: Sequence[float], judgement: Judgement) -> float:
    """How likely so large a mean would be, were the truth just at the limit; the smaller of both directions."""
    from scipy.special import stdtr

    if judgement.verdict not in DIFFERENT:
        return 1.0
    error = statistics.stdev(differences) / math.sqrt(judgement.pairs)
    beyond = abs(statistics.fmean(differences)) - math.log1p(judgement.threshold)
    return float(stdtr(judgement.pairs - 1, -beyond / error))


def _holm(chances: Mapping[str, float]) -> set[str]:
    """Whose chance is small enough: the smallest against 2.5 % ÷ m, the next against 2.5 % ÷ (m - 1), and so on."""
    holding: set[str] = set()
    for rank, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        if chances[name] > (1 - LEVEL) / (len(chances) - rank):
            break
        holding.add(name)
    return holding


def _not_by_holm(judgement: Judgement) -> Judgement:
    return replace(
        judgement,
        verdict=Verdict.INCONCLUSIVE,
        reason=f"{judgement.verdict} by itself, but not among so many figures (Holm's correction)",
    )
