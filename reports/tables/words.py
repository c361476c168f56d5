"""A decided comparison in words: what is faster or slower, by how much, and how sure that is."""

from __future__ import annotations

import math

from ttsbench.reports import metrics
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.decide.exact_counts import CountChange
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.table import signed

VERBS = {
    Verdict.SLOWER: "is slower than",
    Verdict.FASTER: "is faster than",
    Verdict.SAME: "is the same as",
    Verdict.INCONCLUSIVE: "is undecided against",
}
NO_FIGURES = "no figure exists on both sides"
NO_DIFFERENCE, UNDECIDED = "no difference that counts", "undecided"
# From here on a factor says more than a percentage.
FACTOR_MIN = 1.995
WIDE = 4


def sentence(match: Match, comparison: Comparison) -> str:
    """The verdict of all metrics together, and what each of them says."""
    at = f" ({match.point})" if match.point else ""
    return f"{match.candidate} {VERBS[comparison.verdict]} {baseline(match)}{at}: {figures(comparison)}"


def baseline(match: Match) -> str:
    """A stack of the same name is that of another run."""
    return match.baseline if match.baseline != match.candidate else "before"


def figures(comparison: Comparison) -> str:
    """What each metric says."""
    phrases = [phrase(metrics.BY_NAME[name], judgement) for name, judgement in comparison.judgements.items()]
    extra = [] if comparison.extra_memory is None else [extra_memory(comparison.extra_memory)]
    return "; ".join([*(phrases or [NO_FIGURES]), *extra])


def extra_memory(change: CountChange) -> str:
    """A count needs no interval."""
    before, after = change.baseline or 0.0, change.candidate or 0.0
    text = change.count.text
    return f"allocated memory is {after / before - 1:.1%} more, {text(before)} → {text(after)} MiB"


def phrase(metric: Metric, judgement: Judgement) -> str:
    """One metric: by how much it differs, between which limits, and why nothing is decided where nothing is."""
    if not math.isfinite(judgement.ratio):
        return f"{metric.phrase} is undecided, {judgement.reason}"
    if judgement.verdict is Verdict.SAME:
        return f"{metric.phrase} is the same, {_negligible(judgement)}"
    undecided = f", but undecided: {judgement.reason}" if judgement.verdict is Verdict.INCONCLUSIVE else ""
    return f"{metric.phrase} {_change(metric, judgement)}{undecided}"


def explanation(metric: Metric, judgement: Judgement) -> str:
    """What stands behind a verdict: by how much it differs, or what is missing."""
    difference = ""
    if math.isfinite(judgement.ratio):
        difference = _negligible(judgement) if judgement.verdict is Verdict.SAME else _change(metric, judgement)
    return "; ".join(part for part in (difference, "" if judgement.decided else judgement.reason) if part)


def headline(comparison: Comparison) -> str:
    """In few words, by the first metric that the verdict comes from; with a question mark where it is undecided."""
    verdict = comparison.verdict
    name, judgement = next((item for item in comparison.judgements.items() if item[1].verdict is verdict), ("", None))
    if judgement is None and comparison.extra_memory is not None:
        return extra_memory(comparison.extra_memory)
    if judgement is None or not math.isfinite(judgement.ratio):
        return UNDECIDED
    if verdict is Verdict.SAME:
        return NO_DIFFERENCE
    metric, ratio = metrics.BY_NAME[name], judgement.ratio
    if metric.is_speed:
        difference = f"{1 / ratio:.2f}× as fast" if ratio <= 1 else f"{ratio:.2f}× as long"
    else:
        difference = f"{abs(ratio - 1):.0%} {_direction(ratio)} {metric.phrase}"
    return f"{difference}?" if verdict is Verdict.INCONCLUSIVE else difference


def _change(metric: Metric, judgement: Judgement) -> str:
    """From the baseline to the candidate, with the interval of 95 %."""
    ratio, low, high = judgement.ratio, judgement.low, judgement.high
    if metric.is_speed and ratio <= 1 / FACTOR_MIN:
        return f"{1 / ratio:.2f}× as fast ({_times(1 / high)} to {_times(1 / low)})"
    if ratio >= FACTOR_MIN or high >= WIDE * low:
        return f"{ratio:.2f}× as much ({_times(low)} to {_times(high)})"
    sign = 1 if ratio >= 1 else -1
    nearer, further = sorted(sign * (end - 1) for end in (low, high))
    return f"{_percent(sign * (ratio - 1))} {_direction(ratio)} ({_percent(nearer)} to {_percent(further)})"


def _direction(ratio: float) -> str:
    return "more" if ratio >= 1 else "less"


def _negligible(judgement: Judgement) -> str:
    if judgement.low == judgement.high == 1:
        return "to the last digit"
    ratio, low, high = (signed(end - 1, ".1%") for end in (judgement.ratio, judgement.low, judgement.high))
    return f"{ratio} ({low} to {high}), less than the {judgement.threshold:.0%} that count"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if math.isfinite(ratio) else "without limit"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-", "−") if math.isfinite(share) else "without limit"
