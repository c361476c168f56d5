"""Whether a stack is as fast at its last pass as at its first: checked for each, never assumed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Cell
from ttsbench.reports.decide import decision
from ttsbench.reports.decide.decision import Judgement, Verdict

CALLS_MIN = 4


@dataclass(frozen=True)
class SpeedTrends:
    """The second half of a process's passes over its first, and the trend over all its calls, over the processes."""

    halves: Judgement
    trend: Judgement

    @property
    def unsteady(self) -> str:
        """How the speed is shown to change with use; empty where nothing is shown."""
        if self.halves.verdict in decision.DIFFERENT:
            return f"the second half of its passes takes {self.halves.ratio:.2f}× as long as the first"
        if self.trend.verdict in decision.DIFFERENT:
            return f"its last call takes {self.trend.ratio:.2f}× as long as its first"
        return ""

    @property
    def steady(self) -> bool:
        return self.halves.verdict is self.trend.verdict is Verdict.SAME


def speed_trends(cells: Sequence[Cell]) -> SpeedTrends:
    """One value for each process, judged as differences between stacks are: shown only if the processes agree."""
    calls = [_calls(cell) for cell in cells if cell.ok and cell.kind == "timed"]
    calls = [c for c in calls if len(c) >= CALLS_MIN] or calls  # some may have few at the pace of the other side
    return SpeedTrends(decision.judge([_halves(c) for c in calls]), decision.judge([_trend(c) for c in calls]))


def _calls(cell: Cell) -> list[float]:
    """ln of each timed call in its order; utterances against their own text's median, since texts differ in length."""
    if cell.forwards:
        return [math.log(f.wall_seconds) if f.wall_seconds > 0 else math.nan for f in cell.forwards]
    texts: dict[int, list[float]] = {}
    for utterance in cell.utterances:
        texts.setdefault(utterance.text_index, []).append(utterance.wall_seconds)
    usual = {text: statistics.median(seconds) for text, seconds in texts.items()}
    return [decision.log_ratio(u.wall_seconds, usual[u.text_index]) for u in cell.utterances]


def _halves(calls: Sequence[float]) -> float:
    """ln of the second half's median over the first's; the middle call of an odd number is in neither."""
    if len(calls) < CALLS_MIN:
        return math.nan
    half = len(calls) // 2
    return statistics.median(calls[-half:]) - statistics.median(calls[:half])


def _trend(calls: Sequence[float]) -> float:
    """From the first call to the last, along the line of medians of slopes: a few spikes do not turn it."""
    if len(calls) < CALLS_MIN:
        return math.nan
    numbers = range(len(calls))
    slopes = [(calls[j] - calls[i]) / (j - i) for i in numbers for j in numbers if i < j]
    return statistics.median(slopes) * (len(calls) - 1)
