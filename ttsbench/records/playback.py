"""Playback of sound that comes in pieces: whether each is there when the one before it has been played.

Pure numbers. Playback begins when 80 ms are there, and stops while the next piece is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PLAYABLE_SECONDS = 0.080

# When it was held, and how many seconds of sound it is.
Piece = tuple[float, float]


@dataclass(frozen=True)
class Underrun:
    """Silence because a piece was late: since when, and for how long."""

    began: float
    seconds: float


@dataclass(frozen=True)
class Playback:
    """How pieces are heard, one after the other."""

    begins: float
    ends: float
    underruns: tuple[Underrun, ...]
    # How much later playback would have to begin for no piece to be late.
    prebuffer_seconds: float

    @property
    def underrun_seconds(self) -> float:
        return sum(underrun.seconds for underrun in self.underruns)

    @property
    def late_chunks(self) -> int:
        return len(self.underruns)


def begins(pieces: Sequence[Piece]) -> float | None:
    """When there was enough to begin with; where the whole is shorter, when all was there."""
    enough, held = min(PLAYABLE_SECONDS, sum(seconds for _, seconds in pieces)), 0.0
    for arrived, seconds in pieces:
        held += seconds
        if held and held >= enough:
            return arrived
    return None


def play(pieces: Iterable[Piece], begins: float) -> Playback:
    at, before, prebuffer, underruns = begins, 0.0, 0.0, list[Underrun]()
    for arrived, seconds in pieces:
        prebuffer = max(prebuffer, arrived - (begins + before))
        if arrived > at:
            underruns.append(Underrun(at, arrived - at))
            at = arrived
        at, before = at + seconds, before + seconds
    return Playback(begins, at, tuple(underruns), prebuffer)
