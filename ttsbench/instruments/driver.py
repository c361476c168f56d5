"""What a call of CUDA's runtime or driver is, by its name; the profiler shows both kinds, in many variants."""

from __future__ import annotations

LAUNCHES = ("LaunchKernel", "LaunchCooperativeKernel")
GRAPH_LAUNCHES = ("GraphLaunch",)
WAITS = ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize", "CtxSynchronize")


def is_launch(name: str) -> bool:
    return any(part in name for part in LAUNCHES)


def is_graph_launch(name: str) -> bool:
    return any(part in name for part in GRAPH_LAUNCHES)


def is_wait(name: str) -> bool:
    return any(part in name for part in WAITS)
