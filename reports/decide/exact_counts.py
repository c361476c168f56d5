"""Figures that need no statistics, since the same code gives the same number: counted before anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.metrics import COUNT, LOWER, Metric
from ttsbench.reports.readings import in_evidence, tokens


class CountVerdict(StrEnum):
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
    verdict: CountVerdict
    reason: str = ""


def _count(name: str, label: str, read: Callable[[Cell], float | None]) -> Metric:
    return Metric(name, COUNT, LOWER, label, False, read, tables=(), exact=True)


ACTIVITIES = {"decode_per_step": "step", "s3gen_per_call": "S3Gen", "per_call": "call", "per_step": "step"}
# Numbers that two processes of the same code agree on.
COUNTS: tuple[Metric, ...] = (
    *(
        _count(f"{part}.{name}", f"{label}/{where}", in_evidence(f"activity.{part}.{name}"))
        for part, where in ACTIVITIES.items()
        for name, label in (("launches", "launches"), ("graph_launches", "graphs"), ("waits", "syncs"))
    ),
    _count("graph_breaks", "graph breaks", in_evidence("compiler.graph_breaks")),
    _count("recompilations", "recompilations", in_evidence("compiler.recompilations_while_timing")),
    metrics.ALLOCATED,
    _count("tokens", "tokens", tokens),
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
    distinct: list[set[float]] = [set() for _ in COUNTS]
    for cell in cells:
        for values, count in zip(distinct, COUNTS, strict=True):
            if (value := count.read(cell)) is not None:
                values.add(value)
    return [sorted(values) for values in distinct]


def _change(count: Metric, ours: Sequence[float], theirs: Sequence[float]) -> CountChange:
    if len(ours) == len(theirs) == 1:
        more = CountVerdict.MORE if ours[0] > theirs[0] else CountVerdict.FEWER
        return CountChange(count, theirs[0], ours[0], CountVerdict.EQUAL if ours == theirs else more)
    for side, values in (("candidate", ours), ("baseline", theirs)):
        if not values:
            reason = f"the {side} has no such count"
            break
        if len(values) > 1:
            reason = f"the {side}'s processes do not agree: {values[0]:g} to {values[-1]:g}"
            break
    return CountChange(count, min(theirs, default=None), min(ours, default=None), CountVerdict.UNCLEAR, reason)
