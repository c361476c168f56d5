"""An engine that only pretends, on a clock of its own: what the load does to it can be checked against theory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ttsbench.serving.calls import Call


class SimulatedEngine:
    """One request after the other; `service` says how long each takes, and how much sound it is. Time passes here."""

    streams = False

    slots: int | None = None

    def __init__(self, service: Callable[[Call], tuple[float, float]]) -> None:
        self._service = service
        self._now = 0.0
        self._waiting: deque[Call] = deque()
        self._answered: list[Call] = []

    def begin(self) -> None:
        """Time starts anew."""
        self._now = 0.0

    def now(self) -> float:
        """As far as it has come."""
        return self._now

    def submit(self, call: Call) -> None:
        """At the end of the queue."""
        self._waiting.append(call)

    def work(self) -> bool:
        """All of one request."""
        if not self._waiting:
            return False
        call = self._waiting.popleft()
        call.started = self._now
        seconds, audio_seconds = self._service(call)
        self._now += seconds
        call.hold(self._now, audio_seconds)
        call.finished = self._now
        self._answered.append(call)
        return True

    def wait(self, seconds: float) -> None:
        """Nothing else happens meanwhile."""
        self._now += seconds

    def answered(self) -> list[Call]:
        """Since the last call."""
        done, self._answered = self._answered, []
        return done

    def abandon(self) -> None:
        """The queue is empty."""
        self._waiting.clear()
        self._answered.clear()
