"""One cell under load: the model once, then level after level of listeners and of requests at a rate.

Torch is imported inside functions only, as in every cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttsbench.records import measurements
from ttsbench.records.jobs import Job, LoadJob
from ttsbench.running.cells import common, utterance
from ttsbench.running.cells.common import CellFields, settle, utterance_seed
from ttsbench.running.progress import ProgressCallback
from ttsbench.serving.calls import Call
from ttsbench.serving.load import CLOSED, OPEN, Engine, Prepare, level

if TYPE_CHECKING:
    from ttsbench.model.pipeline import Pipeline


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    from ttsbench.serving import engine as engines

    assert job.load is not None
    pipeline = utterance.prepare(job, report_progress, ladder)
    warmup_seconds = utterance.warm_up(job, pipeline, report_progress)
    ladder["first_call"] = warmup_seconds[0]
    report_progress("warming up the engine")
    engine = engines.engine(pipeline, job.load)
    engine.warm_up()
    return common.measure_warm(
        job,
        pipeline,
        report_progress,
        timing=lambda: time_levels(job, pipeline, engine, report_progress),
        passes={
            "memory": lambda: {"memory": memory_pass(job, pipeline, engine)},
            "quality": lambda: utterance.quality_pass(job, pipeline, folder),
        },
        attest=lambda: utterance.attest(job, pipeline, report_progress) | {"server": engine.evidence()},
    ) | {"warmup_seconds": warmup_seconds, "model": utterance.describe(pipeline)}


def time_levels(job: Job, pipeline: Pipeline, engine: Engine, report_progress: ProgressCallback) -> CellFields:
    from ttsbench.instruments.guard import GuardSampler

    assert job.load is not None
    guard, levels = GuardSampler(pipeline.device), []
    for measured in all_levels(engine, job, report_progress, lambda: settle(pipeline)):
        levels.append(measured)
        guard.read()
    limits = job.load.ttfa_seconds, job.load.underrun_seconds
    load = measurements.LoadResult(*limits, tuple(levels), engine.slots, engine.streams)
    return {"load": load, "streams": engine.streams, "guard": guard.result()}


def sizes(load: LoadJob) -> Iterator[tuple[str, float]]:
    yield from ((CLOSED, float(listeners)) for listeners in load.listeners)
    yield from ((OPEN, rate) for rate in load.rates)


def all_levels(
    engine: Engine, job: Job, report_progress: ProgressCallback, before_each: Any = lambda: None
) -> Iterator[measurements.Level]:
    """One after the other; each begins with an engine that has nothing to do."""
    assert job.load is not None
    for kind, size in sizes(job.load):
        report_progress(f"{size:g} listeners" if kind == CLOSED else f"{size:g} requests a second")
        before_each()
        yield level(engine, job.load, kind, size, job.seed, asking(job))


def asking(job: Job) -> Prepare:
    """Text by text. Seeds depend on text and number alone, so that request n is the same at every level."""

    def prepare(call: Call) -> None:
        repeat, call.text_index = divmod(call.number, len(job.texts))
        call.seed = utterance_seed(job, call.text_index, repeat)

    return prepare


def all_at_once(load: LoadJob, listeners: int) -> LoadJob:
    """One request of each counts, all under way together."""
    return replace(load, requests=listeners, duration_seconds=None, warmup=0.0, ramp_seconds=0.0)


def memory_pass(job: Job, pipeline: Pipeline, engine: Engine) -> measurements.Memory:
    """Peaks over one request of each listener, at the largest number of them that ran."""
    from ttsbench.instruments import memory

    assert job.load is not None
    fitting = [n for n in job.load.listeners if engine.slots is None or n <= engine.slots]
    listeners = max(fitting, default=1)
    once = all_at_once(job.load, listeners)
    settle(pipeline)
    with memory.measure(pipeline.device) as peaks:
        level(engine, once, CLOSED, listeners, job.seed, asking(job))
    return peaks.result(weights_bytes=pipeline.weights_bytes(), kv_cache_bytes=pipeline.kv_cache_bytes())
