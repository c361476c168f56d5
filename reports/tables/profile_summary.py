"""A profile on a terminal: where the time goes in 80 columns, and what to change first."""

from __future__ import annotations

from ttsbench.records.profile_rows import Op
from ttsbench.records.profiles import Profile
from ttsbench.reports.tables import profile_answers, profile_text
from ttsbench.reports.tables.table import Table

OPS_MAX = 10
SHARE_MIN = 0.001
EVIDENCE_TEXT_MAX = 160


def lede(profile: Profile) -> list[str]:
    """What was profiled, and what watching it cost."""
    header, window = profile.header, profile.header.window
    calls = "one call" if window.s3gen_calls == 1 else f"{window.s3gen_calls} calls"
    walls = (
        f"{_ms(profile_answers.unprofiled_wall_seconds(profile))} ms, profiled {_ms(header.profiled_wall_seconds)} ms"
    )
    what = f"{window.decode_steps} decode steps, {calls} of S3Gen, {window.audio_seconds:.2f} s of audio"
    return [
        f"{header.stack} on {header.device_name}: {what}",
        f"the window takes {walls}: the profiler costs ×{header.inflation:.2f}",
    ]


def tables(profile: Profile) -> list[Table]:
    """Stages, kernel families, ops."""
    found = [stages(profile), families(profile), ops(profile)]
    return [table for table in found if table.rows]


def stages(profile: Profile) -> Table:
    """Walls as they are without the profiler; the device as it was seen with it."""
    on_gpu = profile.header.on_gpu
    shown = [stage for stage in profile.stages if stage.share >= SHARE_MIN or stage.kernels]
    columns: tuple[str, ...] = ("stage", "ms", "share")
    columns += ("busy", "idle", "host-bound", "launches", "syncs") if on_gpu else ()
    with_peaks = any(stage.peak_memory_bytes is not None for stage in shown)
    rows = []
    for stage in shown:
        row = [stage.name, _ms(stage.seconds), _percent(stage.share)]
        if on_gpu:
            waiting = [stage.busy_share, stage.idle_share, stage.host_bound_share]
            row += [_percent(share) if stage.kernels else "" for share in waiting]
            row += [f"{stage.launches + stage.graph_launches:,}", f"{stage.syncs:,}"]
        if with_peaks:
            peak = stage.peak_memory_bytes
            row.append("" if peak is None else f"{peak / 2**20:,.0f}")
        rows.append(tuple(row))
    columns += ("peak MiB",) if with_peaks else ()
    notes = ("busy, idle and host-bound are shares of the stage's time on the device",) if on_gpu else ()
    return Table.of("Stages", columns, tuple(rows), notes)


def families(profile: Profile) -> Table:
    """What kind of work the device did."""
    rows = tuple((f.name, _ms(f.seconds), _percent(f.share), f"{f.calls:,}") for f in profile.families)
    return Table.of("Kernels by family", ("family", "device ms", "share", "calls"), rows)


def ops(profile: Profile) -> Table:
    """The dearest, by the device's time where there is one."""
    on_gpu = profile.header.on_gpu

    def own(op: Op) -> float:
        return op.self_device_seconds if on_gpu else op.self_host_seconds

    whole = sum(own(op) for op in profile.ops)
    dearest = sorted(profile.ops, key=own, reverse=True)[:OPS_MAX]
    rows = tuple(
        (op.name.removeprefix("aten::"), f"{op.calls:,}", _ms(own(op)), _percent(own(op) / whole if whole else 0.0))
        for op in dearest
        if own(op)
    )
    return Table.of("Ops", ("op", "calls", "device ms" if on_gpu else "host ms", "share"), rows)


def decode(profile: Profile) -> list[str]:
    """One step in a line."""
    step = profile.decode
    if step is None:
        return []
    told = [f"a decode step: {_ms(step.unprofiled_wall_seconds)} ms", f"{step.operators:,.0f} operators"]
    if profile.header.on_gpu:
        told += [
            f"GPU busy {_ms(step.busy_seconds)} ms",
            f"{step.launches:,.1f} launches",
            f"{step.graph_launches:.1f} graphs",
            f"{step.syncs:.1f} syncs",
            f"{step.copies:.1f} copies",
            f"{step.gaps:,.1f} gaps",
        ]
    return [", ".join(told)]


def findings(profile: Profile) -> list[str]:
    """Numbered, each with its evidence and what to do."""
    lines = []
    for number, finding in enumerate(profile.findings, start=1):
        share = f" ({_percent(finding.share)} of the time)" if finding.share is not None else ""
        told = ", ".join(f"{name} {value}" for name, value in profile_answers.evidence(finding))
        evidence = told if len(told) <= EVIDENCE_TEXT_MAX else f"{told[:EVIDENCE_TEXT_MAX]}…"
        lines += [f"{number}. {finding.headline}{share}", f"   {evidence}", f"   {finding.advice}"]
    return lines or ["nothing stands out"]


def cautions(profile: Profile) -> list[str]:
    """How far the tables are to be trusted, as far as there is anything to say."""
    lines = profile_text.warnings(profile)
    if profile.header.on_gpu:
        known = ", ".join(f"{row.level} {_percent(row.share)}" for row in profile.coverage)
        lines.append(f"of the device's time this much is attributed: {known}")
    return [*lines, *profile.notes]


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1e3
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.2f}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}%"
