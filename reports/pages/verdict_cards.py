"""What a page says first: a card per candidate, with its verdict in words and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ttsbench.reports import metrics
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.pairing import SIDES
from ttsbench.reports.pages import tradeoff_plot
from ttsbench.reports.tables import verdicts, words
from ttsbench.reports.tables.table import signed
from ttsbench.reports.tables.verdicts import CandidateReport


@dataclass(frozen=True)
class Card:
    """`headline` is the one thing to remember, `sentence` what each metric says."""

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


def card(candidate: CandidateReport) -> Card:
    match, comparison = candidate.match, candidate.comparison
    return Card(
        candidate=match.candidate,
        against=words.baseline(match),
        point=match.point,
        verdict=comparison.verdict,
        headline=words.headline(comparison),
        sentence=words.figures(comparison),
        memory=_memory(candidate),
        quality=tradeoff_plot.quality([c for pair in match.pairing.pairs for c in pair.candidate if c.ok]),
        fails=bool(candidate.faults),
        reasons=tuple(verdicts.reasons(candidate)),
    )


def _memory(candidate: CandidateReport) -> str:
    """The peak on both sides."""
    for metric in (metrics.PEAK_MEMORY, metrics.FORWARD_PEAK):
        after, before = (candidate.match.pairing.median(side, metric) for side in SIDES)
        if before and after is not None:
            change = signed(after / before - 1, ".1%")
            return f"{metric.text(after)} {metric.unit.shown} at peak, {change} against {metric.text(before)}"
    return "not measured"
