"""When the device worked and when it waits, and for what."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ttsbench.instruments.driver import is_wait
from ttsbench.profiling.attribution import ABSENT, AttributedKernel, AttributedTrace
from ttsbench.profiling.families import readable
from ttsbench.profiling.trace import CALL, OP, Host
from ttsbench.records.profile_rows import UNATTRIBUTED, Gap

GAP_SECONDS_MIN = 1e-6
GAPS_MAX = 50


@dataclass(slots=True)
class Wait:
    """A time in which nothing ran, between two kernels; microseconds of the trace."""

    start: float
    end: float
    host_bound_seconds: float
    before: AttributedKernel
    after: AttributedKernel

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * 1e-6


def union_seconds(kernels: Iterable[AttributedKernel]) -> float:
    """Time in which any of them ran, counted once; they come by their start."""
    seconds, until = 0.0, float("-inf")
    for kernel in kernels:
        if kernel.event.end > until:
            seconds += kernel.event.end - max(kernel.event.start, until)
            until = kernel.event.end
    return seconds * 1e-6


def find_waits(attributed: AttributedTrace) -> list[Wait]:
    """All of them. Host-bound is the part before the launch of the kernel that ends it had returned."""
    host, waits = attributed.trace.host, list[Wait]()
    before: AttributedKernel | None = None
    for kernel in attributed.kernels:
        if before is not None and kernel.event.start > before.event.end:
            start, end = before.event.end, kernel.event.start
            launched = host[kernel.launch].end if kernel.launch != ABSENT else start
            waits.append(Wait(start, end, max(0.0, min(launched, end) - start) * 1e-6, before, kernel))
        if before is None or kernel.event.end > before.event.end:
            before = kernel
    return waits


def largest_gaps(attributed: AttributedTrace, waits: Sequence[Wait]) -> tuple[Gap, ...]:
    if not waits:
        return ()
    first = attributed.kernels[0].event.start
    chosen = sorted(waits, key=lambda wait: -wait.seconds)[:GAPS_MAX]
    host = _HostActivity(attributed.trace.host)
    return tuple(
        Gap(
            start_seconds=(wait.start - first) * 1e-6,
            seconds=wait.seconds,
            host_bound_seconds=wait.host_bound_seconds,
            stage=wait.after.stage or UNATTRIBUTED,
            before=readable(wait.before.event.name),
            after=readable(wait.after.event.name),
            host=host.during(wait.start, wait.end),
        )
        for wait in chosen
    )


class _HostActivity:
    """What the host did: the ops and waits that nothing else of the kind encloses."""

    def __init__(self, host: Sequence[Host]) -> None:
        self._events: list[Host] = []
        until: dict[object, float] = {}
        for event in host:
            counts = event.kind == OP or (event.kind == CALL and is_wait(event.name))
            if counts and event.start >= until.get(event.thread, float("-inf")):
                self._events.append(event)
                until[event.thread] = event.end
        self._ends = [event.end for event in self._events]

    def during(self, start: float, end: float) -> str:
        """What took most of it; Python, where no op did."""
        seconds: dict[str, float] = {}
        for event in self._events[bisect_left(self._ends, start) :]:
            if event.start >= end:
                break
            overlap = min(event.end, end) - max(event.start, start)
            seconds[event.name] = seconds.get(event.name, 0.0) + max(0.0, overlap)
        seconds["Python between ops"] = (end - start) - sum(seconds.values())
        return max(seconds, key=lambda name: seconds[name])
