"""What listeners got under load, level by level: latencies from the moment that a request was due, and goodput."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ttsbench.records import playback
from ttsbench.records.measurements import Level, LoadResult, Request
from ttsbench.records.runs import Cell

# Of fewer, a percentile is hardly more than the largest.
P95_CALLS_MIN, P99_CALLS_MIN = 20, 100


@dataclass(frozen=True)
class LevelFigures:
    """One level in one process, over the requests that count. What was never answered is later than everything."""

    load: LoadResult
    level: Level

    @property
    def calls(self) -> list[Request]:
        return [call for call in self.level.calls if call.counted]

    def over_calls(self, of: Callable[[Request], float], share: float) -> float | None:
        """The percentile by nearest rank, so that it is one that a listener saw."""
        values = sorted(of(call) for call in self.calls)
        needed = P99_CALLS_MIN if share > 0.95 else P95_CALLS_MIN if share > 0.5 else 1
        return values[math.ceil(share * len(values)) - 1] if len(values) >= needed else None

    def met(self, call: Request) -> bool:
        return ttfa(call) <= self.load.ttfa_seconds and underrun(call) <= self.load.underrun_seconds

    @property
    def goodput(self) -> float | None:
        return sum(map(self.met, self.calls)) / len(self.calls) if self.calls else None

    @property
    def stalled(self) -> float | None:
        """The share of answers with a silence."""
        answered = [call for call in self.calls if call.finished_seconds is not None]
        return sum(underrun(call) > 0 for call in answered) / len(answered) if answered else None

    @property
    def throughput(self) -> float | None:
        """Seconds of sound that reached anybody, a second, while requests that count were under way."""
        if not self.calls:
            return None
        first = min(call.scheduled_seconds for call in self.calls)
        last = max(self.level.ended_seconds if c.finished_seconds is None else c.finished_seconds for c in self.calls)
        heard = sum(s for call in self.level.calls for at, s in call.pieces if first < at <= last)
        return heard / (last - first) if last > first else None


def ttfa(call: Request) -> float:
    """From when it was due to the first 80 ms."""
    begins = playback.begins(call.pieces) if call.finished_seconds is not None else None
    return math.inf if begins is None else begins - call.scheduled_seconds


def rtf(call: Request) -> float:
    """From when it was due to the end, over the seconds of sound."""
    seconds = sum(call.audio_seconds)
    return (
        math.inf
        if call.finished_seconds is None or not seconds
        else (call.finished_seconds - call.scheduled_seconds) / seconds
    )


def underrun(call: Request) -> float:
    """Silence while the next piece was not there."""
    begins = playback.begins(call.pieces)
    if call.finished_seconds is None or begins is None:
        return math.inf
    return playback.play(call.pieces, begins).underrun_seconds


def most_throughput(load: LoadResult) -> float | None:
    """At whichever level."""
    throughputs = (LevelFigures(load, level).throughput for level in load.levels)
    return max((value for value in throughputs if value is not None), default=None)


def seconds_per_audio_second(cell: Cell) -> float | None:
    most = most_throughput(cell.load) if cell.load else None
    return 1 / most if most else None


def lightest_ttfa(cell: Cell) -> float | None:
    return LevelFigures(cell.load, cell.load.levels[0]).over_calls(ttfa, 0.5) if cell.load else None
