"""What the page's plots draw: the profile's figures as plain data, thinned to what an eye can tell apart."""

from __future__ import annotations

from typing import Any

from ttsbench.records import measurements
from ttsbench.records.profile_rows import RooflinePoint, thinned
from ttsbench.records.profiles import Profile
from ttsbench.reports.pages.templates import clipped
from ttsbench.reports.tables import profile_tables

KERNEL_POINTS_MAX = 40
# Colours stand in the page's style sheet under these names; what has none there shares that of `other`.
COLOURED_STAGES = (*measurements.STAGES, measurements.RESIDUAL)


def colour(stage: str) -> str:
    return stage if stage in COLOURED_STAGES else "other"


def data(profile: Profile) -> dict[str, Any]:
    stages = [stage.name for stage in profile.stages]
    points = profile.roofline.points if profile.roofline else ()
    return {
        "on_gpu": profile.header.on_gpu,
        "colours": {name: colour(name) for name in dict.fromkeys([*stages, *(point.stage for point in points)])},
        "stages": _stages(profile),
        "roofline": _roofline(profile),
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


def _memory(profile: Profile) -> dict[str, Any] | None:
    if profile.memory is None:
        return None
    timeline = [
        {"seconds": point.seconds, "bytes": point.allocated_bytes, "stage": point.stage}
        for point in thinned(profile.memory.timeline)
    ]
    parts = [{"name": part.name, "bytes": part.bytes} for part in profile.memory.breakdown if part.bytes > 0]
    return {"timeline": timeline, "parts": parts}
