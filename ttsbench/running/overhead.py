"""The harness measured by itself: the same utterances bare and inside it, alternating, in one process.

Bare is the package's own `generate`, its loop bound to the same number of tokens and nothing else. The bias that keeps
special tokens from being drawn stays on both sides, since otherwise they would not do the same work; what it costs is
measured apart.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ttsbench.instruments.clock import Timeline
from ttsbench.instruments.guard import GuardSampler
from ttsbench.instruments.swapping import swapped
from ttsbench.model import checkpoint
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.running.cells.common import settle

ALLOWED = {"cuda": 1.01, "cpu": 1.03}
TEXT = "The harness must not be heard in what it measures."
WARMUP_PAIRS = 2
HEAD_CALLS = 300


@dataclass(frozen=True)
class Overhead:
    """Medians of both sides, and what the bias adds to each token."""

    device: str
    size: str
    pairs: int
    bare_seconds: float
    measured_seconds: float
    bias_seconds_per_token: float

    @property
    def ratio(self) -> float:
        return self.measured_seconds / self.bare_seconds

    @property
    def allowed(self) -> float:
        return ALLOWED[self.device.partition(":")[0]]

    def describe(self) -> str:
        return (
            f"{self.size} on {self.device}, {self.pairs} pairs: bare {self.bare_seconds * 1e3:.1f} ms, "
            f"measured {self.measured_seconds * 1e3:.1f} ms, ratio {self.ratio:.4f} (allowed {self.allowed}); "
            f"masking special tokens: {self.bias_seconds_per_token * 1e6:+.1f} µs a token"
        )


def compare(size: str, device: str, pairs: int, tokens: int) -> Overhead:
    """Alternates which side goes first, so that drift hits both."""
    folder = checkpoint.locate("synthetic", "chatterbox", size, "fp32", 0)
    tts = checkpoint.load(folder, "chatterbox", device)
    bare_loop = functools.partial(bounded, tts.t3.inference, tokens)
    pipeline = Pipeline(tts, texts=(TEXT,), length=Length(fixed=tokens), sampling={}, language=None)
    pipeline.control_length()
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):  # upstream's progress bars
        seconds = alternate(pipeline, bare_loop, pairs)
    bare, measured = statistics.median(seconds[False]), statistics.median(seconds[True])
    return Overhead(device, size, pairs, bare, measured, bias_seconds_per_token(pipeline))


def bounded(loop: Callable[..., Any], tokens: int, **arguments: Any) -> Any:
    """The package's loop, which `generate` always asks for 1000 tokens."""
    return loop(**{**arguments, "max_new_tokens": tokens})


def alternate(pipeline: Pipeline, bare_loop: Callable[..., Any], pairs: int) -> dict[bool, list[float]]:
    """Seconds of each utterance, bare under False and inside the harness under True."""
    timeline, guard = Timeline(pipeline.device), GuardSampler(pipeline.device)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(-WARMUP_PAIRS, pairs):
        for inside in (False, True) if pair % 2 else (True, False):
            settle(pipeline)
            taken = (
                inside_seconds(pipeline, pair, timeline, guard) if inside else bare_seconds(pipeline, pair, bare_loop)
            )
            if pair >= 0:
                seconds[inside].append(taken)
    return seconds


def inside_seconds(pipeline: Pipeline, seed: int, timeline: Timeline, guard: GuardSampler) -> float:
    """As the timing pass does it."""
    began = time.perf_counter()
    pipeline.speak_timed(0, seed, timeline)
    taken = time.perf_counter() - began
    guard.read()
    timeline.stages()
    return taken


def bare_seconds(pipeline: Pipeline, seed: int, bare_loop: Callable[..., Any]) -> float:
    """As a user of the package would."""
    torch.manual_seed(seed)
    with swapped(pipeline.tts.t3, pipeline.infer, bare_loop):
        began = time.perf_counter()
        pipeline.tts.generate(TEXT)
        return time.perf_counter() - began


def bias_seconds_per_token(pipeline: Pipeline) -> float:
    """The head of two rows with its bias, minus without; medians of alternating calls."""
    head = pipeline.tts.t3.speech_head
    hidden = torch.randn(2, head.in_features, device=pipeline.device, dtype=head.weight.dtype)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    with torch.inference_mode():
        for call in range(HEAD_CALLS):
            for bias in (head.bias, None) if call % 2 else (None, head.bias):
                settle_device(pipeline)
                began = time.perf_counter()
                torch.nn.functional.linear(hidden, head.weight, bias)
                settle_device(pipeline)
                seconds[bias is not None].append(time.perf_counter() - began)
    return statistics.median(seconds[True]) - statistics.median(seconds[False])


def settle_device(pipeline: Pipeline) -> None:
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize()
