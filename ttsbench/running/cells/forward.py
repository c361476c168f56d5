"""One cell of forwards of the backbone alone: load, apply the stack, warm up, then one pass per thing measured."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ttsbench.records import measurements
from ttsbench.records.jobs import REFERENCE, Job
from ttsbench.running.cells import common
from ttsbench.running.cells.common import CellFields, settle
from ttsbench.running.progress import ProgressCallback

if TYPE_CHECKING:
    from ttsbench.running.cells.backbone import ForwardPipeline


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    from ttsbench.model import quality

    pipeline = prepare(job, report_progress, ladder)
    if job.kind == REFERENCE:
        report_progress("reference")
        quality.save({"hidden": pipeline.hidden()}, folder, job.reference)
        return {"model": describe(pipeline)}
    warmup_seconds = common.warm_up(job, pipeline, report_progress, lambda _: whole_call(pipeline))
    ladder["first_call"] = warmup_seconds[0]
    return common.measure_warm(
        job,
        pipeline,
        report_progress,
        timing=lambda: time_pass(job, pipeline, report_progress),
        passes={
            "memory": lambda: {"memory": memory_pass(pipeline)},
            "quality": lambda: quality_pass(job, pipeline, folder),
        },
        attest=lambda: attest(pipeline, report_progress),
    ) | {"warmup_seconds": warmup_seconds, "model": describe(pipeline)}


def whole_call(pipeline: ForwardPipeline) -> None:
    pipeline.begin()
    pipeline.work()
    settle(pipeline)


def prepare(job: Job, report_progress: ProgressCallback, ladder: dict[str, float]) -> ForwardPipeline:
    """The backbone with the stack applied; each step is timed."""
    assert job.forward is not None
    report_progress("importing")
    with common.step(ladder, "import"):
        from ttsbench.running import preload
        from ttsbench.running.cells import backbone

        preload.quiet()
        common.use_device(job.device)
    report_progress("loading")
    with common.step(ladder, "load"):
        tfmr = backbone.load(job)
    with common.step(ladder, "apply"):
        pipeline = backbone.ForwardPipeline(tfmr, job.forward, common.utterance_seed(job, 0, 0), job.slots)
        common.apply(pipeline, pipeline.slots)
        pipeline.draw_embeddings()
    return pipeline


def describe(pipeline: ForwardPipeline) -> CellFields:
    tfmr = pipeline.tts.t3.tfmr
    return {
        "class": type(tfmr).__name__,
        "device": str(pipeline.device),
        "t3_backbone_parameters": sum(p.numel() for p in tfmr.parameters()),
        "t3_dtype": str(tfmr.dtype).removeprefix("torch."),
    }


def time_pass(job: Job, pipeline: ForwardPipeline, report_progress: ProgressCallback) -> CellFields:
    """Calls on the clock, nothing in between but a look at the guard."""
    from ttsbench.instruments.guard import GuardSampler

    guard, forwards = GuardSampler(pipeline.device), []
    for repeat in range(job.repeats):
        report_progress(f"timing {repeat + 1}/{job.repeats}")
        forwards.append(timed(pipeline, repeat))
        guard.read()
    return {"forwards": tuple(forwards), "guard": guard.result()}


def timed(pipeline: ForwardPipeline, repeat: int) -> measurements.TimedForward:
    """One call, by the host's clock and between two events; the prompt of decode steps comes before it."""
    import torch

    shape, on_cuda = pipeline.shape, pipeline.device.type == "cuda"
    pipeline.begin()
    settle(pipeline)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2 * on_cuda)]  # type: ignore[no-untyped-call]
    if on_cuda:
        torch.cuda.reset_peak_memory_stats(pipeline.device)
    began = time.perf_counter()
    if on_cuda:
        events[0].record()
    pipeline.work()
    issued = time.perf_counter()
    if on_cuda:
        events[1].record()
        torch.cuda.synchronize()
    ended = time.perf_counter()
    return measurements.TimedForward(
        rows=shape.rows,
        positions=shape.positions,
        steps=shape.steps,
        repeat=repeat,
        wall_seconds=ended - began,
        host_seconds=issued - began,
        device_seconds=events[0].elapsed_time(events[1]) * 1e-3 if on_cuda else None,
        peak_allocated_bytes=torch.cuda.max_memory_allocated(pipeline.device) if on_cuda else None,
    )


def memory_pass(pipeline: ForwardPipeline) -> measurements.Memory:
    from ttsbench.instruments import memory

    settle(pipeline)
    with memory.measure(pipeline.device) as peaks:
        pipeline.begin()
        pipeline.work()
    return peaks.result(weights_bytes=pipeline.weights_bytes(), kv_cache_bytes=None)


def quality_pass(job: Job, pipeline: ForwardPipeline, folder: Path) -> CellFields:
    """The last hidden states against the reference, and what of it is beyond the limits."""
    from ttsbench.model import quality

    def compare(file: Path) -> CellFields:
        judged = quality.compare_hidden(pipeline.hidden(), file)
        return {"forward_quality": judged, "faults": quality.hidden_faults(judged, job.limits)}

    return common.compare_with_reference(job, folder, compare)


def attest(pipeline: ForwardPipeline, report_progress: ProgressCallback) -> CellFields:
    """What each slot can show for having taken effect, watched on a warm call; raises where it did not."""
    from ttsbench.running.cells import backbone

    report_progress("attesting")
    pipeline.warm_call = warm_call = backbone.record_warm_call(pipeline)
    evidence = common.attest(pipeline, pipeline.slots)
    activity = {"per_call": warm_call.decode.per(1), "per_step": warm_call.decode.per(warm_call.steps)}
    return evidence | {"activity": activity if pipeline.shape.steps else {"per_call": activity["per_call"]}}
