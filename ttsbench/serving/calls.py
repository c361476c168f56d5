"""Requests as they are made: by listeners who ask again when they have been answered, or at moments drawn beforehand.

The moment that a request is due is fixed before anybody takes it up: by the answer before it, or by the draw. A server
that stalls makes all of them wait, and every wait is counted; a client that stalled with it would not ask, and no
percentile would know. No torch and no clock here.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ttsbench.records import measurements, playback

DELIVERED, PLAYED = AGAIN = ("delivered", "played")


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

    def record(self) -> measurements.Call:
        """What stays of it."""
        return measurements.Call(
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
    """Who asks."""

    def due(self, now: float) -> Iterator[Call]:
        """The requests whose moment has come, each with the moment that it was meant for."""

    def next_at(self) -> float | None:
        """When somebody will ask next, as far as that is known."""

    def answered(self, call: Call) -> None:
        """All of it is in the listener's hands."""


class Listeners:
    """So many, each with one request at a time: the next one is due when the last was delivered, or played."""

    def __init__(self, listeners: int, again: str, ramp_seconds: float = 0.0) -> None:
        self._again = again
        self._waiting = [(ramp_seconds * listener / listeners, listener) for listener in range(listeners)]
        self._asked = 0

    def due(self, now: float) -> Iterator[Call]:
        """Who is ready to ask."""
        while self._waiting and self._waiting[0][0] <= now:
            ready, listener = heapq.heappop(self._waiting)
            yield Call(self._asked, ready, listener)
            self._asked += 1

    def next_at(self) -> float | None:
        """The first who is listening still."""
        return self._waiting[0][0] if self._waiting else None

    def answered(self, call: Call) -> None:
        """It may ask again, at once or when it has heard all."""
        assert call.finished is not None
        ready, begins = call.finished, playback.begins(call.pieces)
        if self._again == PLAYED and begins is not None:
            ready = max(ready, playback.play(call.pieces, begins).ends)
        heapq.heappush(self._waiting, (ready, call.listener))


class Arrivals:
    """A Poisson process: gaps drawn from a seed, whatever becomes of the requests before."""

    def __init__(self, rate: float, seed: int) -> None:
        self._gaps = random.Random(f"{seed}/arrivals")
        self._rate = rate
        self._asked = 0
        self._next = self._gaps.expovariate(rate)

    def due(self, now: float) -> Iterator[Call]:
        """All whose moment has passed, with the moment that was drawn."""
        while self._next <= now:
            yield Call(self._asked, self._next)
            self._asked += 1
            self._next += self._gaps.expovariate(self._rate)

    def next_at(self) -> float | None:
        """DrawnTokens already."""
        return self._next

    def answered(self, call: Call) -> None:
        """Nobody waits for that."""
