"""Which launch, op, module and stage each kernel belongs to.

A kernel's launch is the call of the driver with its correlation; what encloses that call on its thread is the op and
the module. Kernels of a replayed graph all carry the correlation of the replay, whose stage is theirs; for op and
module they are laid beside the kernels of the same name and stage in an eager twin.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ttsbench.instruments.driver import is_graph_launch
from ttsbench.profiling import costs
from ttsbench.profiling.costs import Cost
from ttsbench.profiling.trace import CALL, COPY, MODULE_KIND, OP, Device, Host, Trace

ABSENT = -1
# The op of kernels that Python launches by itself, as Triton's are.
DIRECT = "launched by Python"

Places = dict[int | None, int]


@dataclass(slots=True)
class Nesting:
    """For each host event, by its place in the trace: who encloses it, and how long it kernel itself."""

    parents: list[int]
    self_seconds: list[float]


def nest(host: Sequence[Host]) -> Nesting:
    """Thread by thread; events that overlap without one enclosing the other are taken to end with the outer one."""
    parents, seconds = [ABSENT] * len(host), [event.seconds for event in host]
    open_on: dict[object, list[int]] = defaultdict(list)
    for place, event in enumerate(host):
        stack = open_on[event.thread]
        while stack and host[stack[-1]].end <= event.start:
            stack.pop()
        if stack:
            parents[place] = outer = stack[-1]
            seconds[outer] -= (min(event.end, host[outer].end) - event.start) * 1e-6
        stack.append(place)
    return Nesting(parents, [max(0.0, own) for own in seconds])


@dataclass(slots=True)
class AttributedKernel:
    """One kernel or copy with all that is known of where it came from."""

    event: Device
    stage: str | None
    launch: int = ABSENT
    op: str | None = None
    op_place: int = ABSENT
    module: str | None = None
    replayed: bool = False
    by_twin: frozenset[str] = frozenset()  # which of op and module
    cost: Cost | None = None


@dataclass(slots=True)
class AttributedTrace:
    trace: Trace
    nesting: Nesting
    stages: list[str | None]  # of each host event
    modules: list[int]  # of each host event: the innermost module that encloses it, or itself
    kernels: list[AttributedKernel] = field(default_factory=list)


def attribute(trace: Trace, twin: AttributedTrace | None = None) -> AttributedTrace:
    """Everything of one window; `twin` is the same window of a stack without graphs and compilers."""
    nesting = nest(trace.host)
    attributed = AttributedTrace(
        trace, nesting, [trace.stage_at(event.start) for event in trace.host], _modules(trace.host, nesting)
    )
    launches: Places = {event.correlation: place for place, event in enumerate(trace.host) if _launches(event)}
    numbered: Places = {event.external: place for place, event in enumerate(trace.host) if event.external is not None}
    attributed.kernels = [_attribute(event, attributed, launches, numbered) for event in trace.device]
    _fill_stages_between(attributed.kernels)
    _share_costs(attributed)
    if twin is not None:
        fill_from_twin(attributed.kernels, twin.kernels)
    return attributed


def _launches(event: Host) -> bool:
    return event.kind == CALL and event.correlation is not None


def _modules(host: Sequence[Host], nesting: Nesting) -> list[int]:
    """Parents come before their children, so one pass is enough."""
    modules: list[int] = []
    for place, event in enumerate(host):
        parent = nesting.parents[place]
        modules.append(place if event.kind == MODULE_KIND else modules[parent] if parent != ABSENT else ABSENT)
    return modules


def _attribute(event: Device, attributed: AttributedTrace, launches: Places, numbered: Places) -> AttributedKernel:
    host, parents = attributed.trace.host, attributed.nesting.parents
    launch = launches.get(event.correlation, ABSENT)
    # A launch that was not recorded may still have left its op's number in the kernel.
    place = launch if launch != ABSENT else numbered.get(event.external, ABSENT)
    if place == ABSENT:
        return AttributedKernel(event, None)
    module = attributed.modules[place]
    kernel = AttributedKernel(
        event, attributed.stages[place], launch, module=host[module].name if module != ABSENT else None
    )
    if is_graph_launch(host[place].name):
        kernel.replayed, kernel.module = (
            True,
            None,
        )  # its module is the one that replays; those inside are the twin's to tell
        return kernel
    while place != ABSENT and host[place].kind != OP:
        place = parents[place] if host[place].kind != MODULE_KIND else ABSENT
    kernel.op, kernel.op_place = (host[place].name, place) if place != ABSENT else (DIRECT, ABSENT)
    return kernel


def _fill_stages_between(kernels: Sequence[AttributedKernel]) -> None:
    """A stream runs in order: what runs between two kernels of one stage was launched in that stage."""
    streams: dict[object, list[AttributedKernel]] = defaultdict(list)
    for kernel in kernels:
        streams[kernel.event.stream].append(kernel)
    for in_order in streams.values():
        known = [place for place, kernel in enumerate(in_order) if kernel.stage is not None]
        for first, last in pairwise(known):
            if in_order[first].stage == in_order[last].stage:
                for kernel in in_order[first + 1 : last]:
                    kernel.stage = in_order[first].stage


def _share_costs(attributed: AttributedTrace) -> None:
    """An op's bytes and operations go to its kernels by the time they took."""
    kernels_of: dict[int, list[AttributedKernel]] = defaultdict(list)
    for kernel in attributed.kernels:
        if kernel.event.kind == COPY:
            kernel.cost = costs.of_copy(kernel.event.name, kernel.event.bytes)
        elif kernel.op_place != ABSENT:
            kernels_of[kernel.op_place].append(kernel)
    for place, kernels in kernels_of.items():
        whole = costs.of_op(attributed.trace.host[place])
        seconds = sum(kernel.event.seconds for kernel in kernels)
        for kernel in kernels:
            share = kernel.event.seconds / seconds if seconds else 1 / len(kernels)
            kernel.cost = whole and whole.times(share).in_precision_of(kernel.event.name)


def fill_from_twin(kernels: Sequence[AttributedKernel], twin: Sequence[AttributedKernel]) -> None:
    """Gives each kernel that has no op or no module what its counterpart has, where there are as many of its name."""
    ours, theirs = _by_stage_and_name(kernels), _by_stage_and_name(twin)
    for key, group in ours.items():
        counterparts = theirs.get(key, [])
        if len(counterparts) != len(group):
            continue
        for kernel, other in zip(group, counterparts, strict=True):
            if kernel.op is None and other.op is not None:
                kernel.op, kernel.by_twin = other.op, kernel.by_twin | {"op"}
                kernel.cost = kernel.cost or other.cost
            if kernel.module is None and other.module is not None:
                kernel.module, kernel.by_twin = other.module, kernel.by_twin | {"module"}


def _by_stage_and_name(kernels: Sequence[AttributedKernel]) -> dict[tuple[str | None, str], list[AttributedKernel]]:
    groups: dict[tuple[str | None, str], list[AttributedKernel]] = defaultdict(list)
    for kernel in kernels:
        groups[kernel.stage, kernel.event.name].append(kernel)
    return groups
