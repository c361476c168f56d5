"""From recordings to a profile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ttsbench.profiling import findings, flames, roofline, tables, timeline
from ttsbench.profiling.attribution import AttributedKernel, attribute
from ttsbench.profiling.trace import Trace
from ttsbench.records.profile_rows import Ceilings, ProfileMemory
from ttsbench.records.profiles import SCHEMA_VERSION, Profile, ProfileHeader


@dataclass(frozen=True)
class Recording:
    header: ProfileHeader
    trace: Trace
    # Without the profiler, seconds of the host in each stage; and the class of each module by its path.
    unprofiled_stages: Mapping[str, float]
    classes: Mapping[str, str]
    # Without the profiler, seconds between the events where a stage begins and ends on the stream.
    unprofiled_device: Mapping[str, float] = field(default_factory=dict)
    twin: Trace | None = None
    ceilings: Ceilings | None = None
    memory: ProfileMemory | None = None
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def _floor_notes(kernels: Sequence[AttributedKernel]) -> Iterator[str]:
    for stage, share in roofline.uncounted_shares(kernels).items():
        yield f"no floor for {stage}: products without known shapes take {share:.0%} of its kernels' time"


def build(recording: Recording) -> Profile:
    twin = attribute(recording.twin) if recording.twin is not None else None
    attributed = attribute(recording.trace, twin)
    waits = timeline.find_waits(attributed)
    peaks = recording.memory.stage_peaks if recording.memory else {}
    stages = tables.stages(attributed, waits, recording.unprofiled_stages, peaks, recording.unprofiled_device)
    ops, modules = tables.ops(attributed), tables.modules(attributed, recording.classes)
    kernels, ceilings, by_eager = tables.kernels(attributed), recording.ceilings, twin.kernels if twin else ()
    profile = Profile(
        schema_version=SCHEMA_VERSION,
        header=recording.header,
        stages=stages,
        ops=ops,
        modules=modules,
        kernels=kernels,
        families=tables.in_families(kernels),
        decode=tables.decode(attributed, stages, waits, recording.header.window.decode_steps),
        reconciliation=tables.reconcile(attributed, stages, ops, modules, kernels),
        coverage=tables.coverage(attributed.kernels),
        roofline=roofline.roofline(ceilings, attributed.kernels, stages, kernels, by_eager),
        memory=recording.memory,
        flames=flames.flames(attributed),
        gaps=timeline.largest_gaps(attributed, waits),
        findings=(),
        files=recording.files,
        notes=(*recording.notes, *(_floor_notes(by_eager or attributed.kernels) if ceilings else ())),
    )
    answers, looked_for = findings.find(profile)
    return replace(profile, findings=answers, looked_for=looked_for)
