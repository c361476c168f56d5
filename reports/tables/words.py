"""A decided comparison in words: what is faster or slower, by how much, and how sure that is."""

from __future__ import annotations

import math

from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.decide.exact_counts import CountChange
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import loads
from ttsbench.reports.tables.table import signed

# Of these, less is said to be faster; of the others, to be less.
TIMES = {metric.name for metric in (metrics.RTF, metrics.TTFA, metrics.FORWARD, *comparison.LOADED)}
VERBS = {
    Verdict.SLOWER: "is slower than",
    Verdict.FASTER: "is faster than",
    Verdict.SAME: "is the same as",
    Verdict.INCONCLUSIVE: "is undecided against",
}
NO_FIGURES = "there are no figures on both sides"
# From here on a factor says more than a percentage.
FACTOR_MIN = 1.995
WIDE = 4
FIGURE_WORDS = {
    metrics.FORWARD.name: "a forward",
    loads.BUSIEST.name: "time per second of audio under the most load",
    loads.LIGHTEST.name: "time to first audio under the least load",
    metrics.PEAK_MEMORY.name: "peak memory",
    metrics.ENERGY.name: "energy",
    metrics.DECODE.name: "time per token",
    metrics.S3GEN_RTF.name: "S3Gen's time per second of audio",
}


def sentence(match: Match, found: Comparison) -> str:
    """The verdict of all figures together, and what each of them says."""
    return f"{verdict(match, found)}: {figures(found)}"


def verdict(match: Match, found: Comparison) -> str:
    """Who, and how it stands."""
    at = f" ({match.point})" if match.point else ""
    return f"{match.candidate} {VERBS[found.verdict]} {other(match)}{at}"


def other(match: Match) -> str:
    """What it is compared with; a stack of the same name is that of another run."""
    return match.baseline if match.baseline != match.candidate else "before"


def figures(found: Comparison) -> str:
    """What each figure says."""
    said = [phrase(name, judgement) for name, judgement in found.judgements.items()] or [NO_FIGURES]
    return "; ".join([*said, *([hunger(found.hungrier)] if found.hungrier is not None else [])])


def hunger(change: CountChange) -> str:
    """A count needs no interval."""
    before, after = change.baseline or 0.0, change.candidate or 0.0
    text = change.count.text
    return f"allocated memory is {after / before - 1:.1%} more, {text(before)} → {text(after)} MiB"


def phrase(name: str, judgement: Judgement) -> str:
    """One figure: by how much it differs, between what limits, and why nothing is decided where nothing is."""
    figure = named(comparison.FIGURES[name])
    if not math.isfinite(judgement.ratio):
        return f"{figure} is undecided, {judgement.reason}"
    if judgement.verdict is Verdict.INCONCLUSIVE:
        return f"{figure} {_change(name, judgement)}, but undecided: {judgement.reason}"
    if judgement.verdict is Verdict.SAME:
        return f"{figure} is the same, {_signed(judgement)}"
    return f"{figure} {_change(name, judgement)}"


def named(metric: Metric) -> str:
    """A figure as it stands in a sentence."""
    return FIGURE_WORDS.get(metric.name, metric.label.removesuffix(" ms"))


def _change(name: str, judgement: Judgement) -> str:
    """From the baseline to the candidate, with the interval of 95 %."""
    ratio, low, high = judgement.ratio, judgement.low, judgement.high
    if name in TIMES and ratio <= 1 / FACTOR_MIN:
        return f"{1 / ratio:.2f}× as fast ({_times(1 / high)} to {_times(1 / low)})"
    if ratio >= FACTOR_MIN or high >= WIDE * low:
        return f"{ratio:.2f}× as much ({_times(low)} to {_times(high)})"
    more, sign = ("more", 1) if ratio >= 1 else ("less", -1)
    nearer, further = sorted(sign * (end - 1) for end in (low, high))
    return f"{_percent(sign * (ratio - 1))} {more} ({_percent(nearer)} to {_percent(further)})"


def _signed(judgement: Judgement) -> str:
    if judgement.low == judgement.high == 1:
        return "to the last digit"
    ratio, low, high = (signed(end - 1, ".1%") for end in (judgement.ratio, judgement.low, judgement.high))
    return f"{ratio} ({low} to {high}), less than the {judgement.threshold:.0%} that count"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}×" if math.isfinite(ratio) else "without limit"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("-", "−") if math.isfinite(share) else "without limit"
