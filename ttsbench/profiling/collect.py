"""Runs a bounded window under PyTorch's profiler, in a pass of its own that nothing is timed in.

Module labels come from hooks that enter and leave a `record_function`; they are gone when the pass is over. What a
compiler has compiled gets none: its guards would see the hooks and compile everything again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.optimizations.stacks import by_inductor
from ttsbench.profiling import memory, trace
from ttsbench.profiling.trace import MARK, MODULE, Trace
from ttsbench.records import profile_rows

if TYPE_CHECKING:
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.model.speech import Speech

SHARED_MEMORY = Path("/dev/shm")
HISTORY_MAX = 2_000_000
# Which modules a slot has compiled whole.
COMPILED_BY = {"compile": "t3.tfmr", "s3gen_compile": "s3gen.flow.decoder.estimator", "vocoder": "s3gen.mel2wav"}

Chrome = dict[str, Any]


class Marks(Timeline):
    """Stages as annotations in the trace, and by the clock that the allocator's history is kept by."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.moments: list[tuple[float, str]] = []

    def start(self) -> None:
        self.moments = []
        super().start()

    def enter(self, stage: str) -> None:
        super().enter(stage)
        self.moments.append((time.time_ns() * 1e-3, stage))
        with record_function(MARK + stage):
            pass


def record(pipeline: Pipeline, seed: int, *, stacks: bool = False) -> tuple[Chrome, float, Speech, dict[str, str]]:
    """The exported trace of one utterance, its wall seconds, what was spoken, and the class of each labelled module."""
    marks, result = Marks(pipeline.device), dict[str, Any]()

    def speak() -> None:
        result["spoken"], result["wall"] = pipeline.speak_timed(0, seed, marks)

    with labelled(pipeline) as classes:
        chrome = profiled(pipeline.device, speak, with_stack=stacks, record_shapes=True)
    pipeline.note_cache(marks.prompt_rows, marks.prompt_length + result["spoken"].tokens.numel())
    return chrome, result["wall"], result["spoken"], classes


def profiled(device: torch.device, call: Callable[[], None], **options: Any) -> Chrome:
    """What a call leaves in the profiler: run once while it warms up, then once for the record."""
    on_cuda, exported = device.type == "cuda", dict[str, Chrome]()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    plan = schedule(wait=0, warmup=1, active=1, repeat=1)

    def keep(profiler: Any) -> None:
        exported["trace"] = export(profiler)

    with profile(activities=activities, schedule=plan, on_trace_ready=keep, **options) as profiler:
        for _ in range(2):
            call()
            if on_cuda:
                torch.cuda.synchronize()
            profiler.step()
    return exported["trace"]


def export(profiler: Any) -> Chrome:
    """The trace as plain data, by way of a file where there is most room: the profiler gives it away only once."""
    try:
        with tempfile.TemporaryDirectory(dir=roomiest()) as place:
            file = Path(place) / "trace.json"
            profiler.export_chrome_trace(str(file))
            return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, RuntimeError) as error:  # a full disk leaves half a trace, or none
        problem = f"the profiler's trace could not be kept while it is read: {error}"
        raise CellError(problem, mend="Set TMPDIR to a folder with room") from error


def roomiest() -> Path:
    """Of the folders for temporary files."""
    folders = [folder for folder in (Path(tempfile.gettempdir()), SHARED_MEMORY) if folder.is_dir()]
    return max(folders, key=lambda folder: shutil.disk_usage(folder).free)


def window(chrome: Chrome, device: torch.device) -> Trace:
    """The trace's events; refused where a GPU was to be seen and was not."""
    parsed = trace.parse(chrome)
    if device.type == "cuda" and not parsed.device:
        raise CellError(
            "the profiler saw no kernel on the GPU: another profiler (Nsight Systems, Nsight Compute, a debugger) "
            "holds CUPTI",
            mend="End it, and profile again",
        )
    return parsed


@contextmanager
def labelled(pipeline: Pipeline) -> Iterator[dict[str, str]]:
    """A label around the forward of every named module; the class of each by its path. All hooks are taken off."""
    classes: dict[str, str] = {}
    entered: list[Any] = []
    with ExitStack() as hooks:
        for path, module in named_modules(pipeline):
            classes[path] = type(module).__name__
            before = module.register_forward_pre_hook(partial(_enter, entered, MODULE + path), prepend=True)
            hooks.callback(before.remove)
            after = module.register_forward_hook(partial(_leave, entered), always_call=True)
            hooks.callback(after.remove)
        yield classes


def _enter(entered: list[Any], label: str, module: Any, inputs: Any) -> None:
    opened: Any = record_function(label)
    entered.append(opened.__enter__())


def _leave(entered: list[Any], module: Any, inputs: Any, output: Any) -> None:
    if entered:
        entered.pop().__exit__(None, None, None)


def named_modules(pipeline: Pipeline) -> Iterator[tuple[str, Any]]:
    """Of T3, S3Gen and the watermarker, but none that is compiled."""
    tts = pipeline.tts
    roots = {"t3": tts.t3, "s3gen": tts.s3gen, "watermarker": getattr(tts.watermarker, "perth_net", None)}
    hidden = compiled_paths(pipeline.slots)
    for name, root in roots.items():
        if not isinstance(root, torch.nn.Module):
            continue
        for path, module in root.named_modules(prefix=name):
            if not any(path == above or path.startswith(f"{above}.") for above in hidden):
                yield path, module


def compiled_paths(slots: Mapping[str, str]) -> tuple[str, ...]:
    """Below these a compiler has been at work."""
    return tuple(path for slot, path in COMPILED_BY.items() if slot in by_inductor(slots))


def memory_of(pipeline: Pipeline, seed: int) -> profile_rows.ProfileMemory:
    """What one more utterance allocates, by the allocator's own history, or by the profiler's events on a CPU."""
    marks = Marks(pipeline.device)

    def speak() -> None:
        pipeline.speak_timed(0, seed, marks)

    known: dict[str, Any] = {"weights_bytes": pipeline.weights_bytes(), "kv_cache_bytes": pipeline.kv_cache_bytes()}
    if pipeline.device.type != "cuda":
        parsed = trace.parse(profiled(pipeline.device, speak, profile_memory=True))
        return memory.from_changes(parsed.allocations, parsed.marks, **known)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    allocated = torch.cuda.memory_allocated()
    torch.cuda.memory._record_memory_history(context=None, max_entries=HISTORY_MAX)
    try:
        speak()
        torch.cuda.synchronize()
        snapshot = torch.cuda.memory._snapshot()
    finally:
        torch.cuda.memory._record_memory_history(enabled=None)
    return memory.from_snapshot(snapshot, marks.moments, allocated_bytes=allocated, **known)
