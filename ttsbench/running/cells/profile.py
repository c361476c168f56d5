"""One profile: load, apply the stack, warm up, the window without the profiler, then with it, then its eager twin.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ttsbench import __version__
from ttsbench.errors import CellError, TtsbenchError, UsageError
from ttsbench.optimizations import stacks
from ttsbench.records import profile_rows, profiles, runs
from ttsbench.records.jobs import Job, Window
from ttsbench.running import host
from ttsbench.running.cells import common, utterance
from ttsbench.running.cells.common import CellFields, ProgressCallback, count_hooks, settle, utterance_seed

if TYPE_CHECKING:
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.model.speech import Speech
    from ttsbench.profiling.collect import Chrome
    from ttsbench.profiling.trace import Trace

TRACE = "trace.json.gz"
WARMUPS_MIN = 2
UNPROFILED_REPEATS = 3


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    """The fields of the cell's record, `profile` among them; writes the trace into the folder."""
    assert job.window is not None
    asked, job = job.window, bounded(job, job.window.steps)
    pipeline = utterance.prepare(job, report_progress, ladder)
    if pipeline.generator is not None:
        raise CellError("a profile is of a whole utterance; profile the stack with stream: oneshot in its place")
    warmup_seconds = common.warm_up(
        job, pipeline, report_progress, lambda number: utterance.warming(job, pipeline, number)
    )
    plain = without_profiler(job, pipeline, report_progress)
    profile = profiled(job, asked, pipeline, folder, report_progress, plain)
    evidence, doubt = attested(job, pipeline, report_progress)
    profile = replace(profile, not_attested=doubt)
    return {
        "profile": runs.to_json(profile),
        "warmup_seconds": warmup_seconds,
        "model": utterance.describe(pipeline),
        "evidence": evidence,
        "warnings": (*([doubt] if doubt else []), *profile.notes),
    }


def attested(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> tuple[CellFields, str]:
    """A stack that did not take effect is worth looking at all the more; the reason stands before all figures."""
    try:
        return utterance.attest(job, pipeline, report_progress), ""
    except CellError as error:
        return {}, str(error)


@dataclass(frozen=True)
class Plain:
    """The window as it runs by itself: walls, each stage's median seconds by both clocks, hooks around the calls."""

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


def without_profiler(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> Plain:
    """A few times over, as in `run`."""
    from ttsbench.instruments.clock import Timeline

    timeline, walls, stages, hooks_before = Timeline(pipeline.device), [], [], count_hooks(pipeline)
    for repeat in range(UNPROFILED_REPEATS):
        report_progress(f"timing the window {repeat + 1}/{UNPROFILED_REPEATS}")
        settle(pipeline)
        _, wall_seconds = pipeline.speak_timed(0, utterance_seed(job, 0, repeat), timeline)
        walls.append(wall_seconds)
        stages.append(timeline.stages())
    medians = {name: statistics.median(one[name].host_seconds for one in stages) for name in stages[0]}
    spans = {name: [s for one in stages if (s := one[name].device_seconds) is not None] for name in stages[0]}
    device = {name: statistics.median(seconds) for name, seconds in spans.items() if seconds}
    hooks = {"hooks_before": hooks_before, "hooks_after": count_hooks(pipeline), "calls_between": UNPROFILED_REPEATS}
    return Plain(tuple(walls), medians, device, hooks)


def profiled(
    job: Job, asked: Window, pipeline: Pipeline, folder: Path, report_progress: ProgressCallback, plain: Plain
) -> profiles.Profile:  # fmt: skip
    """The window under the profiler, then whatever else its tables need, each by itself."""
    from ttsbench.profiling import build, collect

    seed = utterance_seed(job, 0, 0)
    report_progress("profiling")
    settle(pipeline)
    chrome, wall_seconds, spoken, classes = collect.record(pipeline, seed, stacks=asked.stacks)
    trace = collect.window(chrome, pipeline.device)
    files, notes = keep_trace(chrome, folder, asked)
    header = header_of(job, asked, pipeline, spoken, wall_seconds, plain)
    del chrome  # hundreds of megabytes
    memory, memory_notes = allocated(pipeline, seed, report_progress) if asked.memory else (None, ())
    twin, more_classes, twin_notes = eager_twin(job, report_progress, seed)
    settle(pipeline, and_return_memory=True)  # the twin's
    ceilings, ceiling_notes = measured_ceilings(job, report_progress)
    report_progress("reading the trace")
    return build.build(
        build.Recording(
            header=header,
            trace=trace,
            unprofiled_stages=plain.stages,
            unprofiled_device=plain.device,
            classes={**more_classes, **classes},
            twin=twin,
            ceilings=ceilings,
            memory=memory,
            files=files,
            notes=(*notes, *memory_notes, *twin_notes, *ceiling_notes),
        )
    )


def allocated(
    pipeline: Pipeline, seed: int, report_progress: ProgressCallback
) -> tuple[profile_rows.Memory | None, tuple[str, ...]]:
    """The window once more, with the allocator's every move; without room for that, the reason."""
    from ttsbench.profiling import collect

    report_progress("memory")
    settle(pipeline)
    try:
        return collect.memory_of(pipeline, seed), ()
    except (TtsbenchError, RuntimeError) as error:
        return None, (f"no memory: {_first_line(error)}",)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def header_of(
    job: Job, asked: Window, pipeline: Pipeline, spoken: Speech, wall_seconds: float, plain: Plain
) -> profiles.Header:
    """What was profiled, and where."""
    machine = host.machine()
    return profiles.Header(
        scenario=asked.scenario,
        stack=job.stack,
        slots=stacks.complete(job.slots),
        family=job.family,
        size=job.size,
        device=job.device,
        device_name=machine.gpu_name if job.device != "cpu" else host.cpu()["model"],
        environment=host.fingerprint(job.device),
        window=profiles.Window(
            utterances=1,
            decode_steps=int(spoken.tokens.numel()),
            s3gen_calls=1,
            audio_seconds=spoken.audio_seconds,
            **mel_frames(pipeline, spoken),
            **plain.hooks,
        ),
        profiled_wall_seconds=wall_seconds,
        unprofiled_wall_seconds=plain.walls,
        started_utc=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        ttsbench_version=__version__,
        with_stacks=asked.stacks,
        with_memory=asked.memory,
        changes_output=stacks.changes_output(job.slots),
    )


def mel_frames(pipeline: Pipeline, spoken: Speech) -> dict[str, int]:
    """Of the reference that S3Gen carries along, and of speech: two for each token."""
    conditions = pipeline.tts.conds.gen
    prompt = conditions["prompt_feat"].size(1) if "prompt_feat" in conditions else 0
    return {"prompt_frames": int(prompt), "speech_frames": 2 * int(spoken.tokens.numel())}


def keep_trace(chrome: Chrome, folder: Path, asked: Window) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the files written, and what there is to note; without room for them the tables go on."""
    from ttsbench.profiling import chrome as traces

    targets = [folder / TRACE]
    if asked.tensorboard:
        name = f"ttsbench_{os.getpid()}.{time.time_ns()}.pt.trace.json.gz"  # as the plugin looks for it
        targets.append(Path(asked.tensorboard) / name)
    files, notes = [], []
    for target in targets:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            notes.append(traces.write(chrome, target, asked.trace_bytes_max or traces.BYTES_MAX))
            files.append(target.name)
        except (OSError, UsageError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            notes.append(f"the trace {target.name} could not be written: {reason}; the tables are whole")
    return tuple(files[:1] if TRACE in files else ()), tuple(note for note in dict.fromkeys(notes) if note)


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
        common.warm_up(
            twin_job, pipeline, report_progress, lambda number: utterance.warming(twin_job, pipeline, number)
        )
        report_progress("eager twin: profiling")
        chrome, _, _, classes = collect.record(pipeline, seed)
        return collect.window(chrome, pipeline.device), classes, ()
    except (TtsbenchError, RuntimeError) as error:  # torch's running out of memory is one of the latter
        return None, {}, (f"no eager twin, so replayed kernels have no op and no module: {_first_line(error)}",)


def measured_ceilings(
    job: Job, report_progress: ProgressCallback
) -> tuple[profile_rows.Ceilings | None, tuple[str, ...]]:
    """What this card can do at best; a CPU has no roofline."""
    if job.device == "cpu":
        return None, ("no roofline: copy bandwidth and matrix rate are measured on a GPU",)
    from ttsbench.running import kernel_bench

    report_progress("measuring ceilings")
    try:
        found = kernel_bench.measure_ceilings()
    except RuntimeError as error:  # no room for large products beside the pipeline
        return None, (f"no roofline: {_first_line(error)}",)
    return profile_rows.Ceilings(found.copy_bytes_per_second, dict(found.matmul_flops_per_second)), ()
