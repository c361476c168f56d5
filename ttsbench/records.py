"""What a run leaves behind: immutable, raw, versioned JSON. Statistics are derived on reading, never stored."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttsbench.decoding import from_json as from_json
from ttsbench.errors import NoRecordError, RecordError

SCHEMA_VERSION = 4
# Of an utterance, in their order; what none of them accounts for is the residual.
STAGES = ("text", "voice", "prefill", "decode", "flow_encoder", "cfm", "vocoder", "copy_to_host", "watermark")
RESIDUAL = "residual"
# An utterance takes 1 to 2 kB. What is larger is refused unread: parsed, it would take ten times as much memory.
RECORD_BYTES_MAX = 64 * 1024 * 1024

Json = dict[str, Any]


@dataclass(frozen=True)
class StageTime:
    """One stage of one utterance. `device_seconds` spans two events on the stream, waiting included."""

    host_seconds: float
    device_seconds: float | None = None


@dataclass(frozen=True)
class Chunk:
    """One chunk of a stream: what it brought, what was worked through for it, when work on it began, when it was held.

    Seconds count from the request, on the listener's clock. Frames are of 20 ms, those of the reference among them.
    """

    tokens: int
    samples: int
    flow_frames: int
    vocoder_frames: int
    began_seconds: float
    arrived_seconds: float


@dataclass(frozen=True)
class Streamed:
    """How an utterance reached its listener."""

    design: str
    sample_rate_hz: int
    # Whether T3 went on while S3Gen worked.
    at_once: bool
    decode_began_seconds: float
    decode_ended_seconds: float
    # What the listener did itself; its clock stood still meanwhile.
    consumer_seconds: float
    # Until the voice was at hand, from the cache or prepared anew.
    voice_seconds: float
    chunks: tuple[Chunk, ...]
    # When T3 handed tokens over, and how many there were by then.
    token_seconds: tuple[float, ...] = ()
    token_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Utterance:
    """One timed utterance, raw. The three first-audio times are taken when the consumer holds the samples."""

    text_index: int
    repeat: int
    seed: int
    wall_seconds: float
    audio_seconds: float
    tokens: int
    tokens_sha256: str
    first_sample_seconds: float
    first_playable_seconds: float
    first_audible_seconds: float | None
    stages: dict[str, StageTime]
    sm_clock_mhz: int | None = None
    stream: Streamed | None = None

    @property
    def rtf(self) -> float:
        """Wall seconds per second of audio delivered; lower is better."""
        return self.wall_seconds / self.audio_seconds if self.audio_seconds else math.nan


@dataclass(frozen=True)
class Forward:
    """One timed forward of the backbone alone, or so many steps after a prompt.

    Wall seconds end when the device has finished, host seconds when the host has issued everything; device seconds
    span two events on the stream, waiting for the host included.
    """

    rows: int
    positions: int
    steps: int
    repeat: int
    wall_seconds: float
    host_seconds: float
    device_seconds: float | None = None
    peak_allocated_bytes: int | None = None

    @property
    def tokens_per_second(self) -> float:
        """Positions read, of all rows."""
        return self.rows * (self.steps or self.positions) / self.wall_seconds if self.wall_seconds else math.nan


@dataclass(frozen=True)
class Audio:
    """One wav kept for listening, and what can be said of it without a reference."""

    text_index: int
    path: str
    sample_rate_hz: int
    seconds: float
    finite: bool
    peak: float
    rms: float
    silent_share: float
    clipped_share: float


@dataclass(frozen=True)
class Memory:
    """Peaks over one utterance, in a pass of its own. On a CPU only the host's figures exist."""

    host_peak_bytes: int
    weights_bytes: int
    kv_cache_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    reserved_peak_bytes: int | None = None
    process_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True)
class Energy:
    """From the board's own counter, the idle draw measured just before and subtracted."""

    joules: float
    idle_watts: float
    seconds: float
    audio_seconds: float

    @property
    def joules_per_audio_second(self) -> float:
        """Net of idle."""
        net = self.joules - self.idle_watts * self.seconds
        return net / self.audio_seconds if self.audio_seconds else math.nan


@dataclass(frozen=True)
class Quality:
    """How one text fared against the reference; errors are relative, divergence is in nats, the mel's unit is log."""

    text_index: int
    tokens: int
    same_tokens: int
    logits_relative_error: float
    kl_mean: float
    kl_max: float
    top1_agreement: float
    mel_distance: float
    mel_relative_error: float
    wave_snr_db: float
    finite: bool
    silent: bool
    # Share of samples at the vocoder's clamp, beyond the reference's.
    clipped_growth: float = 0.0


@dataclass(frozen=True)
class Seams:
    """How far a stream is from the same tokens and noise at once, in log mel: at its seams, and away from all of them.

    Seams of growing chunks lie early, where windows knew little of what follows; so each is laid beside its own chunks.
    """

    text_index: int
    seams: int
    at_seams: float
    # In the two chunks that meet at a seam, and in all of the utterance.
    beside: float
    away: float
    wave_snr_db: float

    @property
    def seam_ratio(self) -> float:
        """1 where seams cannot be told from the sound around them."""
        return self.at_seams / self.beside if self.seams and self.beside else 1.0


@dataclass(frozen=True)
class Voice:
    """A reference and what its preparation takes, warm: afresh, and from the cache."""

    sha256: str
    reference_seconds: float
    clipped: bool
    prepare_seconds: tuple[float, ...]
    cached_seconds: tuple[float, ...]


@dataclass(frozen=True)
class ForwardQuality:
    """How far a forward's last hidden states are from fp32 with upstream's options."""

    hidden_relative_error: float
    hidden_max_difference: float
    finite: bool


@dataclass(frozen=True)
class Call:
    """One request under load. Seconds count from the beginning of its level, on one clock.

    `scheduled_seconds` is when its listener asked, or meant to: latencies count from there, however late it was
    taken up. Pieces are what its listener held, and when.
    """

    number: int
    text_index: int
    seed: int
    # Of the level's figures; the others only keep the load up.
    counted: bool
    scheduled_seconds: float
    started_seconds: float | None = None
    # None: given up at the end of the level.
    finished_seconds: float | None = None
    arrived_seconds: tuple[float, ...] = ()
    audio_seconds: tuple[float, ...] = ()
    tokens: int = 0
    tokens_sha256: str = ""

    @property
    def pieces(self) -> tuple[tuple[float, float], ...]:
        """When each was held, and how many seconds of sound it was."""
        return tuple(zip(self.arrived_seconds, self.audio_seconds, strict=True))


@dataclass(frozen=True)
class Level:
    """One load: so many listeners who ask again and again (closed), or requests that come at a rate (open)."""

    kind: str
    # Listeners, or requests a second.
    size: float
    calls: tuple[Call, ...] = ()
    ended_seconds: float = 0.0
    # Why it did not run; empty where it did.
    reason: str = ""


@dataclass(frozen=True)
class Load:
    """All levels of one process, and what a request should reach."""

    ttfa_seconds: float
    underrun_seconds: float
    levels: tuple[Level, ...]
    # How many utterances are decoded at once at most; None: one after the other.
    slots: int | None = None
    streams: bool = False


@dataclass(frozen=True)
class Guard:
    """What could have spoiled the timing, read between utterances."""

    sm_clock_mhz_min: int | None = None
    sm_clock_mhz_max: int | None = None
    temperature_c_max: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    foreign_processes: tuple[str, ...] = ()
    load_average: float | None = None


@dataclass(frozen=True)
class Cell:
    """One stack at one point of the matrix in one process: the unit that later decisions pair."""

    key: str
    kind: str
    stack: str
    slots: dict[str, str]
    point: dict[str, Any]
    process: int
    order: int
    status: str
    reason: str = ""
    changes_output: tuple[str, ...] = ()
    start_method: str = ""
    started_utc: str = ""
    elapsed_seconds: float = 0.0
    ladder: dict[str, float] = field(default_factory=dict)
    warmup_seconds: tuple[float, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    forwards: tuple[Forward, ...] = ()
    load: Load | None = None
    streams: bool = False
    memory: Memory | None = None
    energy: Energy | None = None
    guard: Guard | None = None
    audio: tuple[Audio, ...] = ()
    quality: tuple[Quality, ...] = ()
    seams: tuple[Seams, ...] = ()
    voice: Voice | None = None
    forward_quality: ForwardQuality | None = None
    faults: tuple[str, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    # What could not run here and was replaced: this row is not what was asked for.
    fell_back: tuple[str, ...] = ()
    # Of kind "profile": a `profiles.Profile` as plain data.
    profile: dict[str, Any] = field(default_factory=dict)

    @property
    def job_id(self) -> str:
        """The job whose row this is."""
        return f"{self.key}#{self.kind}{self.process}"

    @property
    def ok(self) -> bool:
        """Whether its figures may be used."""
        return self.status == "ok"

    @property
    def done(self) -> bool:
        """Whether there is nothing left to try: it ran, or it cannot run here."""
        return self.status in ("ok", "skipped")


@dataclass(frozen=True)
class Run:
    """Everything one `ttsbench run` found out."""

    schema_version: int
    ttsbench_version: str
    run_id: str
    scenario: str
    baseline: str
    started_utc: str
    finished_utc: str
    status: str
    environment: dict[str, Any]
    scenario_given: str
    overrides: tuple[str, ...]
    scenario_understood: dict[str, Any]
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()
    # The stack whose slots were taken apart, if any was.
    ablated: str = ""


def to_json(record: Any) -> Json:
    """A record as plain data."""
    return dataclasses.asdict(record)


def _with_whole_references(data: Json) -> Json:
    """Before references could be clipped none was: such work is the same as that which says so."""
    understood = data.get("scenario_understood")
    workload = understood.get("workload") if isinstance(understood, dict) else None
    if not isinstance(understood, dict) or not isinstance(workload, dict):
        return data
    told = {"streaming": None, "clip_voice": False, **workload}
    return {**data, "scenario_understood": {**understood, "workload": told}}


# From the version a file was written in to the next; each takes and returns plain data.
MIGRATIONS: dict[int, Callable[[Json], Json]] = {
    1: lambda data: {
        **data,
        "schema_version": 2,
    },  # cells gained fields that may be missing
    2: lambda data: _with_whole_references({**data, "schema_version": 3}),  # and utterances may have a stream
    3: lambda data: {**data, "schema_version": 4},  # cells may have a load
}


def migrate(data: Json, where: str) -> Json:
    """Brings a record of any version ever written to the present one."""
    version = data.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordError(f"{where} has no schema_version that can be read: {version!r:.40}")
    if version > SCHEMA_VERSION:
        raise RecordError(
            f"{where} was written in schema version {version}; this ttsbench reads up to {SCHEMA_VERSION}",
            mend="Update ttsbench to read it",
        )
    for step in range(version, SCHEMA_VERSION):
        data = MIGRATIONS[step](data)
    return data


def read_run(path: Path) -> Run:
    """The record of a run folder, or of its run.json."""
    from pydantic_core import from_json as parsed  # three times as fast as json, which is most of reading a record

    file = path
    try:
        file = path / "run.json" if path.is_dir() else path
        data = parsed(read_bytes(file), allow_inf_nan=False)
    except FileNotFoundError:
        raise NoRecordError(f"{path} holds no run.json", mend="Name a folder below runs/, or its run.json") from None
    except OSError as error:
        raise RecordError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number may have too many digits to be read
        raise RecordError(f"{file} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise RecordError(f"{file} is not a run record but a {type(data).__name__}")
    return from_json(Run, migrate(data, str(file)), str(file))


def read_bytes(file: Path) -> bytes:
    """The whole of a file that we wrote: refused unread where it is too large, or is a device or a pipe."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise RecordError(f"{file} is no file of ours but a {'folder' if stat.S_ISDIR(found.st_mode) else 'device'}")
    if found.st_size > RECORD_BYTES_MAX:
        raise RecordError(
            f"{file} has {found.st_size / 1e6:.0f} MB; a record has at most {RECORD_BYTES_MAX / 1e6:.0f} MB"
        )
    return file.read_bytes()


def write_run(folder: Path, run: Run) -> Path:
    """Writes run.json whole or not at all."""
    return write_text_atomically(folder / "run.json", dump(to_json(run), indent=1) + "\n")


def dump(data: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: NaN and infinities become null."""
    return json.dumps(_without_nan(data), ensure_ascii=False, allow_nan=False, indent=indent)


def _without_nan(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(k): _without_nan(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(v) for v in data]
    return data


def write_text_atomically(path: Path, text: str) -> Path:
    """The same for text."""
    return write_atomically(path, text.encode())


def write_atomically(path: Path, data: bytes) -> Path:
    """A reader sees the old file or the new one, never half of one; a full disk leaves the old one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)  # still there only if it did not get that far
    return path
