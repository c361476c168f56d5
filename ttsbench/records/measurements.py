"""What a cell measures, raw and immutable: utterances, forwards, requests under load, and what stands beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of an utterance, in their order; what none of them accounts for is the residual.
STAGES = ("text", "voice", "prefill", "decode", "flow_encoder", "cfm", "vocoder", "copy_to_host", "watermark")
RESIDUAL = "residual"


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of one utterance. `device_seconds` spans two events on the stream, waiting included."""

    host_seconds: float
    device_seconds: float | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
    # T3 waited for the first chunk from then until then.
    rest_began_seconds: float = 0.0
    rest_ended_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
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
    # Of a kernel in work that is always the same, right before it and right after it.
    pace_before_ns: float | None = None
    pace_ns: float | None = None
    stream: Streamed | None = None

    @property
    def paces_ns(self) -> tuple[float, ...]:
        """The device's own, those that are known."""
        return tuple(pace for pace in (self.pace_before_ns, self.pace_ns) if pace is not None and pace > 0)

    @property
    def rtf(self) -> float:
        """Wall seconds per second of audio delivered; lower is better."""
        return self.wall_seconds / self.audio_seconds if self.audio_seconds else math.nan


@dataclass(frozen=True, slots=True)
class TimedForward:
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Memory:
    """Peaks over one utterance, in a pass of its own. On a CPU only the host's figures exist."""

    host_peak_bytes: int
    weights_bytes: int
    kv_cache_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    reserved_peak_bytes: int | None = None
    process_bytes: int | None = None
    device_bytes: int | None = None


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class VoicePreparation:
    """A reference and what its preparation takes, warm: afresh, and from the cache."""

    sha256: str
    reference_seconds: float
    clipped: bool
    prepare_seconds: tuple[float, ...]
    cached_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ForwardQuality:
    """How far a forward's last hidden states are from fp32 with upstream's options."""

    hidden_relative_error: float
    hidden_max_difference: float
    finite: bool


@dataclass(frozen=True, slots=True)
class Request:
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


@dataclass(frozen=True, slots=True)
class Level:
    """One load: so many listeners who ask again and again (closed), or requests that come at a rate (open)."""

    kind: str
    # Listeners, or requests a second.
    size: float
    calls: tuple[Request, ...] = ()
    ended_seconds: float = 0.0
    # Why it did not run; empty where it did.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """All levels of one process, and what a request should reach."""

    ttfa_seconds: float
    underrun_seconds: float
    levels: tuple[Level, ...]
    # How many utterances are decoded at once at most; None: one after the other.
    slots: int | None = None
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """What could have spoiled the timing, read between utterances."""

    sm_clock_mhz_min: int | None = None
    sm_clock_mhz_max: int | None = None
    temperature_c_max: int | None = None
    throttle_reasons: tuple[str, ...] = ()
    foreign_processes: tuple[str, ...] = ()
    load_average: float | None = None
