"""The four questions that a profile is asked, answered in words."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from ttsbench.records.profile_rows import RooflinePoint
from ttsbench.records.profiles import Finding, Profile
from ttsbench.reports.tables.profile_tables import own_seconds
from ttsbench.reports.tables.table import FORMS

# From here on the device's work is most of what there is to shorten.
BUSY_ENOUGH = 0.7
MOST = 0.5
NAMED_STAGES = 3


@dataclass(frozen=True)
class Answer:
    """One question of the four; `detail` is what the headline rests on."""

    id: str
    question: str
    headline: str
    detail: str


def answers(profile: Profile) -> tuple[Answer, ...]:
    return (
        Answer("time", "What takes the time?", *_time(profile)),
        Answer("where", "GPU or host?", *_where(profile)),
        Answer("limit", "How far from the limit?", *_limit(profile)),
        Answer("first", "What to change first?", *_first(profile)),
    )


def unprofiled_wall_seconds(profile: Profile) -> float:
    return statistics.median(profile.header.unprofiled_wall_seconds)


def _void(profile: Profile) -> tuple[str, str]:
    """The headline and detail in the place of what rests on the walls without the profiler."""
    return "Void", void_shares(profile)


def void_shares(profile: Profile) -> str:
    """Why no share of the wall is to be trusted; empty where they are."""
    if not profile.header.shares_void:
        return ""
    return (
        f"The window took {profile.header.inflation:.2f}× as long with the profiler as without it: something else "
        "slowed down the passes without it, and shares of the wall are void. Profile again on a quiet machine"
    )


def _time(profile: Profile) -> tuple[str, str]:
    if profile.header.shares_void:
        return _void(profile)
    dearest = sorted(profile.stages, key=lambda stage: -stage.share)[:NAMED_STAGES]
    if not dearest:
        return "No stage was seen", ""
    first, *others = dearest
    then = [f"{stage.name} {stage.share:.1%}" for stage in others if stage.share >= 0.001]
    parts = [f"then {' and '.join(then)}"] if then else []
    if profile.families:
        kinds = ", ".join(f"{family.name} {family.share:.0%}" for family in profile.families[:NAMED_STAGES])
        parts.append(f"of the kernels' time: {kinds}")
    elif profile.ops:
        own = own_seconds(profile)
        whole = sum(own(op) for op in profile.ops) or 1.0
        named = ", ".join(
            f"{op.name.removeprefix('aten::')} {own(op) / whole:.0%}" for op in profile.ops[:NAMED_STAGES]
        )
        parts.append(f"of the ops' time: {named}")
    wall = f"{milliseconds(first.seconds)} of {milliseconds(unprofiled_wall_seconds(profile))}"
    return f"{first.name}: {first.share:.1%}", "; ".join([wall, *parts])


def _where(profile: Profile) -> tuple[str, str]:
    if profile.header.shares_void:
        return _void(profile)
    if not profile.header.on_gpu:
        return "The host", "there is no GPU here: ops run where they are called"
    busy = sum(stage.busy_seconds for stage in profile.stages)
    idle = sum(stage.idle_seconds for stage in profile.stages)
    waiting = sum(stage.host_bound_seconds for stage in profile.stages)
    span = busy + idle
    if not span:
        return "The host", "no kernel ran on the device"
    # The profiler slows the host only, so the device's seconds hold without it and the share of the wall is that of a
    # plain call.
    share = min(1.0, busy / unprofiled_wall_seconds(profile))
    profiled = f"profiled: busy {busy / span:.0%}, waiting for a launch {waiting / span:.0%}, otherwise idle "
    detail = f"kernels fill {share:.0%} of the wall without the profiler; {profiled}{(idle - waiting) / span:.0%}"
    if share >= BUSY_ENOUGH:
        return "The GPU", detail
    apart = [stage for stage in profile.stages if not stage.busy_seconds + stage.idle_seconds]
    if (without := sum(stage.share for stage in apart)) >= MOST:
        named = " and ".join(stage.name for stage in sorted(apart, key=lambda stage: -stage.share)[:NAMED_STAGES])
        return "The host", f"{without:.0%} of the wall is {named}, where nothing runs on the GPU; {detail}"
    return ("The host" if waiting > idle / 2 else "Neither: the GPU idles with work launched"), detail


def _limit(profile: Profile) -> tuple[str, str]:
    if profile.header.shares_void:
        return _void(profile)
    points = [point for point in profile.roofline.points if point.kind == "stage"] if profile.roofline else []
    if not points:
        return "Not measured", "the run has no bandwidth and matrix rate to hold the stages against"
    floor, wall = sum(point.floor_seconds for point in points), unprofiled_wall_seconds(profile)
    if not floor:
        return "Not known", "no stage's bytes and operations could be counted"
    dearest = sorted(points, key=lambda point: -point.measured_seconds)[:NAMED_STAGES]
    whole = f"bytes and operations allow {milliseconds(floor)}, the wall is {milliseconds(wall)}"
    return f"{times(wall / floor)} the floor", "; ".join([whole, *map(_against_limit, dearest)])


def milliseconds(seconds: float) -> str:
    """As it reads in a sentence."""
    return f"{seconds * 1e3:,.{0 if seconds >= 0.1 else 1 if seconds >= 0.01 else 2}f} ms"


def times(factor: float) -> str:
    """A factor with as many digits as it can carry."""
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.1f}×"


def _against_limit(point: RooflinePoint) -> str:
    return f"{point.name} at {point.limit_share:.1%}, {point.bound}-bound"


def _first(profile: Profile) -> tuple[str, str]:
    if not profile.findings:
        return "Nothing stands out", f"{len(profile.looked_for)} known faults were looked for and not found"
    return profile.findings[0].headline, profile.findings[0].advice


def evidence(finding: Finding) -> list[tuple[str, str]]:
    """Name and value; the unit at the end of a name decides how the value is written."""
    return [_evidence(name, value) for name, value in finding.evidence.items()]


# The end of a name, the form of its value, and the unit to write behind it.
LONE_UNITS = {"seconds": "time", "ms": "time", "us": "time", "share": "share", "bytes": "size"}
EVIDENCE_UNITS = (
    ("seconds", FORMS["ms3"], " ms"),
    ("ms", "{:,.3f}".format, " ms"),
    ("us", "{:,.1f}".format, " µs"),
    ("share", FORMS["share"], ""),
    ("bytes", FORMS["MiB"], " MiB"),
)


def _evidence(name: str, value: Any) -> tuple[str, str]:
    words = name.split("_")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for ending, form, unit in EVIDENCE_UNITS:
            if ending in words:
                kept = " ".join(word for word in words if word != ending)
                return kept or LONE_UNITS[ending], form(value) + unit
        return " ".join(words), f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value)) or "none"
    elif isinstance(value, dict):
        value = ", ".join(f"{key} {entry}" for key, entry in value.items())
    return " ".join(words), str(value)
