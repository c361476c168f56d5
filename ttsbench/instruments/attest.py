"""What a warm call was seen to do: the operators, launches, waits and kernels of T3's steps and of S3Gen.

Watched with PyTorch's profiler, after everything that is timed: its hooks into the driver stay for the process's life.
A step's share is the difference between a long and a short utterance, so that no loop needs to say where a step begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ttsbench.instruments.driver import is_graph_launch, is_launch, is_wait
from ttsbench.instruments.tf32 import tf32_setting

SHORT, LONG = 1, 9


@dataclass(frozen=True)
class Activity:
    """How often each operator or driver call ran on the host, and each kernel on the device."""

    host: Counter[str] = field(default_factory=Counter)
    device: Counter[str] = field(default_factory=Counter)
    # Nanoseconds in kernels and copies; what is left of a step's time, the device waited.
    busy: Counter[str] = field(default_factory=Counter)

    @property
    def names(self) -> set[str]:
        return {name for counts in (self.host, self.device) for name, count in counts.items() if count > 0}

    def minus(self, other: Activity) -> Activity:
        host, device, busy = Counter(self.host), Counter(self.device), Counter(self.busy)
        host.subtract(other.host)
        device.subtract(other.device)
        busy.subtract(other.busy)
        return Activity(host, device, busy)

    def per(self, count: int) -> dict[str, float]:
        """Launches, graph launches, waits, kernels and the time in them, divided by a number of steps."""
        sums = {
            "launches": self._calls(is_launch),
            "graph_launches": self._calls(is_graph_launch),
            "waits": self._calls(is_wait),
            "kernels": sum(self.device.values()),
            "operators": sum(n for name, n in self.host.items() if name.startswith("aten::")),
        }
        busy_ms = sum(self.busy.values()) * 1e-6
        return {name: round(total / count, 2) for name, total in sums.items()} | {
            "device_busy_ms": round(busy_ms / count, 3)
        }

    def _calls(self, of_kind: Callable[[str], bool]) -> int:
        return sum(count for name, count in self.host.items() if of_kind(name))


@dataclass(frozen=True)
class WarmCall:
    """One warm utterance, in parts."""

    prefill: Activity = field(default_factory=Activity)
    decode: Activity = field(default_factory=Activity)
    s3gen: Activity = field(default_factory=Activity)
    steps: int = 0
    activation_dtypes: frozenset[torch.dtype] = frozenset()
    tf32_allowed: bool = False

    def evidence(self) -> dict[str, Any]:
        return {
            "decode_per_step": self.decode.per(max(self.steps, 1)),
            "s3gen_per_call": self.s3gen.per(1),
        }


class AttestedPipeline(Protocol):
    """A pipeline whose parts can be called one by one."""

    tts: Any
    # Has a captured part of T3 captured anew, since its layers are called only then.
    forget_captures: list[Callable[[], None]]

    @property
    def device(self) -> torch.device: ...

    def decode_only(self, text_index: int, seed: int, tokens: int) -> int: ...

    def embed_again(self) -> int: ...

    def vocode(self, seed: int) -> torch.Tensor: ...


def record_warm_call(pipeline: AttestedPipeline, text_index: int, seed: int) -> WarmCall:
    """A warm call of each part under the profiler; what layers work in is noted in a call before."""
    layers, tokens = LayerDtypes(pipeline.tts.t3.tfmr), dict.fromkeys((SHORT, LONG), 0)
    for capture_again in pipeline.forget_captures:
        capture_again()
    with layers.recording():
        pipeline.decode_only(text_index, seed, LONG)

    def decode(limit: int) -> None:
        tokens[limit] = pipeline.decode_only(text_index, seed, limit)

    short = record_activity(pipeline.device, lambda: decode(SHORT))
    conditioning = record_activity(pipeline.device, pipeline.embed_again)
    long = record_activity(pipeline.device, lambda: decode(LONG))
    s3gen = record_activity(pipeline.device, lambda: pipeline.vocode(seed))
    return WarmCall(
        prefill=short.minus(conditioning),
        decode=long.minus(short),
        s3gen=s3gen,
        steps=max(tokens[LONG] - tokens[SHORT], 1),
        activation_dtypes=frozenset(layers.dtypes),
        tf32_allowed=layers.tf32_allowed,
    )


def record_activity(device: torch.device, call: Callable[[], object]) -> Activity:
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiler:
        call()
        if on_cuda:
            torch.cuda.synchronize()
    activity = Activity()
    assert profiler.profiler is not None
    for event in profiler.profiler.kineto_results.events():
        if event.device_type() == DeviceType.CUDA:
            activity.device[event.name()] += 1
            activity.busy[event.name()] += event.duration_ns()
        else:
            activity.host[event.name()] += 1
    return activity


class LayerDtypes:
    """Notes, while a prompt is read, in which dtype the first layer's products come out."""

    def __init__(self, tfmr: Any) -> None:
        self._first = (tfmr.layers if hasattr(tfmr, "layers") else tfmr.h)[0]
        self.dtypes: set[torch.dtype] = set()
        self.tf32_allowed = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        products = [
            m for m in self._first.modules() if not list(m.children()) and getattr(m, "weight", None) is not None
        ]
        handles = [m.register_forward_hook(self._record) for m in products if m.weight.dim() == 2]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _record(self, module: Any, inputs: Any, output: torch.Tensor) -> None:
        self.dtypes.add(output.dtype)
        self.tf32_allowed = tf32_setting()[0]
