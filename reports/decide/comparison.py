"""One stack beside another: counts first, then every gating figure's verdict, and what stands in the way of one.

Pure functions over records. `whole` judges what lies there; `so_far` judges a series that can still grow.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide import decision, exact_counts
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.decide.exact_counts import Change, CountChange
from ttsbench.reports.decide.paces import PACE_SPREAD_MAX
from ttsbench.reports.decide.pairing import Pair, Pairing, Wanted, wanted
from ttsbench.reports.decide.steadiness import Steadiness, steadiness
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import loads

LOADED = (loads.BUSIEST, loads.LIGHTEST)
GATING = (metrics.RTF, metrics.TTFA, metrics.FORWARD, *LOADED, metrics.PEAK_MEMORY, metrics.ENERGY)
# What most of the whole time goes to. The device makes each step alike: between processes of one stack on an H200 the
# time per token differs by 0.1 %, where the whole, which waits for the host too, differs by 1 to 3.
PARTS = (metrics.DECODE, metrics.S3GEN_RTF)
FIGURES = {metric.name: metric for metric in (*GATING, *PARTS)}
NOTHING_WANTED = Wanted(0)
Judgements = dict[str, Judgement]


@dataclass(frozen=True)
class Comparison:
    """What can be said of a candidate beside its baseline."""

    judgements: Judgements
    counts: tuple[CountChange, ...]
    pairing: Pairing
    steadiness: Mapping[str, Steadiness]
    wanted: Wanted = NOTHING_WANTED

    @property
    def hungrier(self) -> CountChange | None:
        """What a GPU's allocator counted, where the candidate takes more than may be; two processes had to agree."""
        allocated = next((change for change in self.counts if change.count is exact_counts.ALLOCATED), None)
        if allocated is None or allocated.change is not Change.MORE or len(self.pairing.valid) < 2:
            return None
        assert allocated.candidate is not None
        assert allocated.baseline is not None
        more_than = allocated.baseline * (1 + decision.THRESHOLD_MIN)
        return allocated if allocated.candidate > more_than else None

    @property
    def always_told(self) -> Judgements:
        """Without parts, which are told of only where they differ: that makes no trend."""
        return {name: judgement for name, judgement in self.judgements.items() if FIGURES[name] not in PARTS}

    @property
    def slower(self) -> tuple[Metric, ...]:
        """What a second series has to say again."""
        found = self.judgements.items()
        return tuple(FIGURES[name] for name, judgement in found if judgement.verdict is Verdict.SLOWER)

    @property
    def verdict(self) -> Verdict:
        """Of all together: a figure that is slower, or more memory, makes it slower; an open one leaves it open."""
        found = {judgement.verdict for judgement in self.judgements.values()} or {Verdict.INCONCLUSIVE}
        if self.hungrier is not None:
            return Verdict.SLOWER
        return next(v for v in (Verdict.SLOWER, Verdict.INCONCLUSIVE, Verdict.FASTER, Verdict.SAME) if v in found)


def gating(cells: Iterable[Cell]) -> tuple[Metric, ...]:
    """The figures that a verdict is about: those that are there, and say something of their own.

    Where nothing streams, TTFA is the whole time again. A GPU's allocator is counted to the byte, not estimated.
    """
    running = [cell for cell in cells if cell.ok]
    said_already = {
        metrics.TTFA: not any(cell.streams for cell in running),
        metrics.PEAK_MEMORY: any(c.memory is not None and c.memory.allocated_peak_bytes is not None for c in running),
    }
    return tuple(
        metric
        for metric in GATING
        if not said_already.get(metric) and any(metric.of(cell) is not None for cell in running)
    )


def parts(cells: Iterable[Cell]) -> tuple[Metric, ...]:
    """Those of the whole that are there; in streams both parts go on at once, and each waits for the other."""
    running = [cell for cell in cells if cell.ok]
    if any(cell.streams for cell in running):
        return ()
    return tuple(metric for metric in PARTS if any(metric.of(cell) is not None for cell in running))


def whole(pairing: Pairing, *, floors: Mapping[str, float] | None = None) -> Comparison:
    """All pairs at one look: nobody looked before, and none can be added."""
    found = _compared(pairing, decision.look, floors or {})
    if pairing.unpaired or not pairing.valid or any(pair.candidate != pair.baseline for pair in pairing.valid):
        return found
    differing = {m.name for m in GATING if any(pair.difference(m) != 0 for pair in pairing.valid)}
    judgements = {name: j if name in differing else _itself(j) for name, j in found.judgements.items()}
    return replace(found, judgements=judgements)


def _itself(judgement: Judgement) -> Judgement:
    """However few processes there are: nothing was measured twice, so there is nothing that chance could have done."""
    told = "the same record on both sides"
    return replace(judgement, verdict=Verdict.SAME, ratio=1.0, low=1.0, high=1.0, mde=math.nan, reason=told)


def so_far(
    attempts: Sequence[Pair], *, floors: Mapping[str, float] | None = None, only: Sequence[Metric] = ()
) -> Comparison:
    """A series after so many attempts, look by look, and how many pairs it should run next; none once it is over.

    What it is asked about is decided to the end; otherwise one figure that is slower settles the verdict.
    """
    found = _compared(Pairing(tuple(attempts)), decision.decide, floors or {}, only)
    judgements = found.judgements
    if judgements and (_all_decided(judgements) or (found.slower and not only)):
        return found
    goal = next((look for look in decision.LOOKS if look > len(found.pairing.valid)), decision.PAIRS_MAX)
    more = wanted(attempts, goal)
    if more.given_up:
        judgements = {name: j if j.decided else replace(j, reason=more.given_up) for name, j in judgements.items()}
    return replace(found, judgements=judgements, wanted=more)


def _all_decided(judgements: Judgements) -> bool:
    return all(judgement.decided for judgement in judgements.values())


def repeated(first: Comparison, second: Comparison) -> Comparison:
    """What stands after a second, fresh series: a figure is slower only where both say so."""
    confirmed = {name for name, judgement in second.judgements.items() if judgement.verdict is Verdict.SLOWER}
    judgements = {
        name: withheld(judgement, "slower in the first series, not in the second")
        if judgement.verdict is Verdict.SLOWER and name not in confirmed
        else judgement
        for name, judgement in first.judgements.items()
    }
    return replace(first, judgements=judgements)


def _compared(
    pairing: Pairing, decide: decision.Decide, floors: Mapping[str, float], only: Sequence[Metric] = ()
) -> Comparison:
    ours = [cell for pair in pairing.valid for cell in pair.candidate]
    theirs = [cell for pair in pairing.valid for cell in pair.baseline]
    steady = {
        "candidate": steadiness([cell for pair in pairing.at_one_pace for cell in pair.candidate]),
        "baseline": steadiness([cell for pair in pairing.at_one_pace for cell in pair.baseline]),
    }
    judge = functools.partial(_judged, pairing, decide, floors)
    judgements = judge(only or gating([*ours, *theirs]))
    if only:
        judgements |= _unless_paid_for(judgements, judge([metrics.RTF])[metrics.RTF.name])
    elif (time := judgements.get(metrics.RTF.name)) is not None and time.verdict not in decision.DIFFERENT:
        judgements |= _telling(judge(parts([*ours, *theirs])), time)
    if reason := _objection(pairing, steady):
        judgements = {name: withheld(judgement, reason) for name, judgement in judgements.items()}
    return Comparison(judgements, tuple(exact_counts.changes(ours, theirs)), pairing, steady)


def _judged(
    pairing: Pairing, decide: decision.Decide, floors: Mapping[str, float], figures: Sequence[Metric]
) -> Judgements:
    differences = {metric.name: [pair.difference(metric) for pair in pairing.valid] for metric in figures}
    return decide(differences, {name: decision.threshold(floors.get(name)) for name in differences})


def _telling(found: Judgements, whole: Judgement) -> Judgements:
    """Parts that differ where the whole does too, though by less than counts, or not yet surely by so much.

    Where the whole does not, another part has paid. A part that is open leaves nothing open.
    """
    direction = Verdict.SLOWER if whole.low > 1 else Verdict.FASTER if whole.high < 1 else None
    return {name: part for name, part in found.items() if part.verdict is direction}


def _unless_paid_for(asked: Judgements, whole: Judgement) -> Judgements:
    """Parts that were asked about and differ: open, as long as the whole does not differ too."""
    found = {name: j for name, j in asked.items() if FIGURES[name] in PARTS and j.verdict in decision.DIFFERENT}
    telling, told = _telling(found, whole), "the whole is not shown to differ in that direction"
    return {
        name: replace(part, verdict=Verdict.INCONCLUSIVE, reason=told)
        for name, part in found.items()
        if name not in telling
    }


def withheld(judgement: Judgement, reason: str) -> Judgement:
    """Without a verdict, for a reason that more pairs would not mend."""
    return replace(judgement, verdict=Verdict.INCONCLUSIVE, mde=math.nan, reason=reason)


def _objection(pairing: Pairing, steady: Mapping[str, Steadiness]) -> str:
    """Why no verdict can be trusted here; the same whichever side is called the candidate."""
    if pairing.unpaired:
        return f"{len(pairing.unpaired)} processes of one side have none beside them on the other"
    told = [f"the {side} is not steady: {found.unsteady}" for side, found in steady.items() if found.unsteady]
    return "; ".join([*told, *_slowed_down(pairing)])


def _slowed_down(pairing: Pairing) -> Iterator[str]:
    """A side that the device is slower for, time and again: then it may be what that side does to the device."""
    left_out, _ = pairing.left_out
    if left_out:
        found = decision.judge([pair.pace_difference for pair in pairing.valid], PACE_SPREAD_MAX)
        if found.verdict in decision.DIFFERENT:
            side = "candidate" if found.verdict is Verdict.SLOWER else "baseline"
            yield f"the device itself was slower for the {side}, {max(found.ratio, 1 / found.ratio):.2f}× on average"
