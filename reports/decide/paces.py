"""Which utterances of two sides can be compared: those made while the device was at the same pace.

A device that changes its own speed does so in the middle of processes too, for some utterances of one and none of the
other. This is about two sides of the same stack: stacks that differ may wait for the device or for the host.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ttsbench.records.measurements import Utterance
from ttsbench.records.runs import Cell

Cells = tuple[Cell, ...]
# By how much the device's own pace may change before figures from before and after are no longer comparable. On an H200
# a kernel of the chain takes a fifth longer at the slower of two speeds, where decoding takes 10 % longer. On one card
# all processes at one speed agree to 0.6 %, of fourteen stacks too; from card to card it is 4 % (909 to 948 ns).
PACE_SPREAD_MAX = 0.08
# Text index → repeats in which it was spoken, over all processes.
Repeats = dict[int, list[int]]
# With only one utterance, a single spike would decide. With three, a gate of eight utterances a process
# leaves 9 % of A/A comparisons open on a restless device (`selftest`, two-paced), with two 1 %.
UTTERANCES_MIN = 2


@dataclass(frozen=True)
class PaceBand:
    """A pace that the device may have been at: no wider than processes at the same speed differ by."""

    low_ns: float

    def of(self, utterance: Utterance) -> bool:
        """Whether the pace was in it before and after the utterance; where it changed in between, it is in none."""
        high_ns = self.low_ns * (1 + PACE_SPREAD_MAX)
        return bool(utterance.paces_ns) and all(self.low_ns <= pace <= high_ns for pace in utterance.paces_ns)

    def shared(self, candidate: Cells, baseline: Cells) -> SharedUtterances:
        """What both sides said at it, each text as often on one as on the other, the same repeats where possible."""
        ours, theirs = self._repeats(candidate), self._repeats(baseline)
        return SharedUtterances(self, {text: _alike(ours[text], theirs[text]) for text in ours.keys() & theirs.keys()})

    def _repeats(self, cells: Cells) -> Repeats:
        repeats: Repeats = defaultdict(list)
        for cell in cells:
            for utterance in filter(self.of, cell.utterances):
                repeats[utterance.text_index].append(utterance.repeat)
        return repeats


@dataclass(frozen=True)
class SharedUtterances:
    """Of each text the repeats that count, on the candidate's side and on the baseline's."""

    band: PaceBand
    repeats: Mapping[int, tuple[list[int], list[int]]]

    @property
    def utterances(self) -> int:
        return sum(len(ours) for ours, _ in self.repeats.values())

    def of(self, cells: Cells, side: int) -> Iterator[Cell]:
        """One side's processes with what counts; one that has nothing of it is left out."""
        left = {text: list(sides[side]) for text, sides in self.repeats.items()}
        for cell in cells:
            kept = tuple(u for u in cell.utterances if self.band.of(u) and _taken(left, u))
            if kept:
                yield replace(cell, utterances=kept)


def _taken(left: Repeats, utterance: Utterance) -> bool:
    repeats = left.get(utterance.text_index, [])
    if utterance.repeat not in repeats:
        return False
    repeats.remove(utterance.repeat)
    return True


def _alike(ours: list[int], theirs: list[int]) -> tuple[list[int], list[int]]:
    """As many of one as of the other: first the repeats, and so the seeds, that both have, then the earliest."""
    both, count = Counter(ours) & Counter(theirs), min(len(ours), len(theirs))
    mine, yours = ([*both.elements(), *sorted((Counter(side) - both).elements())] for side in (ours, theirs))
    return mine[:count], yours[:count]


def alike(candidate: Cells, baseline: Cells) -> tuple[Cells, Cells]:
    """Both sides with what was spoken at one speed; empty where that is too little, or lacks a text that both have.

    All that there is, where the device kept its pace or a side does not know it.
    """
    ours, theirs = of(candidate), of(baseline)
    known = sorted({*ours, *theirs})
    if not ours or not theirs or known[-1] <= known[0] * (1 + PACE_SPREAD_MAX):
        return candidate, baseline
    texts = _texts(candidate) & _texts(baseline)
    bands = [PaceBand(pace).shared(candidate, baseline) for pace in known]
    best = max(bands, key=lambda shared: (len(shared.repeats), shared.utterances))
    enough = min(UTTERANCES_MIN, _utterances(candidate), _utterances(baseline))
    if best.repeats.keys() != texts or best.utterances < enough:
        return (), ()
    return tuple(best.of(candidate, 0)), tuple(best.of(baseline, 1))


def of(cells: Iterable[Cell]) -> list[float]:
    """All that were read, in nanoseconds a kernel."""
    return [pace for cell in cells for utterance in cell.utterances for pace in utterance.paces_ns]


def change(cell: Cell) -> str:
    """Says that the device changed its pace within one process; empty where it did not."""
    paces = of((cell,))
    if not paces or max(paces) / min(paces) - 1 <= PACE_SPREAD_MAX:
        return ""
    return f"the device changed its own pace: the same kernel took {min(paces):.0f} to {max(paces):.0f} ns"


def _texts(cells: Cells) -> set[int]:
    return {utterance.text_index for cell in cells for utterance in cell.utterances}


def _utterances(cells: Cells) -> int:
    return sum(len(cell.utterances) for cell in cells)
