"""A profile's tables, column by column: what the console, the documents and the page all draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ttsbench.records.profile_rows import MISMATCH_MAX, UNATTRIBUTED, KernelRow, Op, RooflinePoint, Stage
from ttsbench.records.profiles import Profile
from ttsbench.reports.tables.table import FORMS, Column, Table, of_field, ratio_of

SUM = "sum"


def _field(label: str, name: str, unit: str = "text", hint: str = "") -> Column:
    return Column(label, of_field(name), unit, hint)


def stages(profile: Profile) -> Table:
    columns = [
        _field("stage", "name"),
        Column(
            "share",
            lambda stage: None if profile.header.shares_void else stage.share,
            "share",
            "of the wall without the profiler",
        ),
        _field("ms", "seconds", "ms", "without the profiler; between events on the stream where there is one"),
        _field("profiled ms", "wall_seconds", "ms", "while the profiler watched"),
    ]
    if profile.header.on_gpu:
        columns += [
            _field("busy ms", "busy_seconds", "ms", "the device ran a kernel or a copy"),
            _field("idle ms", "idle_seconds", "ms", "the device ran nothing"),
            _field("host-bound ms", "host_bound_seconds", "ms", "idle with the next kernel not launched yet"),
            _field("launches", "launches", "count"),
            _field("graphs", "graph_launches", "count", "replays of CUDA graphs"),
            _field("syncs", "syncs", "count", "times the host waited for the device"),
            _field("copies", "copies", "count"),
            _field("kernels", "kernels", "count"),
        ]
    if any(stage.peak_memory_bytes is not None for stage in profile.stages):
        columns.append(_field("peak MiB", "peak_memory_bytes", "MiB"))
    return Table("Stages", tuple(columns), profile.stages, total=_sum(profile.stages), id="stages")


def _sum(stages: Sequence[Stage]) -> Stage | None:
    """What adds up is added; of peaks the highest."""
    if not stages:
        return None
    added = (
        "wall_seconds", "unprofiled_wall_seconds", "share", "busy_seconds", "idle_seconds", "host_bound_seconds",
        "launches", "graph_launches", "syncs", "copies", "kernels",
    )  # fmt: skip
    peaks = [stage.peak_memory_bytes for stage in stages if stage.peak_memory_bytes is not None]
    sums = {name: sum(getattr(stage, name) for stage in stages) for name in added}
    return replace(stages[0], name=SUM, peak_memory_bytes=max(peaks, default=None), **sums)


def decode(profile: Profile) -> Table:
    step, on_gpu = profile.decode, profile.header.on_gpu
    rows: list[tuple[str, str]] = []
    if step:
        device = [
            ("device busy, ms", FORMS["ms3"](step.busy_seconds)),
            ("device idle, ms", FORMS["ms3"](step.idle_seconds)),
            ("of it host-bound, ms", FORMS["ms3"](step.host_bound_seconds)),
            ("kernel launches", FORMS["per step"](step.launches)),
            ("graph launches", FORMS["per step"](step.graph_launches)),
            ("kernels run", FORMS["per step"](step.kernels)),
            ("syncs", FORMS["per step"](step.syncs)),
            ("copies", FORMS["per step"](step.copies)),
            ("gaps of 1 µs or more", FORMS["per step"](step.gaps)),
        ]
        rows = [
            ("wall, ms", FORMS["ms3"](step.unprofiled_wall_seconds)),
            ("wall while profiled, ms", FORMS["ms3"](step.wall_seconds)),
            *(device if on_gpu else []),
            ("operators", FORMS["per step"](step.operators)),
        ]
    columns = (Column("of one step", lambda row: row[0]), Column("value", lambda row: row[1]))
    return Table(f"A decode step, of {step.steps:,}" if step else "A decode step", columns, tuple(rows), id="decode")


def families(profile: Profile) -> Table:
    columns = (
        _field("family", "name"),
        _field("share", "share", "share", "of the sum of all kernels' seconds"),
        _field("ms", "seconds", "ms"),
        _field("calls", "calls", "count"),
    )
    return Table("Kernel families", columns, profile.families, id="families")


def ops(profile: Profile) -> Table:
    """PyTorch's operators; the share is of the self time of all, the device's where there is one."""
    own = own_seconds(profile)
    whole = sum(own(op) for op in profile.ops)
    columns = (
        _field("op", "name"),
        Column("share", ratio_of(own, lambda _: whole), "share", "of the self time of all ops"),
        _field("calls", "calls", "count"),
        *_times(profile),
    )
    return Table("Ops", columns, profile.ops, detail=lambda op: _shapes(op, own), id="ops")


def _shapes(op: Op, own: Callable[[Any], float]) -> tuple[str, ...]:
    return tuple(f"{shape.shapes}: {shape.calls:,} calls, {FORMS['ms3'](own(shape))} ms" for shape in op.shapes)


def own_seconds(profile: Profile) -> Callable[[Any], float]:
    return of_field("self_device_seconds" if profile.header.on_gpu else "self_host_seconds")


def _times(profile: Profile) -> tuple[Column, ...]:
    host = (
        _field("self host ms", "self_host_seconds", "ms3", "without what it called"),
        _field("total host ms", "total_host_seconds", "ms3", "with what it called"),
    )
    device = (
        _field("self device ms", "self_device_seconds", "ms3", "kernels that it launched itself"),
        _field("total device ms", "total_device_seconds", "ms3", "with those of what it called"),
    )
    return (*device, *host) if profile.header.on_gpu else host


def modules(profile: Profile) -> Table:
    columns = (
        _field("module", "path"),
        _field("class", "class_name"),
        _field("stage", "stage"),
        _field("calls", "calls", "count"),
        *_times(profile),
    )
    return Table("Modules", columns, profile.modules, id="modules")


def kernels(profile: Profile) -> Table:
    whole = sum(kernel.seconds for kernel in profile.kernels)
    columns = (
        _field("kernel", "readable"),
        Column("share", ratio_of(of_field("seconds"), lambda _: whole), "share", "of the sum of all kernels' seconds"),
        _field("ms", "seconds", "ms3"),
        _field("calls", "calls", "count"),
        Column("µs each", ratio_of(of_field("seconds"), of_field("calls")), "us"),
        _field("replayed", "replayed", "count", "runs out of a CUDA graph"),
        Column("GB/s", lambda row: row.bytes / row.seconds if row.bytes and row.seconds else None, "GB/s"),
        _field("family", "family"),
        _field("stage", "stage"),
        Column("op", _attributed("op")),
        Column("module", _attributed("module")),
    )
    return Table("Kernels", columns, profile.kernels, detail=_raw_name, id="kernels")


def _raw_name(kernel: KernelRow) -> tuple[str, ...]:
    return () if kernel.name == kernel.readable else (kernel.name,)


def _attributed(name: str) -> Callable[[Any], str | None]:
    return lambda row: None if getattr(row, name) == UNATTRIBUTED else getattr(row, name)


def roofline(profile: Profile) -> Table:
    columns = (
        _field("what", "name"),
        _field("kind", "kind"),
        _field("stage", "stage"),
        _field("measured ms", "measured_seconds", "ms3"),
        _field("floor ms", "floor_seconds", "ms3", "the least that bytes and operations allow"),
        _field("of the limit", "limit_share", "share", "floor over measured"),
        _field("bound by", "bound"),
        Column("FLOP/byte", lambda point: point.intensity if point.bytes else None, "ratio"),
        _field("TFLOP/s", "operations_per_second", "TFLOP/s"),
        Column("GB/s", ratio_of(of_field("bytes"), of_field("measured_seconds")), "GB/s"),
    )
    recorded = profile.roofline
    return Table("Against the limit", columns, recorded.points if recorded else (), ceilings(profile), id="roofline")


def ceilings(profile: Profile) -> tuple[str, ...]:
    if profile.roofline is None:
        return ()
    measured, dtype = profile.roofline.ceilings, profile.roofline.dtype
    rates = ", ".join(f"{name} {FORMS['TFLOP/s'](rate)}" for name, rate in measured.matmul_flops_per_second.items())
    limits = (
        f"measured in this run: copy {FORMS['GB/s'](measured.copy_bytes_per_second)} GB/s, matmul TFLOP/s {rates}; "
        f"floors are those of {dtype}"
    )
    return limits, f"bytes and operations are known for {profile.roofline.counted_share:.1%} of the ops' time"


def on_plot(point: RooflinePoint) -> bool:
    """A logarithmic plot has no place for what computes nothing or moves nothing."""
    return point.bytes > 0 and point.operations > 0 and point.measured_seconds > 0


def gaps(profile: Profile) -> Table:
    columns = (
        _field("stage", "stage"),
        _field("µs", "seconds", "us"),
        Column("host-bound", ratio_of(of_field("host_bound_seconds"), of_field("seconds")), "share"),
        _field("at ms", "start_seconds", "ms3", "after the window's first kernel"),
        _field("ran before", "before"),
        _field("ended by", "after"),
        Column("the host did", lambda gap: gap.host or None),
    )
    return Table("Gaps", columns, profile.gaps, id="gaps")


def memory(profile: Profile) -> Table:
    recorded = profile.memory
    columns = (
        _field("part", "name"),
        _field("MiB", "bytes", "MiB"),
        Column("of the peak", ratio_of(of_field("bytes"), lambda _: recorded.peak_bytes if recorded else 0), "share"),
    )
    return Table("Memory", columns, recorded.breakdown if recorded else (), memory_totals(profile), id="memory")


def memory_totals(profile: Profile) -> tuple[str, ...]:
    recorded = profile.memory
    if recorded is None:
        return ()
    reserved = recorded.reserved_bytes
    peak = f"peak {FORMS['MiB'](recorded.peak_bytes)} MiB allocated"
    return (peak,) if reserved is None else (peak, f"{FORMS['MiB'](reserved)} MiB reserved")


def coverage(profile: Profile) -> Table:
    columns = (
        _field("attributed to", "level"),
        _field("share", "share", "share", "of the device's time"),
        _field("ms", "attributed_seconds", "ms"),
        _field("of ms", "total_seconds", "ms"),
        _field("through the twin ms", "twin_seconds", "ms", "by an eager twin of the same stack"),
    )
    return Table("Coverage", columns, profile.coverage if profile.header.on_gpu else (), id="coverage")


def reconciliation(profile: Profile) -> Table:
    columns = (
        _field("table", "table"),
        _field("table ms", "table_seconds", "ms"),
        _field("raw ms", "raw_seconds", "ms"),
        _field("mismatch", "mismatch", "share"),
        Column("verdict", lambda row: f"above {MISMATCH_MAX:.0%}" if row.flagged else "agrees"),
    )
    return Table("Reconciliation", columns, profile.reconciliation, id="reconciliation")
