"""What is compared: the stacks of one run, two runs, or two folders of runs; and whether that may be done."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ttsbench.errors import UsageError, suggest
from ttsbench.records import fingerprint, runs
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.decide.pairing import Pair, Pairing, pair_up
from ttsbench.reports.tables.markdown import flatten
from ttsbench.reports.tables.run_tables import point_name

MISSING = "–"
TWO_SERIES = "measured one after the other: what changed in between is part of the difference, and not of the interval"
WHOLE_SERIES = "each run counts as one measurement: its processes share the conditions of the run"


@dataclass(frozen=True)
class Side:
    """Runs of the same work, in the order in which they were made, and which of their stacks is meant, if one is."""

    label: str
    runs: tuple[Run, ...]
    stack: str = ""
    path: Path = Path()

    @functools.cached_property
    def cells(self) -> dict[str, list[list[Cell]]]:
        """For each cell's key, the timed rows of every run; the key is the point alone where one stack is meant."""
        if self.stack and self.stack not in (names := {cell.stack for run in self.runs for cell in run.cells}):
            raise UsageError(f"{self.label} has no stack '{self.stack}'; {suggest(self.stack, names)}")
        cells: dict[str, list[list[Cell]]] = {}
        for number, run in enumerate(self.runs):
            for cell in timed(run):
                if self.stack in ("", cell.stack):
                    key = point_name(cell.point) if self.stack else cell.key
                    if key not in cells:
                        cells[key] = [[] for _ in self.runs]
                    cells[key][number].append(cell)
        return cells


@dataclass(frozen=True)
class Match:
    """A candidate and its baseline at one point."""

    candidate: str
    baseline: str
    point: str
    pairing: Pairing
    notes: tuple[str, ...] = ()


def timed(run: Run) -> list[Cell]:
    """The rows that time was measured for, or should have been."""
    return [cell for cell in run.cells if cell.kind == "timed" and cell.status != "skipped"]


def remarks(run: Run) -> list[str]:
    """What a run has no figures for, and whether it came to its end."""
    skipped = {f"{run.run_id}: not measured: {c.key}: {c.reason}" for c in run.cells if c.status == "skipped"}
    return [*([] if run.status == "complete" else [f"{run.run_id} is {run.status}"]), *sorted(skipped)]


def within(run: Run) -> list[Match]:
    """Every stack of a run beside its baseline: their processes took turns."""
    points: dict[str, dict[str, list[Cell]]] = {}
    for cell in timed(run):
        points.setdefault(point_name(cell.point), {}).setdefault(cell.stack, []).append(cell)
    return [
        Match(stack, run.baseline, point, pair_up(cells, stacks[run.baseline]))
        for point, stacks in points.items()
        for stack, cells in stacks.items()
        if stack != run.baseline and run.baseline in stacks
    ]


def between(candidate: Side, baseline: Side) -> list[Match]:
    """What both sides have, each beside the other."""
    if bool(candidate.stack) != bool(baseline.stack):
        raise UsageError(
            f"{candidate.label} and {baseline.label}: a stack is named for one of them only",
            mend="Name one for both, as in RUN:STACK, or for neither",
        )
    ours, theirs = candidate.cells, baseline.cells
    return [
        Match(
            _label(candidate, ours[key]), _label(baseline, theirs[key]), _point(ours[key]),
            *_paired(ours[key], theirs[key], one_run=candidate.runs == baseline.runs),
        )
        for key in theirs
        if key in ours
    ]  # fmt: skip


def named_after(side: Side, match: Match) -> Match:
    """With the candidate's run in its name, where several runs have a stack of that name."""
    return match if side.stack else replace(match, candidate=f"{side.label}:{match.candidate}")


def of_other_devices(match: Match) -> Match:
    """The same, as far as figures of different machines or works may be laid beside each other at all."""
    pairs = tuple(replace(pair, one_device=False) for pair in match.pairing.pairs)
    return replace(match, pairing=replace(match.pairing, pairs=pairs))


def unpaired(candidate: Side, baseline: Side) -> list[str]:
    """What only one side has, in words."""
    ours, theirs = candidate.cells, baseline.cells
    return [
        f"only in {side.label}: {key or side.stack}"
        for side, mine, others in ((candidate, ours, theirs), (baseline, theirs, ours))
        for key in mine
        if key not in others
    ]


def _label(side: Side, runs: Sequence[Sequence[Cell]]) -> str:
    stack = next(cell.stack for cells in runs for cell in cells)
    return f"{side.label}:{stack}" if side.stack else stack


def _point(runs: Sequence[Sequence[Cell]]) -> str:
    return next(point_name(cell.point) for cells in runs for cell in cells)


def _paired(
    ours: Sequence[Sequence[Cell]], theirs: Sequence[Sequence[Cell]], *, one_run: bool
) -> tuple[Pairing, tuple[str, ...]]:
    """Process by process within a series; of several series, series by series."""
    if len(ours) == len(theirs) == 1:
        return pair_up(ours[0], theirs[0]), () if one_run else (TWO_SERIES,)
    both = min(len(ours), len(theirs))
    pairs = [Pair(tuple(a), tuple(b)) for a, b in zip(ours, theirs, strict=False) if a and b]
    alone = [cell for a, b in zip(ours, theirs, strict=False) if not (a and b) for cell in (*a, *b)]
    alone += [cell for cells in (*ours[both:], *theirs[both:]) for cell in cells]
    return Pairing(tuple(pairs), tuple(alone)), (WHOLE_SERIES,)


class Measured(Protocol):
    """Whatever says where its figures come from."""

    @property
    def environment(self) -> dict[str, Any]:
        """The fingerprint."""

    @property
    def scenario_understood(self) -> dict[str, Any]:
        """What was measured."""


def environments(runs: Iterable[Run]) -> list[tuple[str, str, str]]:
    """What else of the fingerprint is another than the first run's: its name and both values, each pair once."""
    first, *others = runs
    differing: dict[tuple[str, str, str], None] = {}
    theirs = dict(flatten(first.environment))
    for other in others:
        if other.environment == first.environment:
            continue
        ours = dict(flatten(other.environment))
        names = [name for name in dict.fromkeys((*theirs, *ours)) if name not in fingerprint.MACHINE]
        rows = [(name, theirs.get(name, MISSING), ours.get(name, MISSING)) for name in names]
        differing |= dict.fromkeys(row for row in rows if row[1] != row[2])
    return list(differing)


def identity(run: Measured) -> dict[str, Any]:
    """The machine and the work by dotted names: what has to be the same for figures to be compared."""
    return {**_machine(run), **dict(sorted(flatten(_work(run))))}


def mismatches(runs: Iterable[Measured]) -> list[str]:
    """Why these are not to be compared: another machine, another model or other work than the first one's."""
    first, *others = (identity(run) for run in runs)
    return list(dict.fromkeys(difference for other in others for difference in different(first, other)))


def different(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """What two identities do not have in common, in words."""
    for name in {**ours, **theirs}:
        if str(ours.get(name)) != str(theirs.get(name)):  # what an older record lacks is none
            yield f"{name}: {ours.get(name)!s:.60} against {theirs.get(name)!s:.60}"


def _work(run: Measured) -> dict[str, Any]:
    """Model and workload. The fake engine, whatever it pretends, stands in the model's place; once it was a family."""
    understood = run.scenario_understood
    model = {key: value for key, value in (understood.get("model") or {}).items() if key != "fake"}
    pretended = understood.get("fake") is not None or model.get("family") == "fake"
    return {"model": {"family": "fake"} if pretended else model, "workload": understood.get("workload")}


def _machine(run: Measured) -> dict[str, Any]:
    return {name: fingerprint.look_up(run.environment, name) for name in fingerprint.MACHINE}


def fingerprints(run: Run) -> tuple[str, str]:
    """Of the machine and of the work; runs that agree in both may be compared."""
    first, second = (runs.dump(dict(sorted(flatten(part)))) for part in (_machine(run), _work(run)))
    return _digest(first), _digest(second)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
