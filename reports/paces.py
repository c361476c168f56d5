"""Which utterances of two sides may be laid beside each other: those spoken while the device was at the same pace.

A device that changes its own speed does so in the middle of processes too. On an H200 at a restless time the two
processes of a pair, of three utterances each, had one at the same pace in 14 pairs of 19, and most of theirs in 10.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ttsbench.measured import PACE_SPREAD_MAX, Utterance
from ttsbench.records import Cell

Cells = tuple[Cell, ...]


@dataclass(frozen=True)
class Speed:
    """One of those that the device was at, by its least and greatest pace."""

    low_ns: float
    high_ns: float

    def of(self, utterance: Utterance) -> bool:
        """Whether it was so before and after the utterance; one in the middle of which it changed is of no speed."""
        return bool(utterance.paces_ns) and all(self.low_ns <= pace <= self.high_ns for pace in utterance.paces_ns)

    def texts(self, cells: Iterable[Cell]) -> Counter[int]:
        """How often each text was spoken at it."""
        return Counter(u.text_index for cell in cells for u in cell.utterances if self.of(u))


def alike(candidate: Cells, baseline: Cells) -> tuple[Cells, Cells]:
    """Both sides with what was spoken at one speed, each text as often on one as on the other; empty where nothing was.

    All that there is, where the device kept its pace or a side does not know it.
    """
    speeds = _speeds(_paces((*candidate, *baseline)))
    if len(speeds) < 2 or not _paces(candidate) or not _paces(baseline):
        return candidate, baseline
    shared = {speed: speed.texts(candidate) & speed.texts(baseline) for speed in speeds}
    best = max(shared, key=lambda speed: shared[speed].total())
    return tuple(_spoken(candidate, best, shared[best])), tuple(_spoken(baseline, best, shared[best]))


def _paces(cells: Iterable[Cell]) -> list[float]:
    return sorted(pace for cell in cells for utterance in cell.utterances for pace in utterance.paces_ns)


def _speeds(paces: Sequence[float]) -> tuple[Speed, ...]:
    """Paces in their order, parted where the next is further off than a speed is wide."""
    parted = [n for n in range(1, len(paces)) if paces[n] / paces[n - 1] - 1 > PACE_SPREAD_MAX]
    ends = (0, *parted, len(paces))
    return tuple(Speed(paces[a], paces[b - 1]) for a, b in itertools.pairwise(ends) if b > a)


def _spoken(cells: Cells, speed: Speed, texts: Counter[int]) -> Iterator[Cell]:
    """The first so many of each text at a speed; a process that has none is left out."""
    left = texts.copy()
    for cell in cells:
        kept = []
        for utterance in cell.utterances:
            if speed.of(utterance) and left[utterance.text_index]:
                left[utterance.text_index] -= 1
                kept.append(utterance)
        if kept:
            yield replace(cell, utterances=tuple(kept))
