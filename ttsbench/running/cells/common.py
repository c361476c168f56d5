"""What all kinds of cells share: seeds, timed steps, warm-up, attestation, warnings.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttsbench.instruments.compiler import compilations
from ttsbench.optimizations.registry import BY_NAME
from ttsbench.records.jobs import Job
from ttsbench.running.progress import ProgressCallback

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ttsbench.model.pipeline import Pipeline
    from ttsbench.running.cells.backbone import ForwardPipeline

    AnyPipeline = Pipeline | ForwardPipeline

# Fields of the cell's record by name, those that only running can fill.
CellFields = dict[str, Any]


@contextmanager
def step(ladder: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    ladder[name] = time.perf_counter() - began


def use_device(device: str) -> None:
    """Makes it the current one: events, waits and graphs that name no device go to the first GPU otherwise."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.set_device(device)


def utterance_seed(job: Job, text_index: int, repeat: int) -> int:
    """The same for every stack and process; hashed, so that no two utterances of neighbouring seeds share one."""
    digest = hashlib.sha256(f"{job.seed}/{text_index}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def settle(pipeline: AnyPipeline, *, and_return_memory: bool = False) -> None:
    """Leaves no garbage due and no kernel running."""
    import torch

    gc.collect()
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize()
        if and_return_memory:
            torch.cuda.empty_cache()


def warm_up(
    job: Job, pipeline: AnyPipeline, report_progress: ProgressCallback, call: Callable[[int], None]
) -> tuple[float, ...]:
    """Seconds of each warm-up call; the first is the first call."""
    seconds = []
    for number in range(job.warmup):
        report_progress(f"warming up {number + 1}/{job.warmup}")
        settle(pipeline)
        began = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def apply(pipeline: AnyPipeline, slots: Mapping[str, str]) -> None:
    """Puts each slot's option in its place, one after the other; upstream's own leave the pipeline as it is."""
    for name, option in slots.items():
        slot = BY_NAME[name]
        if option != slot.default:
            (slot.option(option).apply or slot.apply)(pipeline, option)


def attest(pipeline: AnyPipeline, slots: Mapping[str, str]) -> CellFields:
    """What each slot can show for having taken effect on the call that was watched; raises where it did not."""
    return {
        name: (BY_NAME[name].option(option).attest or BY_NAME[name].attest)(pipeline, option)
        for name, option in slots.items()
    }


def compare_with_reference(job: Job, folder: Path, compare: Callable[[Path], CellFields]) -> CellFields:
    file = folder / job.reference
    if not file.exists():
        return {"warnings": ("not compared with the reference, which is not there; its own row says why",)}
    return compare(file)


def merge_fields(fields: CellFields, more: CellFields) -> CellFields:
    """Both together; warnings and faults are joined."""
    both: CellFields = {
        name: (*fields[name], *more[name]) for name in ("warnings", "faults") if name in fields and name in more
    }
    return {**fields, **more, **both}


def measure_warm(
    job: Job, pipeline: AnyPipeline, report_progress: ProgressCallback, *,
    timing: Callable[[], CellFields], passes: Mapping[str, Callable[[], CellFields]], attest: Callable[[], CellFields],
) -> CellFields:  # fmt: skip
    """Of a warm pipeline: the timed pass, each other pass that the job names, what it can attest, and warnings."""
    warm_state = WarmState(pipeline)
    fields = timing()
    warm_state.timing_ended()
    for name, run in passes.items():
        if name in job.passes:
            report_progress(name)
            fields = merge_fields(fields, run())
    fields["evidence"] = attest() | warm_state.evidence()
    return merge_fields(fields, {"warnings": row_warnings(fields)})


def count_hooks(pipeline: AnyPipeline) -> int:
    """Forward hooks on the two models; a number that grows from call to call is a leak."""
    modules = (m for model in (pipeline.tts.t3, pipeline.tts.s3gen) for m in model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


class WarmState:
    """What must not change once everything is warm: forward hooks, compiled code, captured graphs."""

    def __init__(self, pipeline: AnyPipeline) -> None:
        self._pipeline = pipeline
        self._hooks = count_hooks(pipeline)
        self._warm = self._timed = compilations()

    def timing_ended(self) -> None:
        self._timed = compilations()

    def evidence(self) -> CellFields:
        while_timing = self._timed.since(self._warm)
        return {
            "hooks": {"warm": self._hooks, "at_the_end": count_hooks(self._pipeline)},
            "compiler": {
                "graphs": self._warm.graphs,
                "graph_breaks": self._warm.graph_breaks,
                "recompilations_while_timing": while_timing.graphs,
                "captures_while_timing": while_timing.captures,
            },
        }


def row_warnings(fields: CellFields) -> tuple[str, ...]:
    hooks, compiler, guard = fields["evidence"]["hooks"], fields["evidence"]["compiler"], fields["guard"]
    notes = []
    if hooks["at_the_end"] > hooks["warm"]:
        notes.append(f"forward hooks grew from {hooks['warm']} to {hooks['at_the_end']} over the warm calls")
    if recompilations := compiler["recompilations_while_timing"]:
        notes.append(f"the compiler worked {recompilations} times while the clock ran")
    if captures := compiler["captures_while_timing"]:
        notes.append(f"{captures} CUDA graphs were captured while the clock ran")
    notes += [f"the GPU was throttled: {reason}" for reason in guard.throttle_reasons]
    notes += [f"another process was on the GPU: {name}" for name in guard.foreign_processes]
    if guard.load_average is not None and guard.load_average > (cores := os.cpu_count() or 1):
        notes.append(f"the host was busy: load average {guard.load_average:.1f} on {cores} cores")
    return tuple(notes)
