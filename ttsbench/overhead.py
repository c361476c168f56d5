"""The harness measured by itself: the same utterances bare and inside it, alternating, in one process."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

from ttsbench import checkpoint
from ttsbench.instruments.clock import Timeline
from ttsbench.instruments.guard import GuardSampler
from ttsbench.pipeline import Length, Pipeline
from ttsbench.worker import settle

ALLOWED = {"cuda": 1.01, "cpu": 1.03}
TEXT = "The harness must not be heard in what it measures."
WARMUP_PAIRS = 2


@dataclass(frozen=True)
class Overhead:
    """Medians of both sides."""

    device: str
    size: str
    pairs: int
    bare_seconds: float
    measured_seconds: float

    @property
    def ratio(self) -> float:
        """Inside the harness over bare."""
        return self.measured_seconds / self.bare_seconds

    @property
    def allowed(self) -> float:
        """The most that it may be."""
        return ALLOWED[self.device.partition(":")[0]]

    def describe(self) -> str:
        """One line."""
        return (
            f"{self.size} on {self.device}, {self.pairs} pairs: bare {self.bare_seconds * 1e3:.1f} ms, "
            f"measured {self.measured_seconds * 1e3:.1f} ms, ratio {self.ratio:.4f} (allowed {self.allowed})"
        )


def compare(size: str, device: str, pairs: int, tokens: int) -> Overhead:
    """Alternates which side goes first, so that drift hits both."""
    folder = checkpoint.locate("synthetic", "chatterbox", size, "fp32", 0)
    tts = checkpoint.load(folder, "chatterbox", device)
    pipeline = Pipeline(tts, texts=(TEXT,), length=Length(fixed=tokens), sampling={}, language=None)
    pipeline.control_length()
    timeline, guard = Timeline(pipeline.device), GuardSampler(pipeline.device)
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):  # upstream's progress bars
        seconds = alternate(pipeline, timeline, guard, pairs)
    return Overhead(device, size, pairs, statistics.median(seconds[False]), statistics.median(seconds[True]))


def alternate(pipeline: Pipeline, timeline: Timeline, guard: GuardSampler, pairs: int) -> dict[bool, list[float]]:
    """Seconds of each utterance, bare under False and inside the harness under True."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for pair in range(-WARMUP_PAIRS, pairs):
        for inside in (False, True) if pair % 2 else (True, False):
            settle(pipeline)
            began = time.perf_counter()
            if inside:
                pipeline.speak_timed(0, pair, timeline)
                taken = time.perf_counter() - began
                guard.read()
                timeline.stages()
            else:
                pipeline.speak(0, pair)
                taken = time.perf_counter() - began
            if pair >= 0:
                seconds[inside].append(taken)
    return seconds
