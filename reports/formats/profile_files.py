"""A profile as files for other tools: each table as CSV and Parquet, and collapsed stacks for flame graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ttsbench.records import profile_rows
from ttsbench.records.profile_rows import Flame
from ttsbench.records.profiles import Profile
from ttsbench.reports.formats.values import as_csv, as_parquet, can_write_parquet
from ttsbench.reports.tables.table import Table

# Figures that follow from others and stand beside them.
DERIVED = {
    profile_rows.Stage: ("busy_share", "idle_share", "host_bound_share"),
    profile_rows.KernelRow: ("launches",),
    profile_rows.DecodeSteps: ("busy_share", "idle_share", "host_bound_share"),
    profile_rows.Reconciliation: ("mismatch", "flagged"),
    profile_rows.Coverage: ("share",),
    profile_rows.RooflinePoint: ("intensity", "operations_per_second", "limit_share"),
}
# Tables of their own, or nothing for a cell.
NESTED = ("shapes", "stages")

TABLES: dict[str, tuple[type, Callable[[Profile], Iterable[Any]]]] = {
    "stages": (profile_rows.Stage, lambda profile: profile.stages),
    "ops": (profile_rows.Op, lambda profile: profile.ops),
    "modules": (profile_rows.Module, lambda profile: profile.modules),
    "kernels": (profile_rows.KernelRow, lambda profile: profile.kernels),
    "families": (profile_rows.KernelFamily, lambda profile: profile.families),
    "decode": (profile_rows.DecodeSteps, lambda profile: filter(None, [profile.decode])),
    "reconciliation": (profile_rows.Reconciliation, lambda profile: profile.reconciliation),
    "coverage": (profile_rows.Coverage, lambda profile: profile.coverage),
    "roofline": (profile_rows.RooflinePoint, lambda profile: profile.roofline.points if profile.roofline else ()),
    "memory": (profile_rows.MemoryPoint, lambda profile: profile.memory.timeline if profile.memory else ()),
    "gaps": (profile_rows.Gap, lambda profile: profile.gaps),
}
BY_SHAPE = "ops_by_shape"


def files(profile: Profile) -> dict[str, bytes]:
    """Every file by its name: each table that has rows as CSV and, where pyarrow is installed, as Parquet."""
    tables = {name: rows for name in TABLES if (rows := table(profile, name)).rows}
    tables[BY_SHAPE] = by_shape(profile)
    by_name = {f"{name}.csv": as_csv(rows) for name, rows in tables.items()}
    if can_write_parquet():
        by_name |= {f"{name}.parquet": as_parquet(rows) for name, rows in tables.items()}
    stacks = {f"stacks-{kind}.txt": collapsed(profile.flames, kind) for kind in ("host", "device")}
    return by_name | {name: text.encode() for name, text in stacks.items() if text.strip()}


def table(profile: Profile, name: str) -> Table:
    kind, rows = TABLES[name]
    columns = (*(f.name for f in dataclasses.fields(kind) if f.name not in NESTED), *DERIVED.get(kind, ()))
    return Table.of("", columns, tuple(tuple(getattr(row, column) for column in columns) for row in rows(profile)))


def by_shape(profile: Profile) -> Table:
    """Ops with arguments of the same shapes, the dearest of each op."""
    columns = tuple(f.name for f in dataclasses.fields(profile_rows.ShapeCost))
    costs = ((op.name, cost) for op in profile.ops for cost in op.shapes)
    return Table.of("", ("op", *columns), tuple((op, *(getattr(cost, c) for c in columns)) for op, cost in costs))


def collapsed(flames: Sequence[Flame], kind: str) -> str:
    """One stack a line and its whole microseconds, as flame-graph tools read them."""
    lines = (
        ";".join(frame.replace(";", ",") for frame in flame.path) + f" {round(flame.microseconds)}"
        for flame in flames
        if flame.kind == kind and round(flame.microseconds)
    )
    return "\n".join(lines) + "\n"
