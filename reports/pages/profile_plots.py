"""What the page's plots draw: the profile's figures as plain data, thinned to what an eye can tell apart."""

from __future__ import annotations

from typing import Any

from ttsbench.records import measurements
from ttsbench.records.profile_rows import Flame, RooflinePoint, thinned
from ttsbench.records.profiles import Profile
from ttsbench.reports.pages.templates import clipped
from ttsbench.reports.tables import profile_tables

FRAMES_MAX = 6000
GAPS_MAX = 1500
KERNEL_POINTS_MAX = 40
# Colours stand in the page's style sheet under these names; what has none there shares that of `other`.
COLOURED_STAGES = (*measurements.STAGES, measurements.RESIDUAL)


def colour(stage: str) -> str:
    """The name of the stage's colour."""
    return stage if stage in COLOURED_STAGES else "other"


def data(profile: Profile) -> dict[str, Any]:
    """Everything that the page's script reads."""
    stages = [stage.name for stage in profile.stages]
    points = profile.roofline.points if profile.roofline else ()
    others = [*(gap.stage for gap in profile.gaps), *(point.stage for point in points)]
    return {
        "on_gpu": profile.header.on_gpu,
        "colours": {name: colour(name) for name in dict.fromkeys([*stages, *others])},
        "stages": _stages(profile),
        "flames": {kind: flame_graph(profile, kind) for kind in flame_kinds(profile)},
        "roofline": _roofline(profile),
        "gaps": _gaps(profile),
        "memory": _memory(profile),
    }


def _stages(profile: Profile) -> list[dict[str, Any]]:
    return [
        {
            "name": stage.name,
            "share": stage.share,
            "wall": stage.wall_seconds,
            "unprofiled": stage.unprofiled_wall_seconds,
            "busy": stage.busy_seconds,
            "idle": stage.idle_seconds,
            "wait": min(stage.host_bound_seconds, stage.idle_seconds),
        }
        for stage in profile.stages
    ]


def flame_kinds(profile: Profile) -> list[str]:
    """Those there are stacks of, the device's first."""
    return [kind for kind in ("device", "host") if any(flame.kind == kind for flame in profile.flames)]


def flame_graph(profile: Profile, kind: str) -> dict[str, Any]:
    """Frames as [name, parent, µs], parents before what they called; the widest where there are too many."""
    names, parents, totals = _tree([flame for flame in profile.flames if flame.kind == kind])
    names[0] = f"{profile.header.stack}, {kind}"
    # A frame is never wider than its parent and comes after it, so that the first of them are a tree again.
    widest = sorted(range(len(totals)), key=lambda index: (-totals[index], index))
    kept = sorted(widest[:FRAMES_MAX])
    place = {index: number for number, index in enumerate(kept)}
    texts = list(dict.fromkeys(clipped(names[index]) for index in kept))
    number_of = {text: number for number, text in enumerate(texts)}
    frames = [
        [number_of[clipped(names[index])], place[parents[index]], round(totals[index], 2)] for index in kept
    ]  # fmt: skip
    return {"names": texts, "frames": frames, "left_out": len(totals) - len(kept)}


def _tree(flames: list[Flame]) -> tuple[list[str], list[int], list[float]]:
    """Names, parents and whole µs of all frames; the first is the root, its own parent."""
    names, parents, totals = [""], [0], [0.0]
    known: dict[tuple[int, str], int] = {}
    for flame in flames:
        at = 0
        totals[0] += flame.microseconds
        for name in flame.path:
            if (at, name) not in known:
                known[at, name] = len(names)
                names.append(name)
                parents.append(at)
                totals.append(0.0)
            at = known[at, name]
            totals[at] += flame.microseconds
    return names, parents, totals


def roofline_points(profile: Profile) -> tuple[RooflinePoint, ...]:
    """Stages, then the dearest kernels, as far as logarithmic axes have a place for them."""
    points = [point for point in profile.roofline.points if profile_tables.on_plot(point)] if profile.roofline else []
    kernels = sorted((p for p in points if p.kind != "stage"), key=lambda point: -point.measured_seconds)
    return (*(p for p in points if p.kind == "stage"), *kernels[:KERNEL_POINTS_MAX])


def _roofline(profile: Profile) -> dict[str, Any] | None:
    if profile.roofline is None:
        return None
    ceilings = profile.roofline.ceilings
    return {
        "bandwidth": ceilings.copy_bytes_per_second,
        "ceilings": [{"name": name, "rate": rate} for name, rate in ceilings.matmul_flops_per_second.items()],
        "dtype": profile.roofline.dtype,
        "points": [
            {
                "name": clipped(point.name),
                "kind": point.kind,
                "stage": point.stage,
                "intensity": point.intensity,
                "rate": point.operations_per_second,
                "measured": point.measured_seconds,
                "floor": point.floor_seconds,
                "limit": point.limit_share,
                "bound": point.bound,
            }
            for point in roofline_points(profile)
        ],
    }


def _gaps(profile: Profile) -> list[dict[str, Any]]:
    longest = [gap for gap in profile.gaps if gap.seconds > 0][:GAPS_MAX]
    return [
        {
            "start": gap.start_seconds,
            "seconds": gap.seconds,
            "host": gap.host_bound_seconds,
            "stage": gap.stage,
            "before": clipped(gap.before),
            "after": clipped(gap.after),
        }
        for gap in longest
    ]


def _memory(profile: Profile) -> dict[str, Any] | None:
    if profile.memory is None:
        return None
    timeline = [
        {"seconds": point.seconds, "bytes": point.allocated_bytes, "stage": point.stage}
        for point in thinned(profile.memory.timeline)
    ]
    parts = [{"name": part.name, "bytes": part.bytes} for part in profile.memory.breakdown if part.bytes > 0]
    return {"timeline": timeline, "parts": parts}
