"""A candidate compared with its baseline: counts first, then the verdict of every metric that gates.

Pure functions over records. `judge_recorded` judges what was recorded; `judge_series` a series that can still grow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide import decision, exact_counts
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.decide.exact_counts import CountChange, CountVerdict
from ttsbench.reports.decide.pairing import BASELINE, CANDIDATE, SIDES, Pair, Pairing, PairsNeeded, pairs_needed
from ttsbench.reports.decide.steadiness import SpeedTrends, speed_trends
from ttsbench.reports.metrics import Metric

NO_PAIRS_NEEDED = PairsNeeded(0)
Judgements = dict[str, Judgement]


@dataclass(frozen=True)
class Comparison:
    """What can be said of a candidate and its baseline. The ratios of its judgements are candidate ÷ baseline."""

    judgements: Judgements
    counts: tuple[CountChange, ...]
    pairing: Pairing
    speed_trends: Mapping[str, SpeedTrends]
    needed: PairsNeeded = NO_PAIRS_NEEDED

    @property
    def extra_memory(self) -> CountChange | None:
        """What a GPU's allocator counted, where the candidate takes more than may be; two processes have to agree."""
        allocated = next((change for change in self.counts if change.count is metrics.ALLOCATED), None)
        if allocated is None or allocated.verdict is not CountVerdict.MORE or len(self.pairing.valid) < 2:
            return None
        assert allocated.candidate is not None
        assert allocated.baseline is not None
        more_than = allocated.baseline * (1 + decision.THRESHOLD_MIN)
        return allocated if allocated.candidate > more_than else None

    @property
    def judgements_of_wholes(self) -> Judgements:
        """Without parts, which are judged only where they differ: that makes no trend."""
        return {name: j for name, j in self.judgements.items() if not metrics.BY_NAME[name].part_of}

    @property
    def slower(self) -> tuple[Metric, ...]:
        """What a second series has to confirm."""
        return tuple(metrics.BY_NAME[name] for name, j in self.judgements.items() if j.verdict is Verdict.SLOWER)

    @property
    def verdict(self) -> Verdict:
        """Of all together: one slower metric, or more memory, makes it slower; an undecided one leaves it undecided."""
        verdicts = {judgement.verdict for judgement in self.judgements.values()} or {Verdict.INCONCLUSIVE}
        if self.extra_memory is not None:
            return Verdict.SLOWER
        return next(v for v in (Verdict.SLOWER, Verdict.INCONCLUSIVE, Verdict.FASTER, Verdict.SAME) if v in verdicts)


def gating_metrics(cells: Sequence[Cell]) -> tuple[Metric, ...]:
    """What a verdict is about: the metrics that these cells have and that say something of their own here."""
    return tuple(metric for metric in _gating(cells) if not metric.part_of)


def part_metrics(cells: Sequence[Cell]) -> tuple[Metric, ...]:
    """What is looked at where the whole differs."""
    return tuple(metric for metric in _gating(cells) if metric.part_of)


def _gating(cells: Sequence[Cell]) -> list[Metric]:
    ran = [cell for cell in cells if cell.ok]
    gating = [metric for metric in metrics.that_gate() if metric.gates_for(ran)]
    return [metric for metric in gating if any(metric.read(cell) is not None for cell in ran)]


def judge_recorded(pairing: Pairing, *, floors: Mapping[str, float] | None = None) -> Comparison:
    """All pairs at one look: nobody looked before, and none can be added."""
    comparison = _compare(pairing, decision.look, floors or {})
    if pairing.unpaired or not pairing.valid or any(pair.candidate != pair.baseline for pair in pairing.valid):
        return comparison
    judgements = {
        name: judgement
        if any(pair.difference(metrics.BY_NAME[name]) != 0 for pair in pairing.valid)
        else _same_record(judgement)
        for name, judgement in comparison.judgements.items()
    }
    return replace(comparison, judgements=judgements)


def _same_record(judgement: Judgement) -> Judgement:
    """However few processes there are: nothing was measured twice, so there is nothing that chance could have done."""
    reason = "the same record on both sides"
    return replace(judgement, verdict=Verdict.SAME, ratio=1.0, low=1.0, high=1.0, mde=math.nan, reason=reason)


def judge_series(
    attempts: Sequence[Pair], *, floors: Mapping[str, float] | None = None, only: Sequence[Metric] = ()
) -> Comparison:
    """A series after so many attempts, look by look, and how many pairs it should run next; none once it is over.

    The metrics in `only` are decided to the end; otherwise one that is slower settles the verdict.
    """
    comparison = _compare(Pairing(tuple(attempts)), decision.decide, floors or {}, only)
    judgements = comparison.judgements
    decided = all(judgement.decided for judgement in judgements.values())
    if judgements and (decided or (comparison.slower and not only)):
        return comparison
    goal = next((look for look in decision.LOOKS if look > len(comparison.pairing.valid)), decision.PAIRS_MAX)
    needed = pairs_needed(attempts, goal)
    if needed.given_up:
        judgements = {name: j if j.decided else replace(j, reason=needed.given_up) for name, j in judgements.items()}
    return replace(comparison, judgements=judgements, needed=needed)


def confirmed(first: Comparison, second: Comparison) -> Comparison:
    """What remains after a second, fresh series: a metric is slower only where both series say so."""
    again = {name for name, judgement in second.judgements.items() if judgement.verdict is Verdict.SLOWER}
    judgements = {
        name: withheld(judgement, "slower in the first series, not in the second")
        if judgement.verdict is Verdict.SLOWER and name not in again
        else judgement
        for name, judgement in first.judgements.items()
    }
    return replace(first, judgements=judgements)


def _compare(
    pairing: Pairing, decide: decision.Decide, floors: Mapping[str, float], only: Sequence[Metric] = ()
) -> Comparison:
    ours, theirs = pairing.cells(CANDIDATE), pairing.cells(BASELINE)
    trends = {side: speed_trends(pairing.cells(side, metrics.RTF)) for side in SIDES}
    judge = functools.partial(_judge, pairing, decide, floors)
    judgements = judge(only or gating_metrics([*ours, *theirs]))
    if only:
        judgements |= _unless_whole_differs(judgements, judge([metrics.RTF])[metrics.RTF.name])
    elif (time := judgements.get(metrics.RTF.name)) is not None and time.verdict not in decision.DIFFERENT:
        judgements |= _explaining(judge(part_metrics([*ours, *theirs])), time)
    if reason := _objection(pairing, trends):
        judgements = {name: withheld(judgement, reason) for name, judgement in judgements.items()}
    judgements = {name: _as_ratio(metrics.BY_NAME[name], judgement) for name, judgement in judgements.items()}
    return Comparison(judgements, tuple(exact_counts.changes(ours, theirs)), pairing, trends)


def _judge(
    pairing: Pairing, decide: decision.Decide, floors: Mapping[str, float], judged: Sequence[Metric]
) -> Judgements:
    differences = {metric.name: [pair.difference(metric) for pair in pairing.valid] for metric in judged}
    return decide(differences, {name: decision.threshold(floors.get(name)) for name in differences})


def _as_ratio(metric: Metric, judgement: Judgement) -> Judgement:
    """Candidate ÷ baseline: where more is better, the ratio that was judged is the inverse."""
    if metric.better == metrics.LOWER:
        return judgement
    ratio, low, high = (1 / end if end else math.inf for end in (judgement.ratio, judgement.high, judgement.low))
    return replace(judgement, ratio=ratio, low=low, high=high)


def _explaining(parts: Judgements, whole: Judgement) -> Judgements:
    """Parts that differ in the direction of the whole, though it differs by less than counts, or not yet surely.

    Where the whole does not, another part has paid. A part that is undecided leaves nothing undecided.
    """
    direction = Verdict.SLOWER if whole.low > 1 else Verdict.FASTER if whole.high < 1 else None
    return {name: part for name, part in parts.items() if part.verdict is direction}


def _unless_whole_differs(judgements: Judgements, whole: Judgement) -> Judgements:
    """A part that differs stays inconclusive until the whole utterance differs."""
    parts = {
        name: judgement
        for name, judgement in judgements.items()
        if metrics.BY_NAME[name].part_of and judgement.verdict in decision.DIFFERENT
    }
    explaining, reason = _explaining(parts, whole), "the whole is not shown to differ in that direction"
    return {
        name: replace(part, verdict=Verdict.INCONCLUSIVE, reason=reason)
        for name, part in parts.items()
        if name not in explaining
    }


def withheld(judgement: Judgement, reason: str) -> Judgement:
    """Without a verdict, for a reason that more pairs would not mend."""
    return replace(judgement, verdict=Verdict.INCONCLUSIVE, mde=math.nan, reason=reason)


def _objection(pairing: Pairing, trends: Mapping[str, SpeedTrends]) -> str:
    """Why no verdict can be trusted here; the same whichever side is called the candidate."""
    if pairing.unpaired:
        return f"{len(pairing.unpaired)} processes of one side have no partner on the other"
    unsteady = [f"the {side} is not steady: {trend.unsteady}" for side, trend in trends.items() if trend.unsteady]
    return "; ".join([*unsteady, *pairing.pace_objections])
