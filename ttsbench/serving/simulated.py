"""An engine that only pretends, on a clock of its own: what the load does to it can be checked against theory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ttsbench.serving.calls import Call


class SimulatedEngine:
    """One request after the other; `service` says how long each takes, and how many seconds of sound it is."""

    streams = False

    slots: int | None = None

    def __init__(self, service: Callable[[Call], tuple[float, float]]) -> None:
        self._service = service
        self._now = 0.0
        self._waiting: deque[Call] = deque()
        self._answered: list[Call] = []

    def begin(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def submit(self, call: Call) -> None:
        self._waiting.append(call)

    def work(self) -> bool:
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
        self._now += seconds

    def answered(self) -> list[Call]:
        done, self._answered = self._answered, []
        return done

    def abandon(self) -> None:
        self._waiting.clear()
        self._answered.clear()
