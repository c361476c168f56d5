"""One profile: load, apply the stack, warm up, the window without the profiler, then with it, then its eager twin.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ttsbench import __version__
from ttsbench.errors import CellError, TtsbenchError, UsageError, first_line
from ttsbench.optimizations import stacks
from ttsbench.records import profile_rows, profiles, runs
from ttsbench.records.jobs import Job, ProfileJob
from ttsbench.running import host
from ttsbench.running.cells import utterance
from ttsbench.running.cells.common import CellFields, count_hooks, settle, utterance_seed
from ttsbench.running.progress import ProgressCallback

if TYPE_CHECKING:
    from ttsbench.instruments.clock import Timeline
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.model.speech import Speech
    from ttsbench.profiling.collect import Chrome
    from ttsbench.profiling.trace import Trace

TRACE = "trace.json.gz"
WARMUPS_MIN = 2
UNPROFILED_REPEATS = 3
# The window is warm when a pass no longer takes less than this share of the fastest before it. On an H200 three passes
# after the warm-up calls were slow, 630 ms in the place of 140, and made a median of what was not warm.
SETTLED_SHARE = 0.9
WINDOW_WARMUPS_MAX = 8


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    """The fields of the cell's record, `profile` among them; writes the trace into the folder."""
    assert job.window is not None
    window, job = job.window, bounded(job, job.window.steps)
    pipeline = utterance.prepare(job, report_progress, ladder)
    if pipeline.generator is not None:
        raise CellError("a profile is of a whole utterance; profile the stack with stream: oneshot in its place")
    warmup_seconds = utterance.warm_up(job, pipeline, report_progress)
    unprofiled = time_unprofiled(job, pipeline, report_progress)
    profile = record(job, window, pipeline, folder, report_progress, unprofiled)
    evidence, not_attested = attest(job, pipeline, report_progress)
    profile = replace(profile, not_attested=not_attested)
    return {
        "profile": runs.to_json(profile),
        "warmup_seconds": warmup_seconds,
        "model": utterance.describe(pipeline),
        "evidence": evidence,
        "warnings": (*([not_attested] if not_attested else []), *profile.notes),
    }


def attest(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> tuple[CellFields, str]:
    """A stack that did not take effect is worth looking at all the more; the reason stands before all figures."""
    try:
        return utterance.attest(job, pipeline, report_progress), ""
    except CellError as error:
        return {}, str(error)


@dataclass(frozen=True)
class UnprofiledWindow:
    """The window without the profiler: walls, each stage's median seconds by both clocks, hooks around the calls."""

    walls: tuple[float, ...]
    stages: dict[str, float]
    device: dict[str, float]
    hooks: dict[str, int]


def bounded(job: Job, steps: int) -> Job:
    """One text and so many tokens of it, warmed up often enough for compilers to have seen it twice."""
    replay = tuple(tokens[:steps] for tokens in job.replay_tokens[:1])
    return replace(
        job,
        texts=job.texts[:1],
        fixed_tokens=None if replay else steps,
        replay_tokens=replay,
        warmup=max(job.warmup, WARMUPS_MIN),
    )


def warm_window(job: Job, pipeline: Pipeline, report_progress: ProgressCallback, timeline: Timeline) -> None:
    """Runs the very window until it gets no faster: warm-up calls may have missed its shapes."""
    fastest = math.inf
    for number in range(WINDOW_WARMUPS_MAX):
        report_progress(f"warming up the window {number + 1}")
        settle(pipeline)
        _, wall_seconds = pipeline.speak_timed(0, utterance_seed(job, 0, number % UNPROFILED_REPEATS), timeline)
        if wall_seconds > SETTLED_SHARE * fastest:
            return
        fastest = wall_seconds


def time_unprofiled(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> UnprofiledWindow:
    """A few passes, as in `run`."""
    from ttsbench.instruments.clock import Timeline

    timeline, walls, stages = Timeline(pipeline.device), [], []
    warm_window(job, pipeline, report_progress, timeline)
    hooks_before = count_hooks(pipeline)
    for repeat in range(UNPROFILED_REPEATS):
        report_progress(f"timing the window {repeat + 1}/{UNPROFILED_REPEATS}")
        settle(pipeline)
        _, wall_seconds = pipeline.speak_timed(0, utterance_seed(job, 0, repeat), timeline)
        walls.append(wall_seconds)
        stages.append(timeline.stages())
    medians = {name: statistics.median(times[name].host_seconds for times in stages) for name in stages[0]}
    spans = {name: [s for times in stages if (s := times[name].device_seconds) is not None] for name in stages[0]}
    device = {name: statistics.median(seconds) for name, seconds in spans.items() if seconds}
    hooks = {"hooks_before": hooks_before, "hooks_after": count_hooks(pipeline), "calls_between": UNPROFILED_REPEATS}
    return UnprofiledWindow(tuple(walls), medians, device, hooks)


def record(
    job: Job, window: ProfileJob, pipeline: Pipeline, folder: Path, report_progress: ProgressCallback,
    unprofiled: UnprofiledWindow,
) -> profiles.Profile:  # fmt: skip
    """The window under the profiler, then whatever else its tables need, each by itself."""
    from ttsbench.profiling import build, collect

    seed = utterance_seed(job, 0, 0)
    report_progress("profiling")
    settle(pipeline)
    chrome, wall_seconds, spoken, classes = collect.record(pipeline, seed, stacks=window.stacks)
    trace = collect.window(chrome, pipeline.device)
    kept, notes = keep_trace(chrome, folder, window)
    header = header_of(job, window, pipeline, spoken, wall_seconds, unprofiled)
    del chrome  # hundreds of megabytes
    memory, memory_notes = record_memory(pipeline, seed, report_progress) if window.memory else (None, ())
    twin, more_classes, twin_notes = eager_twin(job, report_progress, seed)
    settle(pipeline, and_return_memory=True)  # the twin's
    ceilings, ceiling_notes = measured_ceilings(job, report_progress)
    report_progress("reading the trace")
    return build.build(
        build.Recording(
            header=header,
            trace=trace,
            unprofiled_stages=unprofiled.stages,
            unprofiled_device=unprofiled.device,
            classes={**more_classes, **classes},
            twin=twin,
            ceilings=ceilings,
            memory=memory,
            files=kept,
            notes=(*notes, *memory_notes, *twin_notes, *ceiling_notes),
        )
    )


def record_memory(
    pipeline: Pipeline, seed: int, report_progress: ProgressCallback
) -> tuple[profile_rows.ProfileMemory | None, tuple[str, ...]]:
    """The window once more, with the allocator's every move; without room for that, the reason."""
    from ttsbench.profiling import collect

    report_progress("memory")
    settle(pipeline)
    try:
        return collect.memory_of(pipeline, seed), ()
    except (TtsbenchError, RuntimeError) as error:
        return None, (f"no memory: {first_line(error)}",)


def header_of(
    job: Job, window: ProfileJob, pipeline: Pipeline, spoken: Speech, wall_seconds: float, unprofiled: UnprofiledWindow
) -> profiles.ProfileHeader:
    machine = host.machine()
    return profiles.ProfileHeader(
        scenario=window.scenario,
        stack=job.stack,
        slots=stacks.complete(job.slots),
        family=job.family,
        size=job.size,
        device=job.device,
        device_name=machine.gpu_name if job.device != "cpu" else host.cpu()["model"],
        environment=host.fingerprint(job.device),
        window=profiles.ProfiledWindow(
            utterances=1,
            decode_steps=int(spoken.tokens.numel()),
            s3gen_calls=1,
            audio_seconds=spoken.audio_seconds,
            **mel_frames(pipeline, spoken),
            **unprofiled.hooks,
        ),
        profiled_wall_seconds=wall_seconds,
        unprofiled_wall_seconds=unprofiled.walls,
        started_utc=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        ttsbench_version=__version__,
        with_stacks=window.stacks,
        with_memory=window.memory,
        changes_output=stacks.changes_output(job.slots),
    )


def mel_frames(pipeline: Pipeline, spoken: Speech) -> dict[str, int]:
    """Of the reference that S3Gen carries along, and of speech: two for each token."""
    conditions = pipeline.tts.conds.gen
    prompt = conditions["prompt_feat"].size(1) if "prompt_feat" in conditions else 0
    return {"prompt_frames": int(prompt), "speech_frames": 2 * int(spoken.tokens.numel())}


def keep_trace(chrome: Chrome, folder: Path, window: ProfileJob) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the files written, and what there is to note; without room for them the tables go on."""
    from ttsbench.profiling import chrome as traces

    targets = [folder / TRACE]
    if window.tensorboard:
        name = f"ttsbench_{os.getpid()}.{time.time_ns()}.pt.trace.json.gz"  # as the plugin looks for it
        targets.append(Path(window.tensorboard) / name)
    written, notes = [], []
    for target in targets:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            notes.append(traces.write(chrome, target, window.trace_bytes_max or traces.BYTES_MAX))
            written.append(target.name)
        except (OSError, UsageError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            notes.append(f"the trace {target.name} could not be written: {reason}; the tables are whole")
    return tuple(written[:1] if TRACE in written else ()), tuple(note for note in dict.fromkeys(notes) if note)


def eager_twin(
    job: Job, report_progress: ProgressCallback, seed: int
) -> tuple[Trace | None, dict[str, str], tuple[str, ...]]:
    """The window of the stack's eager twin, with the classes of its modules; where it cannot run, the reason."""
    slots = stacks.eager_twin(job.slots)
    if slots is None:
        return None, {}, ()
    from ttsbench.profiling import collect

    twin_job = replace(job, slots=slots)
    try:
        pipeline = utterance.prepare(twin_job, lambda stage: report_progress(f"eager twin: {stage}"), {})
        utterance.warm_up(twin_job, pipeline, report_progress)
        report_progress("eager twin: profiling")
        chrome, _, _, classes = collect.record(pipeline, seed)
        return collect.window(chrome, pipeline.device), classes, ()
    except (TtsbenchError, RuntimeError) as error:  # torch's running out of memory is one of the latter
        return None, {}, (f"no eager twin, so replayed kernels have no op and no module: {first_line(error)}",)


def measured_ceilings(
    job: Job, report_progress: ProgressCallback
) -> tuple[profile_rows.Ceilings | None, tuple[str, ...]]:
    """What this card can do at best; a CPU has no roofline."""
    if job.device == "cpu":
        return None, ("no roofline: copy bandwidth and matrix rate are measured on a GPU",)
    from ttsbench.running import kernel_bench

    report_progress("measuring ceilings")
    try:
        ceilings = kernel_bench.measure_ceilings()
    except RuntimeError as error:  # no room for large products beside the pipeline
        return None, (f"no roofline: {first_line(error)}",)
    return profile_rows.Ceilings(ceilings.copy_bytes_per_second, dict(ceilings.matmul_flops_per_second)), ()
