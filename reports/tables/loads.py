"""What listeners get under load: latencies from the moment that a request was due, throughput, and goodput."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from ttsbench.records.measurements import LoadResult, Request
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.decide import statistics
from ttsbench.reports.load_figures import LevelFigures, most_throughput, rtf, ttfa
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult
from ttsbench.reports.tables.table import Column, Table

CLOSED = "closed"
GOOD = 0.95

LevelKey = tuple[str, float]
Of = Callable[[LevelFigures], float | None]


def outcome(load: LoadResult) -> str:
    """In a few words: the most that it gave."""
    ran = sum(not level.reason for level in load.levels)
    most = most_throughput(load)
    return f"{ran} levels, at most {'–' if most is None else f'{most:,.2f}'} audio s/s"


def _percentile(of: Callable[[Request], float], share: float) -> Of:
    return lambda figures: figures.over_calls(of, share)


def _column(name: str, of: Of, form: str, scale: float = 1.0) -> Column:
    """Of rows that are a stack, a level, and its figures in each process."""
    return Column(
        name, lambda row: median(row[2], of), lambda value: "never" if math.isinf(value) else f"{value * scale:{form}}"
    )


COLUMNS = (
    _column("audio s/s", lambda figures: figures.throughput, ",.2f"),
    _column("goodput %", lambda figures: figures.goodput, ".0%"),
    _column("stalled %", lambda figures: figures.stalled, ".0%"),
    _column("TTFA ms p50", _percentile(ttfa, 0.5), ",.0f", 1e3),
    _column("p95", _percentile(ttfa, 0.95), ",.0f", 1e3),
    _column("p99", _percentile(ttfa, 0.99), ",.0f", 1e3),
    _column("RTF p50", _percentile(rtf, 0.5), ".3f"),
    _column("p95", _percentile(rtf, 0.95), ".3f"),
    _column("p99", _percentile(rtf, 0.99), ".3f"),
)
NOTES = (
    "TTFA and RTF count from the moment that a request was due, however late it was taken up",
    "p95 stands where 20 or more requests count, p99 where 100 do",
    "stalled: answers with a silence; audio s/s: seconds of sound that reached listeners, a second",
)


def levels_of(stack: StackResult) -> dict[LevelKey, list[LevelFigures]]:
    """Per level, its figures in each process."""
    levels: dict[LevelKey, list[LevelFigures]] = {}
    for cell in stack.timed:
        for level in cell.load.levels if cell.load else ():
            levels.setdefault((level.kind, level.size), []).append(LevelFigures(_load(cell), level))
    return levels


def _load(cell: Cell) -> LoadResult:
    assert cell.load is not None
    return cell.load


def median(figures: Sequence[LevelFigures], of: Of) -> float | None:
    """Over the processes; one that has no end is larger than all."""
    values = sorted(value for f in figures if not f.level.reason and (value := of(f)) is not None)
    if not values:
        return None
    return values[-1] if math.isinf(values[-1]) else statistics.median(values)


def overview(run: Run) -> list[Table]:
    """Per point every level of every stack, then how far each stack goes."""
    return [table for stacks in loaded(run) for table in (_levels(stacks), _capacity(stacks))]


def loaded(run: Run) -> list[list[StackResult]]:
    """The points at which there was a load."""
    return [stacks for stacks in run_tables.results(run) if any(cell.load for stack in stacks for cell in stack.timed)]


def _levels(stacks: Sequence[StackResult]) -> Table:
    rows = tuple((stack, key, figures) for stack in stacks for key, figures in levels_of(stack).items())
    labels = (Column("stack", lambda row: row[0].marked), Column("load", lambda row: level_name(row[1])))
    return Table(
        run_tables.titled("Load", stacks),
        (*labels, Column("answered", lambda row: _answered(row[2]), "figure"), *COLUMNS),
        rows,
        (*NOTES, _targets(stacks), *_not_run(stacks), *_same_tokens(stacks)),
        labels=2,
        emphasized=lambda row: row[0].baseline,
    )


def level_name(key: LevelKey) -> str:
    """A level as it is called."""
    kind, size = key
    return f"{size:g} listening" if kind == CLOSED else f"{size:g}/s"


def _answered(figures: Sequence[LevelFigures]) -> str | None:
    calls = [call for process in figures for call in process.calls]
    return f"{sum(call.finished_seconds is not None for call in calls)}/{len(calls)}" if calls else None


def _targets(stacks: Sequence[StackResult]) -> str:
    load = next(cell.load for stack in stacks for cell in stack.timed if cell.load)
    return (
        f"goodput: the share of requests with a TTFA of {load.ttfa_seconds:g} s at most and no more than "
        f"{load.underrun_seconds:g} s of silence"
    )


def _not_run(stacks: Sequence[StackResult]) -> Iterator[str]:
    for stack in stacks:
        for key, figures in levels_of(stack).items():
            if reason := figures[0].level.reason:
                yield f"{stack.label} at {level_name(key)} did not run: {reason}"
            elif not any(process.calls for process in figures):
                reason = f"no request counted within {figures[0].level.ended_seconds:.0f} s"
                yield f"{stack.label} at {level_name(key)} shows nothing: {reason}; give duration_seconds more"


def _same_tokens(stacks: Sequence[StackResult]) -> Iterator[str]:
    """Request n asks for the same at every level, so that it must draw the same tokens, whoever speaks beside it."""
    for stack in stacks:
        drawn: dict[int, list[str]] = {}
        for call in (call for cell in stack.timed for level in _load(cell).levels for call in level.calls):
            if call.tokens_sha256:
                drawn.setdefault(call.number, []).append(call.tokens_sha256)
        if again := [sequences for sequences in drawn.values() if len(sequences) > 1]:
            same = sum(len(set(sequences)) == 1 for sequences in again)
            yield f"{stack.label}: {same} of {len(again)} requests drew the same tokens at every level"


def _capacity(stacks: Sequence[StackResult]) -> Table:
    alone = _throughput_alone(next((stack for stack in stacks if stack.baseline), None))
    columns = (
        run_tables.STACK,
        Column("most audio s/s", _most, "s"),
        Column("× the baseline alone", lambda stack: _times(_most(stack), alone), lambda value: f"{value:.1f}×"),
        Column("listeners", lambda stack: largest_good(levels_of(stack), CLOSED), "ratio"),
        Column("requests/s", lambda stack: largest_good(levels_of(stack), "open"), "ratio"),
    )
    note = f"listeners, requests/s: the largest load with a goodput of {GOOD:.0%} or more, and all smaller ones too"
    timed = tuple(stack for stack in stacks if stack.timed)
    return Table(run_tables.titled("How far it goes", stacks), columns, timed, (note,))


def _most(stack: StackResult) -> float | None:
    throughputs = (median(figures, lambda process: process.throughput) for figures in levels_of(stack).values())
    return max((value for value in throughputs if value is not None), default=None)


def _times(value: float | None, baseline: float | None) -> float | None:
    return value / baseline if value and baseline else None


def _throughput_alone(stack: StackResult | None) -> float | None:
    """Of one listener; of the lightest level where there was no such."""
    levels = levels_of(stack) if stack else {}
    lightest = next(iter(levels.values()), [])
    return median(levels.get((CLOSED, 1.0), lightest), lambda figures: figures.throughput)


def largest_good(levels: dict[LevelKey, list[LevelFigures]], kind: str) -> float | None:
    """As long as every smaller load is good too."""
    largest, there = 0.0, False
    for (of_kind, size), figures in sorted(levels.items()):
        if of_kind == kind:
            there = True
            goodput = median(figures, lambda process: process.goodput)
            if goodput is None or goodput < GOOD:
                break
            largest = size
    return largest if there else None
