"""A profile as files for other tools: one CSV for each table, and collapsed stacks for flame graphs."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ttsbench import profiles
from ttsbench.profiles import Profile
from ttsbench.profiling.flames import collapsed

# Figures that follow from others and stand beside them.
DERIVED = {
    profiles.Stage: ("busy_share", "idle_share", "host_bound_share"),
    profiles.Kernel: ("launches",),
    profiles.DecodeSteps: ("busy_share", "idle_share", "host_bound_share"),
    profiles.Reconciliation: ("mismatch", "flagged"),
    profiles.Coverage: ("share",),
    profiles.RooflinePoint: ("intensity", "operations_per_second", "limit_share"),
}
# Tables of their own, or nothing for a cell.
NESTED = ("shapes", "stages")

TABLES: dict[str, tuple[type, Callable[[Profile], Iterable[Any]]]] = {
    "stages": (profiles.Stage, lambda profile: profile.stages),
    "ops": (profiles.Op, lambda profile: profile.ops),
    "modules": (profiles.Module, lambda profile: profile.modules),
    "kernels": (profiles.Kernel, lambda profile: profile.kernels),
    "families": (profiles.Family, lambda profile: profile.families),
    "decode": (profiles.DecodeSteps, lambda profile: filter(None, [profile.decode])),
    "reconciliation": (profiles.Reconciliation, lambda profile: profile.reconciliation),
    "coverage": (profiles.Coverage, lambda profile: profile.coverage),
    "roofline": (profiles.RooflinePoint, lambda profile: profile.roofline.points if profile.roofline else ()),
    "memory": (profiles.MemoryPoint, lambda profile: profile.memory.timeline if profile.memory else ()),
    "gaps": (profiles.Gap, lambda profile: profile.gaps),
}
BY_SHAPE = "ops_by_shape"


def files(profile: Profile) -> dict[str, str]:
    """Every file's text by its name; a table without rows is none."""
    filled = (name for name, (_, rows) in TABLES.items() if any(True for _ in rows(profile)))
    found = {f"{name}.csv": table(profile, name) for name in filled}
    found[f"{BY_SHAPE}.csv"] = by_shape(profile)
    stacks = {f"stacks-{kind}.txt": collapsed(profile.flames, kind) for kind in ("host", "device")}
    return found | {name: text for name, text in stacks.items() if text.strip()}


def table(profile: Profile, name: str) -> str:
    """One table, a line for each row, in the units that its columns name."""
    kind, rows = TABLES[name]
    columns = [*(f.name for f in dataclasses.fields(kind) if f.name not in NESTED), *DERIVED.get(kind, ())]
    return _csv(columns, ([getattr(row, column) for column in columns] for row in rows(profile)))


def by_shape(profile: Profile) -> str:
    """Ops with arguments of the same shapes, the dearest of each op."""
    columns = [f.name for f in dataclasses.fields(profiles.ShapeCost)]
    rows = ([op.name, *(getattr(cost, column) for column in columns)] for op in profile.ops for cost in op.shapes)
    return _csv(["op", *columns], rows)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()
