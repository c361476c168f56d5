"""One cell of forwards of the backbone alone: load, apply the stack, warm up, then one pass per thing measured."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttsbench import records
from ttsbench.instruments.compiler import compilations
from ttsbench.jobs import REFERENCE, Job

if TYPE_CHECKING:
    from ttsbench.forward import ForwardPipeline
    from ttsbench.worker import Tell


def measure(job: Job, folder: Path, tell: Tell, ladder: dict[str, float]) -> dict[str, Any]:
    """The fields of the cell's record that only running can fill."""
    from ttsbench import quality, worker

    pipeline = prepare(job, tell, ladder)
    if job.kind == REFERENCE:
        tell("reference")
        quality.save({"hidden": pipeline.hidden()}, folder / job.reference)
        return {"model": describe(pipeline)}
    warmup_seconds = warm_up(job, pipeline, tell)
    ladder["first_call"] = warmup_seconds[0]
    found: dict[str, Any] = {"warmup_seconds": warmup_seconds, "model": describe(pipeline)}
    hooks_when_warm, compiled_when_warm = worker.count_hooks(pipeline), compilations()
    found |= time_pass(job, pipeline, tell)
    compiled_while_timing = compilations().since(compiled_when_warm)
    if "memory" in job.passes:
        tell("memory")
        found["memory"] = memory_pass(pipeline)
    if "quality" in job.passes:
        tell("quality")
        found |= quality_pass(job, pipeline, folder)
    found["evidence"] = attested(pipeline, tell) | {
        "hooks": {"warm": hooks_when_warm, "at_the_end": worker.count_hooks(pipeline)},
        "compiler": {
            "graphs": compiled_when_warm.graphs,
            "graph_breaks": compiled_when_warm.graph_breaks,
            "recompilations_while_timing": compiled_while_timing.graphs,
        },
    }
    return found | {"warnings": worker.remarks(found)}


def prepare(job: Job, tell: Tell, ladder: dict[str, float]) -> ForwardPipeline:
    """The backbone with the stack applied; each step is timed."""
    from ttsbench import worker

    assert job.forward is not None
    tell("importing")
    with worker.step(ladder, "import"):
        from ttsbench import forward, preload

        preload.quiet()
        worker.use_device(job.device)
    tell("loading")
    with worker.step(ladder, "load"):
        tfmr = forward.load(job)
    with worker.step(ladder, "apply"):
        pipeline = forward.ForwardPipeline(tfmr, job.forward, worker.utterance_seed(job, 0, 0), job.slots)
        for slot, option in pipeline.slots.items():
            if slot != "decode":  # whose loop draws tokens: here the pipeline has only its backbone
                worker.slot_module(slot).apply(pipeline, option)
        pipeline.draw_embeddings()
    return pipeline


def describe(pipeline: ForwardPipeline) -> dict[str, Any]:
    """Which model this was, as loaded."""
    tfmr = pipeline.tts.t3.tfmr
    return {
        "class": type(tfmr).__name__,
        "device": str(pipeline.device),
        "t3_backbone_parameters": sum(p.numel() for p in tfmr.parameters()),
        "t3_dtype": str(tfmr.dtype).removeprefix("torch."),
    }


def warm_up(job: Job, pipeline: ForwardPipeline, tell: Tell) -> tuple[float, ...]:
    """Seconds of each warm-up call, prompt included; the first is the first call."""
    from ttsbench.worker import settle

    seconds = []
    for number in range(job.warmup):
        tell(f"warming up {number + 1}/{job.warmup}")
        settle(pipeline)
        began = time.perf_counter()
        pipeline.begin()
        pipeline.work()
        settle(pipeline)
        seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def time_pass(job: Job, pipeline: ForwardPipeline, tell: Tell) -> dict[str, Any]:
    """Calls on the clock, nothing in between but a look at the guard."""
    from ttsbench.instruments.guard import GuardSampler

    guard, forwards = GuardSampler(pipeline.device), []
    for repeat in range(job.repeats):
        tell(f"timing {repeat + 1}/{job.repeats}")
        forwards.append(timed(pipeline, repeat))
        guard.read()
    return {"forwards": tuple(forwards), "guard": guard.result()}


def timed(pipeline: ForwardPipeline, repeat: int) -> records.Forward:
    """One call, by the host's clock and between two events; the prompt of decode steps comes before it."""
    import torch

    from ttsbench.worker import settle

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
    return records.Forward(
        rows=shape.rows,
        positions=shape.positions,
        steps=shape.steps,
        repeat=repeat,
        wall_seconds=ended - began,
        host_seconds=issued - began,
        device_seconds=events[0].elapsed_time(events[1]) * 1e-3 if on_cuda else None,
        peak_allocated_bytes=torch.cuda.max_memory_allocated(pipeline.device) if on_cuda else None,
    )


def memory_pass(pipeline: ForwardPipeline) -> records.Memory:
    """Peaks over one call, prompt included."""
    from ttsbench.instruments import memory
    from ttsbench.worker import settle

    settle(pipeline)
    with memory.measure(pipeline.device) as peaks:
        pipeline.begin()
        pipeline.work()
    return peaks.result(weights_bytes=pipeline.weights_bytes(), kv_cache_bytes=None)


def quality_pass(job: Job, pipeline: ForwardPipeline, folder: Path) -> dict[str, Any]:
    """The last hidden states against the reference, and what of it is beyond the limits."""
    from ttsbench import quality

    file = folder / job.reference
    if not file.exists():
        return {"faults": ("there is no reference to compare with; see why its row failed",)}
    judged = quality.compare_hidden(pipeline.hidden(), file)
    return {"forward_quality": judged, "faults": quality.hidden_faults(judged, job.limits)}


def attested(pipeline: ForwardPipeline, tell: Tell) -> dict[str, Any]:
    """What each slot can show for having taken effect, watched on a warm call; raises where it did not."""
    from ttsbench import forward, worker

    tell("attesting")
    pipeline.seen = seen = forward.watch(pipeline)
    evidence = {
        slot: worker.slot_module(slot).attest(pipeline, option)
        for slot, option in pipeline.slots.items()
        if slot != "decode"
    }
    if "decode" in pipeline.slots:
        evidence["decode"] = {"backbone": type(pipeline.loop.backbone).__name__}
    activity = {"per_call": seen.decode.per(1), "per_step": seen.decode.per(seen.steps)}
    return evidence | {"activity": activity if pipeline.shape.steps else {"per_call": activity["per_call"]}}
