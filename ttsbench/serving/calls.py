"""Requests: from listeners who ask again when they have been answered, or at moments drawn beforehand.

The moment of a request is fixed before it is taken up: by the answer before it, or by the draw. So every wait is
counted. A client that waited along with a slow server would ask less, and no percentile would show it. No torch and no
clock here.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ttsbench.records import measurements, playback
from ttsbench.records.jobs import PLAYED


@dataclass(eq=False)
class Call:
    """One request while it is answered. Seconds are those of the level's clock."""

    number: int
    scheduled: float
    listener: int = 0
    text_index: int = 0
    seed: int = 0
    counted: bool = False
    started: float | None = None
    finished: float | None = None
    pieces: list[playback.Piece] = field(default_factory=list)
    tokens: int = 0
    tokens_sha256: str = ""

    def hold(self, arrived: float, audio_seconds: float) -> None:
        """A piece is in the listener's hands."""
        self.pieces.append((arrived, audio_seconds))

    def record(self) -> measurements.Request:
        return measurements.Request(
            number=self.number,
            text_index=self.text_index,
            seed=self.seed,
            counted=self.counted,
            scheduled_seconds=self.scheduled,
            started_seconds=self.started,
            finished_seconds=self.finished,
            arrived_seconds=tuple(arrived for arrived, _ in self.pieces),
            audio_seconds=tuple(seconds for _, seconds in self.pieces),
            tokens=self.tokens,
            tokens_sha256=self.tokens_sha256,
        )


class Source(Protocol):
    """Where requests come from."""

    def due(self, now: float) -> Iterator[Call]:
        """The requests that are due by now, each with the moment that it was meant for."""

    def next_at(self) -> float | None:
        """When the next request comes, as far as that is known."""

    def answered(self, call: Call) -> None:
        """The listener holds all of it."""


class Listeners:
    """Each listener has one request at a time: the next one is due when the last was delivered, or played."""

    def __init__(self, listeners: int, next_request: str, ramp_seconds: float = 0.0) -> None:
        self._next_request = next_request
        self._waiting = [(ramp_seconds * listener / listeners, listener) for listener in range(listeners)]
        self._requests = 0

    def due(self, now: float) -> Iterator[Call]:
        while self._waiting and self._waiting[0][0] <= now:
            ready, listener = heapq.heappop(self._waiting)
            yield Call(self._requests, ready, listener)
            self._requests += 1

    def next_at(self) -> float | None:
        return self._waiting[0][0] if self._waiting else None

    def answered(self, call: Call) -> None:
        assert call.finished is not None
        ready, begins = call.finished, playback.begins(call.pieces)
        if self._next_request == PLAYED and begins is not None:
            ready = max(ready, playback.play(call.pieces, begins).ends)
        heapq.heappush(self._waiting, (ready, call.listener))


class Arrivals:
    """A Poisson process: gaps drawn from a seed, however long answers take."""

    def __init__(self, rate: float, seed: int) -> None:
        self._gaps = random.Random(f"{seed}/arrivals")
        self._rate = rate
        self._requests = 0
        self._next = self._gaps.expovariate(rate)

    def due(self, now: float) -> Iterator[Call]:
        while self._next <= now:
            yield Call(self._requests, self._next)
            self._requests += 1
            self._next += self._gaps.expovariate(self._rate)

    def next_at(self) -> float | None:
        return self._next

    def answered(self, call: Call) -> None:
        """The next request does not depend on it."""
