"""From what allocators recorded to a timeline, a breakdown and a peak for each stage."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ttsbench.records.profile_rows import MemoryPart, MemoryPoint, ProfileMemory, thinned

# Actions of the caching allocator's history that change what is allocated.
TAKEN, GIVEN_BACK = "alloc", "free_completed"
DEFAULT_POOL = (0, 0)

Changes = Sequence[tuple[float, int]]
Marks = Sequence[tuple[float, str]]


def from_snapshot(
    snapshot: Mapping[str, Any], marks: Marks, *, allocated_bytes: int, weights_bytes: int, kv_cache_bytes: int | None
) -> ProfileMemory:
    """Of a CUDA device. Marks are in microseconds of the history's clock; `allocated_bytes` is what was held at the
    first of them."""
    history = [event for events in snapshot.get("device_traces", ()) for event in events]
    signs = {TAKEN: 1, GIVEN_BACK: -1}
    changes = sorted((e["time_us"], signs[e["action"]] * e["size"]) for e in history if e["action"] in signs)
    segments = snapshot.get("segments", ())
    pools = [s for s in segments if tuple(s.get("segment_pool_id", DEFAULT_POOL)) != DEFAULT_POOL]
    parts = {
        "weights": weights_bytes,
        "kv_cache": kv_cache_bytes or 0,
        "graph_pools": sum(segment["total_size"] for segment in pools),
    }
    # What a graph allocates and frees while it is captured stays its pool's, and counts as allocated no more.
    allocated_elsewhere = parts["graph_pools"] - sum(segment["allocated_size"] for segment in pools)
    reserved = sum(segment["total_size"] for segment in segments)
    return _memory(changes, marks, allocated_bytes, parts, allocated_elsewhere, reserved)


def from_changes(changes: Changes, marks: Marks, *, weights_bytes: int, kv_cache_bytes: int | None) -> ProfileMemory:
    """Of a CPU: weights are what the modules hold, the rest is what was allocated since the first mark."""
    parts = {"weights": weights_bytes, "kv_cache": kv_cache_bytes or 0}
    return _memory(changes, marks, weights_bytes, parts, 0, None)


def _memory(
    changes: Changes, marks: Marks, held: int, parts: dict[str, int], allocated_elsewhere: int, reserved: int | None
) -> ProfileMemory:
    points = timeline(changes, marks, held)
    peak = max((point.allocated_bytes for point in points), default=held)
    whole = peak + allocated_elsewhere
    # A cache that grows is gone again where S3Gen's peak is.
    parts["kv_cache"] = min(parts["kv_cache"], max(0, whole - sum(parts.values()) + parts["kv_cache"]))
    parts["activations"] = max(0, whole - sum(parts.values()))
    return ProfileMemory(
        peak_bytes=peak,
        breakdown=tuple(MemoryPart(name, size) for name, size in parts.items() if size),
        stage_peaks=stage_peaks(points),
        timeline=thinned(tuple(points)),
        reserved_bytes=reserved,
    )


def timeline(changes: Changes, marks: Marks, held: int) -> list[MemoryPoint]:
    """What was allocated after each change within the window, and at its beginning."""
    if len(marks) < 2:
        return []
    first, last = marks[0][0], marks[-1][0]
    points, moments = [MemoryPoint(0.0, held, marks[0][1])], [moment for moment, _ in marks]
    for moment, change in changes:
        if first <= moment < last:
            held += change
            stage = marks[bisect_right(moments, moment) - 1][1]
            points.append(MemoryPoint((moment - first) * 1e-6, held, stage))
    return points


def stage_peaks(points: Sequence[MemoryPoint]) -> dict[str, int]:
    """Per stage; what was held when it began counts."""
    peaks: dict[str, int] = {}
    before = points[0].allocated_bytes if points else 0
    for point in points:
        peaks[point.stage] = max(peaks.get(point.stage, before), point.allocated_bytes)
        before = point.allocated_bytes
    return peaks
