"""What a page says first: a card per candidate, with its verdict in words and what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ttsbench.reports import metrics
from ttsbench.reports.decide.comparison import FIGURES
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.pages import report_plots
from ttsbench.reports.tables import verdicts, words
from ttsbench.reports.tables.table import signed
from ttsbench.reports.tables.verdicts import Compared

NO_DIFFERENCE, UNDECIDED = "no difference that counts", "undecided"


@dataclass(frozen=True)
class Card:
    """`headline` is the one thing to remember, `sentence` what each figure says."""

    candidate: str
    against: str
    point: str
    verdict: Verdict
    headline: str
    sentence: str
    memory: str
    quality: str
    fails: bool
    reasons: tuple[str, ...]


def card(one: Compared) -> Card:
    """Of one candidate."""
    return Card(
        candidate=one.match.candidate,
        against=words.other(one.match),
        point=one.match.point,
        verdict=one.found.verdict,
        headline=headline(one),
        sentence=words.figures(one.found),
        memory=_memory(one),
        quality=report_plots.quality([c for pair in one.match.pairing.pairs for c in pair.candidate if c.ok]),
        fails=bool(one.faults),
        reasons=tuple(verdicts.reasons(one)),
    )


def headline(one: Compared) -> str:
    """In few words, by the first figure that the verdict comes from; with a question mark where it stays open."""
    found, verdict = one.found.judgements.items(), one.found.verdict
    name, judgement = next((item for item in found if item[1].verdict is verdict), ("", None))
    if judgement is None and one.found.hungrier is not None:
        return words.hunger(one.found.hungrier)
    if judgement is None or not math.isfinite(judgement.ratio):
        return UNDECIDED
    ratio = judgement.ratio
    if verdict is Verdict.SAME:
        return NO_DIFFERENCE
    if name not in words.TIMES:
        figure = words.named(FIGURES[name])
        told = f"{abs(ratio - 1):.0%} {'more' if ratio > 1 else 'less'} {figure}"
    else:
        told = f"{1 / ratio:.2f}× as fast" if ratio <= 1 else f"{ratio:.2f}× as long"
    return told if verdict is not Verdict.INCONCLUSIVE else f"{told}?"


def _memory(one: Compared) -> str:
    """The peak on both sides."""
    for metric in (metrics.PEAK_MEMORY, metrics.FORWARD_PEAK):
        before, after = one.middles(metric)
        if before and after is not None:
            unit = metric.label.removeprefix("peak ")
            change = signed(after / before - 1, ".1%")
            return f"{metric.text(after)} {unit} at peak, {change} against {metric.text(before)}"
    return "not measured"
