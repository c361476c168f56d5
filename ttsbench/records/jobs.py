"""What one worker process is to do, as plain data; its answer is a `runs.Cell`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ttsbench.records.chunk_schedule import Streaming

TIMED = "timed"
COLD = "cold"
REFERENCE = "reference"
PROFILE = "profile"
FILE_STEM_MAX = 100
# When a listener asks again: when it holds the last answer, or has heard it.
DELIVERED, PLAYED = NEXT_REQUEST = ("delivered", "played")


@dataclass(frozen=True)
class ForwardJob:
    """A forward of the backbone alone; with steps, those after a prompt of so many positions."""

    rows: int
    positions: int
    steps: int


@dataclass(frozen=True)
class LoadJob:
    """Who asks, how long, and what an answer should reach."""

    listeners: tuple[int, ...]
    rates: tuple[float, ...]
    ttfa_seconds: float
    underrun_seconds: float
    requests: int | None = None
    duration_seconds: float | None = None
    warmup: float = 0.2
    next_request: str = DELIVERED
    ramp_seconds: float = 0.0
    patience_seconds: float = 60.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class ProfileJob:
    """What a profile is to hold: an utterance of so many decode steps; Python's stacks and memory only when asked."""

    scenario: str
    steps: int
    stacks: bool = False
    memory: bool = False
    trace_bytes_max: int = 0
    tensorboard: str = ""


@dataclass(frozen=True)
class Fake:
    """What the fake engine pretends; shares are of the time, or of the processes or calls that it befalls."""

    seed: int = 0
    rtf: float = 0.5
    process_noise: float = 0.015
    call_noise: float = 0.01
    stage_noise: float = 0.0
    drift: float = 0.0
    spikes: float = 0.0
    spike_size: float = 0.5
    throttled: float = 0.0
    hurried: float = 0.0
    leak: float = 0.0
    crashes: float = 0.0
    # By stack and place: how much more than usual it takes.
    planted: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    key: str
    kind: str
    stack: str
    slots: dict[str, str]
    point: dict[str, Any]
    process: int
    order: int
    start_method: str
    device: str
    family: str
    weights: str
    size: str
    dtype: str
    model_seed: int
    texts: tuple[str, ...]
    fixed_tokens: int | None
    replay_tokens: tuple[tuple[int, ...], ...]
    voice_wav: str
    voice_seconds: float | None
    language: str | None
    sampling: dict[str, float]
    seed: int
    warmup: int
    repeats: int
    passes: tuple[str, ...]
    timeout_seconds: float
    keep_audio: bool
    # What quality is compared with, below the run's folder, and how much each figure may be off.
    reference: str
    limits: dict[str, float]
    # In the place of whole utterances.
    forward: ForwardJob | None = None
    # Many requests in the place of one utterance after the other.
    load: LoadJob | None = None
    # Of a profile.
    window: ProfileJob | None = None
    # What could not run here, and what its slot holds instead.
    fell_back: tuple[str, ...] = ()
    # Where chunks are asked for, how they are cut.
    streaming: Streaming | None = None
    # Whether of a long reference only what the models keep is read.
    clip_voice: bool = False
    # In the place of the model.
    fake: Fake | None = None

    @property
    def id(self) -> str:
        """Names the job in the journal."""
        return f"{self.key}#{self.kind}{self.process}"

    @property
    def checkpoint(self) -> tuple[str, str, str, str, int]:
        """The model as `checkpoint.locate` takes it."""
        return self.weights, self.family, self.size, self.dtype, self.model_seed

    @property
    def log(self) -> str:
        """Below the run's folder."""
        return f"logs/{self.file_stem}.{self.kind}{self.process}.log"

    @property
    def file_stem(self) -> str:
        """Names the job's files: letters and a length that every file system takes, and no other cell's."""
        return file_stem(self.key)


def file_stem(name: str) -> str:
    """A name as a file's, with a hash where letters had to be replaced."""
    plain = re.sub(r"[^A-Za-z0-9_.=+-]", "_", name)[:FILE_STEM_MAX]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:8]}"


def digest(jobs: Sequence[Job]) -> str:
    """Identifies all that was to be measured: the jobs in their order, with their texts, tokens and voices."""
    sha256 = hashlib.sha256(json.dumps([asdict(job) for job in jobs], sort_keys=True).encode())
    for wav in sorted({job.voice_wav for job in jobs} - {""}):
        sha256.update(Path(wav).read_bytes())
    return sha256.hexdigest()
