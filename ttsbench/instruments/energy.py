"""Joules from the board's own counter, and what the board draws when nothing is asked of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ttsbench.instruments import nvml
from ttsbench.records.measurements import Energy

# The counter moves every 20-100 ms; one that stands still for longer than this is read as it is.
TICK_SECONDS_MAX = 0.5
POLL_SECONDS = 0.001


@dataclass(frozen=True)
class Reading:
    seconds: float
    joules: float


@dataclass
class Counter:
    """The readings at both ends of a block; None where there is no counter."""

    first: Reading | None = None
    last: Reading | None = None

    def result(self, *, idle_watts: float, audio_seconds: float) -> Energy | None:
        if self.first is None or self.last is None:
            return None
        return Energy(
            joules=self.last.joules - self.first.joules,
            idle_watts=idle_watts,
            seconds=self.last.seconds - self.first.seconds,
            audio_seconds=audio_seconds,
        )


@contextmanager
def measure(device: object) -> Iterator[Counter]:
    """The energy that the board takes during the block. Both ends wait for the counter to move, so the block comes
    out right to a reading's worth; the wait is part of the seconds, and its idle draw is subtracted with the rest."""
    board, counter = nvml.board(device), Counter()
    counter.first = _reading(board)
    yield counter
    counter.last = _reading(board)


def idle_watts(device: object, seconds: float) -> float | None:
    """The board's mean draw while this process waits, its context and clocks as they are."""
    board = nvml.board(device)
    first = _reading(board)
    if first is None:
        return None
    time.sleep(seconds)
    last = _reading(board)
    if last is None or last.seconds <= first.seconds:
        return None
    return (last.joules - first.joules) / (last.seconds - first.seconds)


def _reading(board: nvml.Board | None) -> Reading | None:
    """The counter at the moment at which it moves."""
    before = None if board is None else board.energy_joules
    if board is None or before is None:
        return None
    joules, deadline = board.energy_joules, time.perf_counter() + TICK_SECONDS_MAX
    while joules == before and time.perf_counter() < deadline:
        time.sleep(POLL_SECONDS)
        joules = board.energy_joules
    return None if joules is None else Reading(time.perf_counter(), joules)
