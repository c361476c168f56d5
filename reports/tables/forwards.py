"""Forwards of the backbone alone: how long, how much memory, and whether the device waited for the host."""

from __future__ import annotations

import statistics as standard
from collections.abc import Sequence

from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult, metric_columns, stack_table
from ttsbench.reports.tables.table import Column, Table

# Below this share of the wall time in kernels, the host is what takes the time.
BUSY_ENOUGH = 0.8


def overview(run: Run) -> list[Table]:
    """Per point one table: every stack beside the baseline."""
    points = run_tables.results(run)
    return [_table(stacks) for stacks in points if any(cell.forwards for stack in stacks for cell in stack.timed)]


def _table(stacks: Sequence[StackResult]) -> Table:
    baseline = next((stack.median(metrics.FORWARD_PEAK) for stack in stacks if stack.baseline), None)
    columns = (
        *metric_columns([metrics.FORWARD]),
        run_tables.spread(metrics.FORWARD),
        Column("mean ± sd", _mean_and_deviation, "figure"),
        run_tables.speed_up(stacks, metrics.FORWARD),
        *metric_columns([metrics.FORWARD_PEAK]),
        Column("memory", lambda stack: _memory_change(stack, baseline), "signed share"),
        *metric_columns(metrics.shown_in(metrics.FORWARDS)),
    )
    ran = [stack for stack in stacks if stack.timed]
    return stack_table(run_tables.point_name(stacks[0].point), stacks, columns, _notes(ran))


def _mean_and_deviation(stack: StackResult) -> str | None:
    """Over the repeats of one process; of several processes the medians."""
    repeats = [[1e3 * forward.wall_seconds for forward in cell.forwards] for cell in stack.timed]
    mean = statistics.median(standard.mean(milliseconds) for milliseconds in repeats if milliseconds)
    deviation = statistics.median(standard.stdev(milliseconds) for milliseconds in repeats if len(milliseconds) > 1)
    return None if mean is None else f"{mean:,.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")


def _memory_change(stack: StackResult, baseline: float | None) -> float | None:
    peak = stack.median(metrics.FORWARD_PEAK)
    return None if stack.baseline or not baseline or peak is None else peak / baseline - 1


def _notes(stacks: Sequence[StackResult]) -> tuple[str, ...]:
    shape = next(cell.forwards[0] for stack in stacks for cell in stack.timed if cell.forwards)
    work = f"{shape.steps} steps after a prompt" if shape.steps else "one forward"
    notes = [
        f"{work} of {shape.positions} positions, {shape.rows} row(s); median of the processes",
        "each process the median of its repeats; ± half the range of the processes; mean ± sd within a process",
        "host: until everything was issued; kernels: the device's own time in them, as the profiler saw it",
    ]
    for stack in stacks:
        share = stack.estimate(metrics.BUSY_SHARE)
        if share and share.median < BUSY_ENOUGH:
            reason = f"its kernels take {share.median:.0%} of the time, in the rest the device waits"
            notes.append(f"{stack.label} is bound by the host: {reason}")
    return tuple(notes)
