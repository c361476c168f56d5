"""One level of load from beginning to end: requests are taken up when they are due, until all that count are answered.

The load stays on until then, so that no counted request has the engine to itself because the others have ended.
Requests after the last one that counts are dropped at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from ttsbench.records import measurements
from ttsbench.records.jobs import LoadJob
from ttsbench.serving.calls import Arrivals, Call, Listeners, Source

CLOSED, OPEN = "closed", "open"
# While an engine works elsewhere, it tells when something was done; this is how long that is waited for at most.
WAIT_SECONDS = 0.05


class Engine(Protocol):
    """Answers requests. It stamps `started`, each piece and `finished` by `now`, from whichever thread."""

    @property
    def slots(self) -> int | None:
        """How many requests it works on at once at most; None where they queue for one."""

    @property
    def streams(self) -> bool:
        """Whether an answer comes in pieces."""

    def begin(self) -> None:
        """A new level: the clock starts at zero."""

    def now(self) -> float:
        """Seconds of the level."""

    def submit(self, call: Call) -> None:
        """The request waits inside until its turn comes."""

    def work(self) -> bool:
        """Does some of what there is to do; False where there is nothing to do here."""

    def wait(self, seconds: float) -> None:
        """Until something was done elsewhere, but no longer."""

    def answered(self) -> list[Call]:
        """Those that were answered in full since the last call."""

    def abandon(self) -> None:
        """Drops whatever waits or is under way."""


# Says what a request asks for.
Prepare = Callable[[Call], None]


class CountedCalls:
    """The requests that count: after a warm-up so many, or those of so many seconds."""

    def __init__(self, load: LoadJob, listeners: int) -> None:
        self._load = load
        requests, seconds = load.requests or 0, load.duration_seconds or 0.0
        self._first = max(listeners, math.ceil(load.warmup * requests))
        self._all_there = load.ramp_seconds if listeners else 0.0
        self._requests_since = 0
        self._began = self._all_there + load.warmup * seconds
        self._ends = self._began + seconds
        self._counted: list[Call] = []

    def note(self, call: Call) -> None:
        """Decides, once and beforehand."""
        if self._load.requests is not None:
            call.counted = self._first <= self._requests_since < self._first + self._load.requests
            self._requests_since += call.scheduled >= self._all_there
        else:
            call.counted = self._began <= call.scheduled < self._ends
        if call.counted:
            self._counted.append(call)

    def over(self, now: float) -> bool:
        """Whether all of them are answered, or out of patience."""
        complete = len(self._counted) == self._load.requests if self._load.requests is not None else now >= self._ends
        if not complete:
            return False
        last = max((call.scheduled for call in self._counted), default=0.0)
        return all(call.finished is not None for call in self._counted) or now > last + self._load.patience_seconds


def level(engine: Engine, load: LoadJob, kind: str, size: float, seed: int, prepare: Prepare) -> measurements.Level:
    if kind == CLOSED and engine.slots is not None and size > engine.slots:
        reason = f"{size:g} listeners need as many slots for keys and values, and memory holds {engine.slots}"
        return measurements.Level(kind, size, reason=reason)
    closed = kind == CLOSED
    source: Source = Listeners(round(size), load.next_request, load.ramp_seconds) if closed else Arrivals(size, seed)
    counting = CountedCalls(load, round(size) if closed else 0)
    calls = run(engine, source, counting, prepare)
    ended = engine.now()
    engine.abandon()
    return measurements.Level(kind, size, tuple(call.record() for call in calls), ended)


def run(engine: Engine, source: Source, counting: CountedCalls, prepare: Prepare) -> list[Call]:
    """All requests that were made, counted or not."""
    calls: list[Call] = []
    engine.begin()
    while not counting.over(engine.now()):
        for call in source.due(engine.now()):
            counting.note(call)
            prepare(call)
            calls.append(call)
            engine.submit(call)
        worked = engine.work()
        for call in engine.answered():
            source.answered(call)
        if not worked:
            next_at = source.next_at()
            until_next = WAIT_SECONDS if next_at is None else next_at - engine.now()
            if until_next > 0:
                engine.wait(min(WAIT_SECONDS, until_next))
    return calls
