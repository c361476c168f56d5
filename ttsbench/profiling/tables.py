"""An attributed trace as the tables of a profile, each sorted with the dearest first."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ttsbench.instruments.driver import is_graph_launch, is_launch, is_wait
from ttsbench.profiling import families, timeline
from ttsbench.profiling.attribution import ABSENT, AttributedKernel, AttributedTrace
from ttsbench.profiling.timeline import GAP_SECONDS_MIN, Wait
from ttsbench.profiling.trace import CALL, COPY, MODULE_KIND, OP, Host
from ttsbench.records.profile_rows import (
    FAMILIES,
    UNATTRIBUTED,
    Coverage,
    DecodeSteps,
    KernelFamily,
    KernelRow,
    Module,
    Op,
    Reconciliation,
    ShapeCost,
    Stage,
)

SHAPES_MAX = 8
SHAPE_TEXT_MAX = 200


def stages(
    attributed: AttributedTrace,
    waits: Sequence[Wait],
    unprofiled: Mapping[str, float],
    peaks: Mapping[str, int],
    device: Mapping[str, float],
) -> tuple[Stage, ...]:
    """In the order in which the host came to them; last, and without a wall, what belongs to none."""
    walls, seconds = attributed.trace.stage_walls(), {**unprofiled, **device}
    whole = sum(seconds.values())
    of_stage, calls, idle = by_stage(attributed.kernels), driver_calls(attributed), idle_by_stage(waits)
    walls |= {name: 0.0 for name in of_stage if name not in walls}
    return tuple(
        Stage(
            name=name,
            wall_seconds=wall,
            unprofiled_wall_seconds=unprofiled.get(name, 0.0),
            share=seconds.get(name, 0.0) / whole if whole else 0.0,
            busy_seconds=timeline.union_seconds(of_stage[name]),
            idle_seconds=idle[name][0],
            host_bound_seconds=idle[name][1],
            launches=calls[name]["launches"],
            graph_launches=calls[name]["graph_launches"],
            syncs=calls[name]["syncs"],
            copies=sum(kernel.event.kind == COPY for kernel in of_stage[name]),
            kernels=len(of_stage[name]),
            peak_memory_bytes=peaks.get(name),
            unprofiled_device_seconds=device.get(name),
        )
        for name, wall in walls.items()
    )


def by_stage(kernels: Iterable[AttributedKernel]) -> dict[str, list[AttributedKernel]]:
    """Kernels and copies of each stage, by their start."""
    groups: dict[str, list[AttributedKernel]] = defaultdict(list)
    for kernel in kernels:
        groups[kernel.stage or UNATTRIBUTED].append(kernel)
    return groups


def idle_by_stage(waits: Iterable[Wait]) -> dict[str, tuple[float, float]]:
    """Seconds of waiting before the kernels of each stage, and how much of them for the host."""
    idle: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for wait in waits:
        name = wait.after.stage or UNATTRIBUTED
        idle[name] = (idle[name][0] + wait.seconds, idle[name][1] + wait.host_bound_seconds)
    return idle


def driver_calls(attributed: AttributedTrace) -> dict[str, Counter[str]]:
    """Launches, graph launches and waits of the host, by stage."""
    calls: dict[str, Counter[str]] = defaultdict(Counter)
    host, parents = attributed.trace.host, attributed.nesting.parents
    for event, stage, parent in zip(host, attributed.stages, parents, strict=True):
        inner = parent != ABSENT and host[parent].kind == CALL  # the runtime calls the driver
        if event.kind == CALL and stage is not None and not inner:
            calls[stage]["graph_launches"] += is_graph_launch(event.name)
            calls[stage]["launches"] += is_launch(event.name)
            calls[stage]["syncs"] += is_wait(event.name)
    return calls


@dataclass
class _OpSums:
    calls: int = 0
    self_host: float = 0.0
    total_host: float = 0.0
    self_device: float = 0.0
    total_device: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    shapes: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(lambda: [0, 0.0, 0.0]))


def ops(attributed: AttributedTrace) -> tuple[Op, ...]:
    """Operators and calls of the driver by name, as `key_averages` sums them."""
    host, nesting = attributed.trace.host, attributed.nesting
    self_device, total_device = _device_seconds_of_ops(attributed)
    sums: dict[str, _OpSums] = defaultdict(_OpSums)
    for place, event in enumerate(host):
        if event.kind not in (OP, CALL):
            continue
        row, stage = sums[event.name], attributed.stages[place] or UNATTRIBUTED
        parent = nesting.parents[place]
        once = parent == ABSENT or host[parent].name != event.name  # an op that calls itself is one
        row.calls += once
        row.stages[stage] += once
        row.self_host += nesting.self_seconds[place]
        row.total_host += event.seconds * once
        row.self_device += self_device.get(place, 0.0)
        row.total_device += total_device.get(place, 0.0) * once
        cost = row.shapes[stage, shapes_text(event.shapes)]
        cost[0] += once
        cost[1] += nesting.self_seconds[place]
        cost[2] += self_device.get(place, 0.0)
    for kernel in attributed.kernels:  # known from the twin, without a call in this trace, or not known at all
        if kernel.op_place == ABSENT:
            sums[kernel.op or UNATTRIBUTED].self_device += kernel.event.seconds
            sums[kernel.op or UNATTRIBUTED].total_device += kernel.event.seconds
    rows = (_op(name, row) for name, row in sums.items())
    return tuple(sorted(rows, key=lambda op: (-op.self_device_seconds, -op.self_host_seconds)))


def _device_seconds_of_ops(attributed: AttributedTrace) -> tuple[dict[int, float], dict[int, float]]:
    own: dict[int, float] = defaultdict(float)
    total: dict[int, float] = defaultdict(float)
    for kernel in attributed.kernels:
        if kernel.op_place == ABSENT:
            continue
        own[kernel.op_place] += kernel.event.seconds
        place = kernel.op_place
        while place != ABSENT:
            total[place] += kernel.event.seconds
            place = attributed.nesting.parents[place]
    return own, total


def _op(name: str, row: _OpSums) -> Op:
    dearest = sorted(row.shapes.items(), key=lambda item: (-item[1][2], -item[1][1]))[:SHAPES_MAX]
    return Op(
        name=name,
        calls=row.calls,
        self_host_seconds=row.self_host,
        total_host_seconds=row.total_host,
        self_device_seconds=row.self_device,
        total_device_seconds=row.total_device,
        shapes=tuple(
            ShapeCost(text, int(calls), host, device, stage) for (stage, text), (calls, host, device) in dearest
        ),
        stages=dict(row.stages),
    )


def shapes_text(shapes: Sequence[object]) -> str:
    """`[2, 16, 1, 64] [2, 16, 90, 64]`; an argument without a shape is `[]`, and trailing ones are left out."""
    parts = [str(shape) for shape in shapes]
    while parts and parts[-1] == "[]":
        parts.pop()
    return " ".join(parts)[:SHAPE_TEXT_MAX]


def modules(attributed: AttributedTrace, classes: Mapping[str, str]) -> tuple[Module, ...]:
    """Per module and stage; a module that only an eager twin called has its device seconds alone."""
    host = attributed.trace.host
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0, 0.0])
    for place, event in enumerate(host):
        if event.kind == MODULE_KIND:
            row = sums[event.name, attributed.stages[place] or UNATTRIBUTED]
            row[0] += not event.part
            row[2] += event.seconds
        if (module := attributed.modules[place]) != ABSENT:
            # An op's own time is its module's too, unless a module below it has it.
            sums[host[module].name, attributed.stages[module] or UNATTRIBUTED][1] += attributed.nesting.self_seconds[
                place
            ]
    for kernel in attributed.kernels:
        within, path = kernel.stage or UNATTRIBUTED, kernel.module or UNATTRIBUTED
        sums[path, within][3] += kernel.event.seconds
        for above in ancestors(path):
            if above in classes:
                sums[above, within][4] += kernel.event.seconds
    rows = (
        Module(path, classes.get(path, ""), stage, int(calls), own, total, own_device, total_device)
        for (path, stage), (calls, own, total, own_device, total_device) in sums.items()
    )
    return tuple(sorted(rows, key=lambda row: (-row.self_device_seconds, -row.self_host_seconds)))


def ancestors(path: str) -> Iterable[str]:
    """The path and all above it."""
    parts = path.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def kernels(attributed: AttributedTrace) -> tuple[KernelRow, ...]:
    """Per name and stage; op and module are those that most of its time went to, layers of one kind taken together."""
    groups: dict[tuple[str, str], list[AttributedKernel]] = defaultdict(list)
    for kernel in attributed.kernels:
        groups[kernel.event.name, kernel.stage or UNATTRIBUTED].append(kernel)
    rows = (_kernel(name, stage, group) for (name, stage), group in groups.items())
    return tuple(sorted(rows, key=lambda row: -row.seconds))


def _kernel(name: str, stage: str, kernels: Sequence[AttributedKernel]) -> KernelRow:
    costs = [kernel.cost for kernel in kernels]
    known = [cost for cost in costs if cost is not None]
    whole = len(known) == len(costs)
    return KernelRow(
        name=name,
        readable=families.readable(name),
        family=families.family(name),
        stage=stage,
        calls=len(kernels),
        seconds=sum(kernel.event.seconds for kernel in kernels),
        replayed=sum(kernel.replayed for kernel in kernels),
        bytes=round(sum(cost.bytes for cost in known)) if whole else None,
        operations=round(sum(cost.operations for cost in known)) if whole else None,
        op=_mostly((kernel.op, kernel.event.seconds) for kernel in kernels),
        module=_mostly((kernel.module and any_layer(kernel.module), kernel.event.seconds) for kernel in kernels),
    )


def any_layer(path: str) -> str:
    """`t3.tfmr.layers.*.mlp`."""
    return re.sub(r"\.\d+(?=\.|$)", ".*", path)


def _mostly(named: Iterable[tuple[str | None, float]]) -> str:
    seconds: dict[str, float] = defaultdict(float)
    for name, taken in named:
        seconds[name or UNATTRIBUTED] += taken
    return max(seconds, key=lambda name: seconds[name])


def in_families(rows: Sequence[KernelRow]) -> tuple[KernelFamily, ...]:
    whole = sum(row.seconds for row in rows)
    ordered = sorted(rows, key=lambda row: FAMILIES.index(row.family))
    groups = [(name, list(group)) for name, group in groupby(ordered, key=lambda row: row.family)]
    families_by_name = (
        KernelFamily(name, sum(row.calls for row in group), seconds, seconds / whole if whole else 0.0)
        for name, group in groups
        for seconds in [sum(row.seconds for row in group)]
    )
    return tuple(sorted(families_by_name, key=lambda row: -row.seconds))


def decode(
    attributed: AttributedTrace, table: Sequence[Stage], waits: Sequence[Wait], steps: int
) -> DecodeSteps | None:
    stage = next((row for row in table if row.name == "decode"), None)
    if stage is None or not steps:
        return None
    operators = sum(
        event.kind == OP and event.name.startswith("aten::") and at == "decode"
        for event, at in zip(attributed.trace.host, attributed.stages, strict=True)
    )
    gaps = sum(wait.after.stage == "decode" and wait.seconds >= GAP_SECONDS_MIN for wait in waits)
    return DecodeSteps(
        steps=steps,
        wall_seconds=stage.wall_seconds / steps,
        unprofiled_wall_seconds=stage.unprofiled_wall_seconds / steps,
        busy_seconds=stage.busy_seconds / steps,
        idle_seconds=stage.idle_seconds / steps,
        host_bound_seconds=stage.host_bound_seconds / steps,
        launches=stage.launches / steps,
        graph_launches=stage.graph_launches / steps,
        syncs=stage.syncs / steps,
        copies=stage.copies / steps,
        kernels=stage.kernels / steps,
        operators=operators / steps,
        gaps=gaps / steps,
    )


def reconcile(
    attributed: AttributedTrace, table: Sequence[Stage], op_rows: Sequence[Op], module_rows: Sequence[Module],
    kernel_rows: Sequence[KernelRow],
) -> tuple[Reconciliation, ...]:  # fmt: skip
    """Each table's sum against the raw intervals: what it leaves out or counts twice shows. Of stages the busy time."""
    raw = attributed.trace.recorded_device_seconds
    if not attributed.trace.device:
        covered = covered_seconds(attributed.trace.host)
        return (Reconciliation("ops", sum(row.self_host_seconds for row in op_rows), covered),)
    return (
        Reconciliation("stages", sum(row.busy_seconds for row in table), timeline.union_seconds(attributed.kernels)),
        Reconciliation("kernels", sum(row.seconds for row in kernel_rows), raw),
        Reconciliation("ops", sum(row.self_device_seconds for row in op_rows), raw),
        Reconciliation("modules", sum(row.self_device_seconds for row in module_rows), raw),
    )


def covered_seconds(host: Iterable[Host]) -> float:
    """Time of the host within operators and driver calls, thread by thread, none of it twice."""
    seconds, until = 0.0, defaultdict[object, float](lambda: float("-inf"))
    for event in host:
        if event.kind in (OP, CALL) and event.end > until[event.thread]:
            seconds += (event.end - max(event.start, until[event.thread])) * 1e-6
            until[event.thread] = event.end
    return seconds


def coverage(kernels: Sequence[AttributedKernel]) -> tuple[Coverage, ...]:
    total = sum(kernel.event.seconds for kernel in kernels)

    def row(level: str, has: Sequence[bool]) -> Coverage:
        known = [kernel for kernel, it_has in zip(kernels, has, strict=True) if it_has]
        twin = sum(kernel.event.seconds for kernel in known if level in kernel.by_twin)
        return Coverage(level, sum(kernel.event.seconds for kernel in known), total, twin)

    return (
        row("stage", [kernel.stage is not None for kernel in kernels]),
        row("op", [kernel.op is not None for kernel in kernels]),
        row("module", [kernel.module is not None for kernel in kernels]),
    )
