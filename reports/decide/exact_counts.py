"""Figures that need no statistics, since the same code gives the same number: counted before anything is timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from ttsbench.records.runs import Cell
from ttsbench.reports.metrics import Metric


class Change(StrEnum):
    """What became of a count."""

    MORE = "more"
    FEWER = "fewer"
    EQUAL = "equal"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class CountChange:
    """One count on both sides; unclear where the processes of one side do not agree."""

    count: Metric
    baseline: float | None
    candidate: float | None
    change: Change
    reason: str = ""


def in_evidence(*path: str) -> Callable[[Cell], float | None]:
    """Reads a number there, whatever the evidence is made of."""

    def of(cell: Cell) -> float | None:
        found: Any = cell.evidence
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None

    return of


def _tokens(cell: Cell) -> float | None:
    return float(sum(u.tokens for u in cell.utterances)) if cell.utterances else None


def _allocated(cell: Cell) -> float | None:
    peak = None if cell.memory is None else cell.memory.allocated_peak_bytes
    return None if peak is None else float(peak)


ACTIVITIES = {"decode_per_step": "step", "s3gen_per_call": "S3Gen", "per_call": "call", "per_step": "step"}
_count = partial(Metric, digits=0)
ALLOCATED = Metric("allocated_peak_bytes", "allocated MiB", _allocated, 1 / 2**20, 1)
# Numbers that two processes of the same code agree on.
COUNTS: tuple[Metric, ...] = (
    *(
        _count(f"{part}.{what}", f"{label}/{where}", in_evidence("activity", part, what))
        for part, where in ACTIVITIES.items()
        for what, label in (("launches", "launches"), ("graph_launches", "graphs"), ("waits", "syncs"))
    ),
    _count("graph_breaks", "graph breaks", in_evidence("compiler", "graph_breaks")),
    _count("recompilations", "recompilations", in_evidence("compiler", "recompilations_while_timing")),
    ALLOCATED,
    _count("tokens", "tokens", _tokens),
)


def changes(candidate: Sequence[Cell], baseline: Sequence[Cell]) -> list[CountChange]:
    """Every count that either side has, in the order of the table above."""
    return list(_changes([c for c in candidate if c.ok], [c for c in baseline if c.ok]))


def _changes(candidate: Sequence[Cell], baseline: Sequence[Cell]) -> Iterator[CountChange]:
    for count, ours, theirs in zip(COUNTS, _values(candidate), _values(baseline), strict=True):
        if ours or theirs:
            yield _change(count, ours, theirs)


def _values(cells: Iterable[Cell]) -> list[list[float]]:
    """Of every count what its processes say, each value once."""
    found: list[set[float]] = [set() for _ in COUNTS]
    for cell in cells:
        for values, count in zip(found, COUNTS, strict=True):
            if (value := count.of(cell)) is not None:
                values.add(value)
    return [sorted(values) for values in found]


def _change(count: Metric, ours: Sequence[float], theirs: Sequence[float]) -> CountChange:
    if len(ours) == len(theirs) == 1:
        change = Change.EQUAL if ours == theirs else Change.MORE if ours[0] > theirs[0] else Change.FEWER
        return CountChange(count, theirs[0], ours[0], change)
    for side, values in (("candidate", ours), ("baseline", theirs)):
        if not values:
            reason = f"the {side} has no such figure"
            break
        if len(values) > 1:
            reason = f"the {side}'s processes do not agree: {values[0]:g} to {values[-1]:g}"
            break
    return CountChange(count, min(theirs, default=None), min(ours, default=None), Change.UNCLEAR, reason)
