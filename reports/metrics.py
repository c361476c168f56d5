"""Every figure that a report can show: where it stands in a cell's record, and how it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter

from ttsbench.records import measurements
from ttsbench.records.measurements import Utterance
from ttsbench.records.runs import Cell
from ttsbench.reports.decide import statistics

P95_UTTERANCES_MIN = 20
S3GEN_STAGES = ("flow_encoder", "cfm", "vocoder")
STAGES = (*measurements.STAGES, measurements.RESIDUAL)


@dataclass(frozen=True)
class Metric:
    """One figure per process; lower is better for all of them."""

    name: str
    label: str
    of: Callable[[Cell], float | None]
    scale: float = 1.0
    digits: int = 3

    @property
    def spoken(self) -> bool:
        """Whether it is of single utterances, each of which the device spoke at some pace of its own."""
        return isinstance(self.of, OverUtterances)

    def text(self, value: float | None) -> str:
        """As it stands in a table."""
        return "–" if value is None else f"{value * self.scale:,.{self.digits}f}"


def speed(cells: Iterable[Cell]) -> Metric:
    """What says how fast these are: RTF, or the time of a forward where the backbone runs alone."""
    return FORWARD if any(cell.forwards for cell in cells) else RTF


def memory(cells: Iterable[Cell]) -> Metric:
    """What says how much memory these need."""
    return FORWARD_PEAK if any(cell.forwards for cell in cells) else PEAK_MEMORY


@dataclass(frozen=True)
class OverUtterances:
    """The median of a process's utterances."""

    of: Callable[[Utterance], float | None]

    def __call__(self, cell: Cell) -> float | None:
        """Of those that have it."""
        return statistics.median(map(self.of, cell.utterances))


def stage_seconds(stage: str, *, device: bool = False) -> Callable[[Utterance], float | None]:
    """Seconds in one stage, by the host's clock or between the device's events."""
    seconds = attrgetter("device_seconds" if device else "host_seconds")
    return lambda utterance: None if (time := utterance.stages.get(stage)) is None else seconds(time)


def decode_seconds_per_token(utterance: Utterance) -> float | None:
    """Prefill apart: it draws no token of its own."""
    decode = stage_seconds("decode")(utterance)
    return decode / utterance.tokens if decode is not None and utterance.tokens else None


def s3gen_seconds(utterance: Utterance) -> float | None:
    """From tokens to the wave on the device. On a GPU by its events, since the host runs ahead."""
    for device in (True, False):
        parts = statistics.finite(stage_seconds(stage, device=device)(utterance) for stage in S3GEN_STAGES)
        if len(parts) == len(S3GEN_STAGES):
            return sum(parts)
    return None


def s3gen_rtf(utterance: Utterance) -> float | None:
    """Seconds for each second of audio: other tokens may make more of it."""
    seconds = s3gen_seconds(utterance)
    return seconds / utterance.audio_seconds if seconds is not None and utterance.audio_seconds else None


def rtf_p95(cell: Cell) -> float | None:
    """Within one process, over its utterances; of fewer than 20 it would be hardly more than the largest."""
    if len(cell.utterances) < P95_UTTERANCES_MIN:
        return None
    return statistics.percentile([utterance.rtf for utterance in cell.utterances], 0.95)


def rtf_corpus(cell: Cell) -> float | None:
    """All wall seconds over all audio seconds."""
    audio_seconds = sum(utterance.audio_seconds for utterance in cell.utterances)
    return sum(utterance.wall_seconds for utterance in cell.utterances) / audio_seconds if audio_seconds else None


def _memory(field: str) -> Callable[[Cell], float | None]:
    return lambda cell: None if cell.memory is None else getattr(cell.memory, field)


def _peak_memory(cell: Cell) -> float | None:
    reserved = _memory("reserved_peak_bytes")(cell)
    return reserved if reserved is not None else _memory("host_peak_bytes")(cell)


VOCODER_CALLS = Metric(
    "vocoder_calls",
    "calls",
    OverUtterances(lambda u: None if u.stream is None else float(len(u.stream.chunks))),
    digits=0,
)
RTF = Metric("rtf", "RTF", OverUtterances(lambda u: u.rtf))
WALL = Metric("wall_seconds", "wall s", OverUtterances(lambda u: u.wall_seconds))
TTFA = Metric("first_playable_seconds", "TTFA ms", OverUtterances(lambda u: u.first_playable_seconds), 1e3, 0)
DECODE = Metric("decode_seconds_per_token", "ms/token", OverUtterances(decode_seconds_per_token), 1e3, 2)
S3GEN = Metric("s3gen_seconds", "S3Gen ms", OverUtterances(s3gen_seconds), 1e3, 0)
S3GEN_RTF = Metric("s3gen_rtf", "S3Gen RTF", OverUtterances(s3gen_rtf))
PEAK_MEMORY = Metric("peak_memory_bytes", "peak GiB", _peak_memory, 1 / 2**30, 2)
ENERGY = Metric(
    "joules_per_audio_second", "J/s", lambda c: None if c.energy is None else c.energy.joules_per_audio_second, 1.0, 1
)
FORWARD = Metric("forward_seconds", "ms", lambda cell: statistics.median(f.wall_seconds for f in cell.forwards), 1e3, 2)
FORWARD_PEAK = Metric(
    "forward_peak_bytes",
    "peak MiB",
    lambda cell: statistics.median(f.peak_allocated_bytes for f in cell.forwards),
    1 / 2**20,
    0,
)
OVERVIEW = (RTF, TTFA, DECODE, S3GEN, PEAK_MEMORY, ENERGY)
DETAIL = (
    RTF,
    Metric("rtf_p95", "RTF p95", rtf_p95),
    Metric("rtf_corpus", "RTF corpus", rtf_corpus),
    WALL,
    Metric("audio_seconds", "audio s", OverUtterances(lambda u: u.audio_seconds), digits=2),
    Metric("first_sample_seconds", "first sample ms", OverUtterances(lambda u: u.first_sample_seconds), 1e3, 0),
    Metric("first_playable_seconds", "first playable ms", OverUtterances(lambda u: u.first_playable_seconds), 1e3, 0),
    Metric("first_audible_seconds", "first audible ms", OverUtterances(lambda u: u.first_audible_seconds), 1e3, 0),
)
MEMORY = tuple(
    Metric(field, label, _memory(field), 1 / 2**20, 0)
    for field, label in (
        ("weights_bytes", "weights"),
        ("kv_cache_bytes", "KV cache"),
        ("allocated_peak_bytes", "allocated"),
        ("reserved_peak_bytes", "reserved"),
        ("process_bytes", "process"),
        ("device_bytes", "device"),
        ("host_peak_bytes", "host peak"),
    )
)
