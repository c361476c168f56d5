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

NOBODY = -1
# The op of kernels that Python launches by itself, as Triton's are.
DIRECT = "launched by Python"

Places = dict[int | None, int]


@dataclass(slots=True)
class Nesting:
    """For each host event, by its place in the trace: who encloses it, and how long it ran itself."""

    parents: list[int]
    self_seconds: list[float]


def nest(host: Sequence[Host]) -> Nesting:
    """Thread by thread; events that overlap without one enclosing the other are taken to end with the outer one."""
    parents, seconds = [NOBODY] * len(host), [event.seconds for event in host]
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
class Ran:
    """One kernel or copy with all that is known of where it came from."""

    event: Device
    stage: str | None
    launch: int = NOBODY
    op: str | None = None
    op_place: int = NOBODY
    module: str | None = None
    replayed: bool = False
    by_twin: frozenset[str] = frozenset()  # which of op and module
    cost: Cost | None = None


@dataclass(slots=True)
class Attributed:
    trace: Trace
    nesting: Nesting
    stages: list[str | None]  # of each host event
    modules: list[int]  # of each host event: the innermost module that encloses it, or itself
    ran: list[Ran] = field(default_factory=list)


def attribute(trace: Trace, twin: Attributed | None = None) -> Attributed:
    """Everything of one window; `twin` is the same window of a stack without graphs and compilers."""
    nesting = nest(trace.host)
    found = Attributed(
        trace, nesting, [trace.stage_at(event.start) for event in trace.host], _modules(trace.host, nesting)
    )
    launches: Places = {event.correlation: place for place, event in enumerate(trace.host) if _launches(event)}
    numbered: Places = {event.external: place for place, event in enumerate(trace.host) if event.external is not None}
    found.ran = [_ran(event, found, launches, numbered) for event in trace.device]
    _place_between(found.ran)
    _share_costs(found)
    if twin is not None:
        lay_beside(found.ran, twin.ran)
    return found


def _launches(event: Host) -> bool:
    return event.kind == CALL and event.correlation is not None


def _modules(host: Sequence[Host], nesting: Nesting) -> list[int]:
    """Parents come before their children, so one pass is enough."""
    modules: list[int] = []
    for place, event in enumerate(host):
        parent = nesting.parents[place]
        modules.append(place if event.kind == MODULE_KIND else modules[parent] if parent != NOBODY else NOBODY)
    return modules


def _ran(event: Device, found: Attributed, launches: Places, numbered: Places) -> Ran:
    host, parents = found.trace.host, found.nesting.parents
    launch = launches.get(event.correlation, NOBODY)
    # A launch that was not recorded may still have left its op's number in the kernel.
    place = launch if launch != NOBODY else numbered.get(event.external, NOBODY)
    if place == NOBODY:
        return Ran(event, None)
    module = found.modules[place]
    ran = Ran(event, found.stages[place], launch, module=host[module].name if module != NOBODY else None)
    if is_graph_launch(host[place].name):
        ran.replayed, ran.module = True, None  # its module is the one that replays; those inside are the twin's to tell
        return ran
    while place != NOBODY and host[place].kind != OP:
        place = parents[place] if host[place].kind != MODULE_KIND else NOBODY
    ran.op, ran.op_place = (host[place].name, place) if place != NOBODY else (DIRECT, NOBODY)
    return ran


def _place_between(ran: Sequence[Ran]) -> None:
    """A stream runs in order: what runs between two kernels of one stage was launched in that stage."""
    streams: dict[object, list[Ran]] = defaultdict(list)
    for kernel in ran:
        streams[kernel.event.stream].append(kernel)
    for kernels in streams.values():
        known = [place for place, kernel in enumerate(kernels) if kernel.stage is not None]
        for first, last in pairwise(known):
            if kernels[first].stage == kernels[last].stage:
                for kernel in kernels[first + 1 : last]:
                    kernel.stage = kernels[first].stage


def _share_costs(found: Attributed) -> None:
    """An op's bytes and operations go to its kernels by the time they took."""
    kernels_of: dict[int, list[Ran]] = defaultdict(list)
    for ran in found.ran:
        if ran.event.kind == COPY:
            ran.cost = costs.of_copy(ran.event.name, ran.event.bytes)
        elif ran.op_place != NOBODY:
            kernels_of[ran.op_place].append(ran)
    for place, kernels in kernels_of.items():
        whole = costs.of_op(found.trace.host[place])
        seconds = sum(ran.event.seconds for ran in kernels)
        for ran in kernels:
            share = ran.event.seconds / seconds if seconds else 1 / len(kernels)
            ran.cost = whole and whole.times(share).in_precision_of(ran.event.name)


def lay_beside(ran: Sequence[Ran], twin: Sequence[Ran]) -> None:
    """Gives each kernel that has no op or no module what its counterpart has, where there are as many of its name."""
    ours, theirs = _by_stage_and_name(ran), _by_stage_and_name(twin)
    for key, kernels in ours.items():
        counterparts = theirs.get(key, [])
        if len(counterparts) != len(kernels):
            continue
        for kernel, other in zip(kernels, counterparts, strict=True):
            if kernel.op is None and other.op is not None:
                kernel.op, kernel.by_twin = other.op, kernel.by_twin | {"op"}
                kernel.cost = kernel.cost or other.cost
            if kernel.module is None and other.module is not None:
                kernel.module, kernel.by_twin = other.module, kernel.by_twin | {"module"}


def _by_stage_and_name(ran: Sequence[Ran]) -> dict[tuple[str | None, str], list[Ran]]:
    groups: dict[tuple[str | None, str], list[Ran]] = defaultdict(list)
    for kernel in ran:
        groups[kernel.stage, kernel.event.name].append(kernel)
    return groups
