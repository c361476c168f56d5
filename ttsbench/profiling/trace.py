"""A recorded Chrome trace as events of two clocks that agree: what the host did, and what ran on the device.

Built from the trace that the profiler exports, since it alone says of each event what kind it is. Times are
microseconds. The stages of the window stand in it as marks, which are annotations without a length.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

MARK = "ttsbench.stage: "
MODULE = "ttsbench.module: "
STEP = "ProfilerStep#"
END = "end"

OP, MODULE_KIND, CALL, PYTHON = "op", "module", "call", "python"
KERNEL, COPY, FILL = "kernel", "copy", "fill"
# Chrome trace category → what it is to us.
HOST_KINDS = {"cpu_op": OP, "cuda_runtime": CALL, "cuda_driver": CALL, "python_function": PYTHON}
DEVICE_KINDS = {"kernel": KERNEL, "gpu_memcpy": COPY, "gpu_memset": FILL}


@dataclass(slots=True)
class Host:
    """An operator, a module's forward, a call of the driver, or a Python function."""

    kind: str
    name: str
    start: float
    end: float
    thread: Any = 0
    correlation: int | None = None
    external: int | None = None
    shapes: tuple[Any, ...] = ()
    dtypes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    # A part of a module's forward that goes on over the beginning of a stage; one of the parts is the call.
    part: bool = False

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * 1e-6


@dataclass(slots=True)
class Device:
    """A kernel, a copy or a fill, on a stream."""

    kind: str
    name: str
    start: float
    end: float
    stream: Any = 0
    correlation: int | None = None
    external: int | None = None
    bytes: int = 0

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * 1e-6


@dataclass(slots=True)
class Trace:
    """One window: events by their start, and where its stages begin; `end` closes the last one."""

    host: list[Host] = field(default_factory=list)
    device: list[Device] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    # What the allocator handed out (or took back, negative), by moment; only where memory was asked for.
    allocations: list[tuple[float, int]] = field(default_factory=list)
    # Of every kernel and copy that the profiler recorded from the first mark on, whatever became of it here.
    recorded_device_seconds: float = 0.0

    def __post_init__(self) -> None:
        """By start, what encloses before what is enclosed."""
        self.host.sort(key=lambda event: (event.start, -event.end))
        self.device.sort(key=lambda event: (event.start, event.end))
        self.marks.sort()

    def stage_at(self, moment: float) -> str | None:
        """The stage that the host was in; None before the first mark and after the last."""
        position = bisect_right(self.marks, (moment, chr(0x10FFFF))) - 1
        stage = self.marks[position][1] if position >= 0 else END
        return None if stage == END else stage

    @property
    def start(self) -> float:
        return self.marks[0][0]

    @property
    def end(self) -> float:
        return self.marks[-1][0]

    def stage_walls(self) -> dict[str, float]:
        """Seconds of the host in each stage; they add up to the window."""
        walls: dict[str, float] = {}
        for (began, stage), (ended, _) in pairwise(self.marks):
            if stage != END:
                walls[stage] = walls.get(stage, 0.0) + (ended - began) * 1e-6
        return walls


def parse(chrome: Mapping[str, Any]) -> Trace:
    """The window between the first mark and the last; what was before and after is left out."""
    events: Sequence[Mapping[str, Any]] = chrome.get("traceEvents", ())
    marks = _marks(events)
    if len(marks) < 2:
        return Trace(marks=marks)
    first, last = marks[0][0], marks[-1][0]
    trace = Trace(marks=marks)
    for event in events:
        category, start = event.get("cat"), event.get("ts", 0.0)
        if category == "cpu_instant_event" and event.get("name") == "[memory]" and first <= start <= last:
            trace.allocations.append((start, int(event["args"].get("Bytes", 0))))
        if event.get("ph") != "X" or "ts" not in event:
            continue
        if category in DEVICE_KINDS:
            trace.device.append(_device(event))
        elif first <= start < last and (host := _host(event)) is not None:
            trace.host += _split(host, marks) if host.kind in (MODULE_KIND, PYTHON) else [host]
    trace.recorded_device_seconds = sum(event.seconds for event in trace.device if event.end > first)
    # Kernels run after the host has gone on: those count that were launched in the window, whenever they ran.
    elsewhere = _launched_elsewhere(events, first, last)
    trace.device = [event for event in trace.device if event.correlation not in elsewhere and event.end > first]
    trace.__post_init__()
    trace.allocations.sort()
    return trace


def _marks(events: Iterable[Mapping[str, Any]]) -> list[tuple[float, str]]:
    named = (event for event in events if event.get("cat") == "user_annotation")
    return sorted((e["ts"], e["name"].removeprefix(MARK)) for e in named if e["name"].startswith(MARK))


def _host(event: Mapping[str, Any]) -> Host | None:
    name, kind = event["name"], HOST_KINDS.get(event.get("cat", ""))
    if event.get("cat") == "user_annotation" and name.startswith(MODULE):
        kind, name = MODULE_KIND, name.removeprefix(MODULE)
    if kind is None:
        return None
    arguments = event.get("args", {})
    return Host(
        kind,
        name,
        event["ts"],
        event["ts"] + event.get("dur", 0.0),
        event.get("tid", 0),
        arguments.get("correlation"),
        arguments.get("External id"),
        tuple(arguments.get("Input Dims", ())),
        tuple(arguments.get("Input type", ())),
        tuple(map(str, arguments.get("Concrete Inputs", ()))),
    )


def _split(event: Host, marks: Sequence[tuple[float, str]]) -> list[Host]:
    """At the marks within it, so that each part lies in one stage; the longest stands for the call."""
    inside = [moment for moment, _ in marks if event.start < moment < event.end]
    if not inside:
        return [event]
    edges = [event.start, *inside, event.end]
    parts = [replace(event, start=a, end=b, part=True) for a, b in pairwise(edges)]
    max(parts, key=lambda part: part.end - part.start).part = False
    return parts


def _device(event: Mapping[str, Any]) -> Device:
    arguments = event.get("args", {})
    return Device(
        DEVICE_KINDS[event["cat"]],
        event["name"],
        event["ts"],
        event["ts"] + event.get("dur", 0.0),
        arguments.get("stream", event.get("tid", 0)),
        arguments.get("correlation"),
        arguments.get("External id"),
        int(arguments.get("bytes", 0)),
    )


def _launched_elsewhere(events: Iterable[Mapping[str, Any]], first: float, last: float) -> set[int]:
    """Correlations of the calls outside the window. What is known of no call at all stays in, and counts as such."""
    calls = (event for event in events if event.get("cat") in ("cuda_runtime", "cuda_driver") and "ts" in event)
    outside = (event for event in calls if not first <= event["ts"] < last)
    return {number for event in outside if (number := event.get("args", {}).get("correlation")) is not None}
