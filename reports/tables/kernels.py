"""Kernels as a table, as CSV and as a plot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ttsbench.records.kernels import EAGER, TIMINGS, KernelRun, KernelTiming, MeasuredCeilings
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.formats.values import as_csv
from ttsbench.reports.tables.markdown import flatten, render
from ttsbench.reports.tables.table import Column, Table, of_field

CSV_COLUMNS = (
    "kernel", "shape", "dtype", "contender", "status", "reason", "relative_error", "tolerance", "max_abs_diff",
    "bytes_moved", "flops", *(f"{timing}_{figure}" for timing in TIMINGS for figure in ("microseconds", "spread")),
    "cold_bytes_per_second", "cold_flops_per_second", "share_of_ceiling", "graph_speed_up",
)  # fmt: skip


def tables(run: KernelRun) -> list[Table]:
    """One per kernel; rows without figures say why in its notes."""
    return [_table(kernel, list(rows), run) for kernel, rows in _by_kernel(run)]


def _by_kernel(run: KernelRun) -> Iterable[tuple[str, list[KernelTiming]]]:
    for kernel in dict.fromkeys(row.kernel for row in run.rows):
        yield kernel, [row for row in run.rows if row.kernel == kernel]


def _table(kernel: str, rows: list[KernelTiming], run: KernelRun) -> Table:
    timed = any(row.microseconds for row in rows)
    columns = (*POINT_COLUMNS, *(_time_columns(run) if timed else (RESULT,)))
    notes = [f"{row.status}: {row.shape} {row.dtype} {row.contender}: {row.reason}" for row in rows if row.reason]
    legend = _legend(run.ceilings) if timed and run.ceilings else ()
    return Table(kernel, columns, tuple(rows), (*notes, *legend), labels=3)


POINT_COLUMNS = (
    Column("shape", of_field("shape")),
    Column("dtype", of_field("dtype")),
    Column("contender", of_field("contender")),
    Column("error", of_field("relative_error"), lambda error: f"{error:.1e}"),
    Column("max diff", of_field("max_abs_diff"), lambda error: f"{error:.1e}"),
)
RESULT = Column("result", lambda row: "right" if row.ok else row.status)


def _time_columns(run: KernelRun) -> tuple[Column, ...]:
    return (
        Column("graph µs", lambda row: row.median("graph") if row.ok else row.status, "s"),
        Column("±", lambda row: row.spread("graph"), "percent"),
        Column("cold µs", lambda row: row.median("cold"), "s"),
        Column("eager µs", lambda row: row.median("eager"), "s"),
        Column("rate", _rate, "figure"),
        Column("ceiling", lambda row: run.ceilings.share(row) if run.ceilings else None, lambda share: f"{share:.0%}"),
        Column("speed-up", lambda row: speed_up(row, run), "times"),
    )


def _rate(row: KernelTiming) -> str | None:
    """TFLOP/s of what multiplies matrices of many rows, GB/s of the rest: whichever the row does more of."""
    operations, moved = row.flops_per_second(), row.bytes_per_second()
    if operations is None or moved is None:
        return None
    return f"{operations / 1e12:.0f} TFLOP/s" if row.flops > 50 * row.bytes_moved else f"{moved / 1e9:.0f} GB/s"


def _legend(ceilings: MeasuredCeilings) -> tuple[str, ...]:
    rates = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in ceilings.matmul_flops_per_second.items())
    times = (
        "graph: per launch of many in one CUDA graph, L2 warm; ± half the distance between quartiles; cold: the same "
        "with the L2 flushed before each; eager: launched one by one, the host's time included; "
        "speed-up: over eager's graph time"
    )
    limits = (
        "ceiling: the least time that bytes and operations allow, over cold; measured in this run: copy "
        f"{ceilings.copy_bytes_per_second / 1e9:.0f} GB/s, matmul TFLOP/s {rates}, L2 "
        f"{ceilings.l2_bytes / 1e6:.0f} MB; our fp32 products are three of tf32 and may pass the ceiling of torch's own"
    )
    return times, limits


def speed_up(row: KernelTiming, run: KernelRun) -> float | None:
    """The eager twin's graph time over this one's."""
    twins = (r for r in run.rows if (r.kernel, r.shape, r.dtype, r.contender) == (*_point(row), EAGER))
    twin = next(twins, None)
    theirs, mine = twin.median("graph") if twin else None, row.median("graph")
    return theirs / mine if theirs and mine else None


def _point(row: KernelTiming) -> tuple[str, str, str]:
    return row.kernel, row.shape, row.dtype


def to_csv(run: KernelRun) -> str:
    """One line per row; figures that a row does not have are empty."""
    return as_csv(Table.of("", CSV_COLUMNS, [_values(row, run) for row in run.rows])).decode()


def _values(row: KernelTiming, run: KernelRun) -> list[Any]:
    fields = [getattr(row, column) for column in CSV_COLUMNS[: CSV_COLUMNS.index("flops") + 1]]
    times = [value for timing in TIMINGS for value in (row.median(timing), row.spread(timing))]
    share = run.ceilings.share(row) if run.ceilings else None
    rates = row.bytes_per_second(), row.flops_per_second() if row.flops else None
    return [*fields, *times, *rates, share, speed_up(row, run)]


def to_markdown(run: KernelRun) -> str:
    """The tables, and what they ran on."""
    machine = (f"- {in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(run.environment))
    parts = ["# Kernels", *run.notes, *map(render, tables(run)), "## Ran on", "\n".join(machine)]
    return "\n\n".join(parts) + "\n"
