"""How figures are read from a cell's record: the median of its utterances, sums of stages, what its evidence holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from ttsbench.records import measurements
from ttsbench.records.fingerprint import look_up
from ttsbench.records.measurements import Streamed, TimedForward, Utterance
from ttsbench.records.runs import Cell
from ttsbench.reports import continuity
from ttsbench.reports.continuity import Playback
from ttsbench.reports.decide import statistics

P95_UTTERANCES_MIN = 20
S3GEN_STAGES = ("flow_encoder", "cfm", "vocoder")
STAGES = (*measurements.STAGES, measurements.RESIDUAL)


@dataclass(frozen=True)
class MedianOfUtterances:
    """Of a process's utterances that have the figure."""

    of: Callable[[Utterance], float | None]

    def __call__(self, cell: Cell) -> float | None:
        return statistics.median(map(self.of, cell.utterances))


def of_stream(of: Callable[[Streamed], float | None]) -> MedianOfUtterances:
    return MedianOfUtterances(lambda utterance: None if utterance.stream is None else of(utterance.stream))


def of_playback(of: Callable[[Playback], float]) -> MedianOfUtterances:
    def read(utterance: Utterance) -> float | None:
        playback = continuity.played(utterance)
        return None if playback is None else of(playback)

    return MedianOfUtterances(read)


def median_of_forwards(of: Callable[[TimedForward], float | None]) -> Callable[[Cell], float | None]:
    return lambda cell: statistics.median(map(of, cell.forwards))


def memory_field(name: str) -> Callable[[Cell], float | None]:
    return lambda cell: None if cell.memory is None else getattr(cell.memory, name)


def stage_seconds(stage: str, *, device: bool = False) -> Callable[[Utterance], float | None]:
    """Seconds in one stage, by the host's clock or between the device's events."""
    seconds = attrgetter("device_seconds" if device else "host_seconds")
    return lambda utterance: None if (time := utterance.stages.get(stage)) is None else seconds(time)


def decode_seconds_per_token(utterance: Utterance) -> float | None:
    """Prefill apart: it draws no token of its own."""
    decode = utterance.stages.get("decode")
    return decode.host_seconds / utterance.tokens if decode is not None and utterance.tokens else None


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


def peak_memory(cell: Cell) -> float | None:
    if cell.memory is None or cell.memory.reserved_peak_bytes is None:
        return memory_field("host_peak_bytes")(cell)
    return cell.memory.reserved_peak_bytes


def tokens(cell: Cell) -> float | None:
    return float(sum(utterance.tokens for utterance in cell.utterances)) if cell.utterances else None


def in_evidence(dotted: str) -> Callable[[Cell], float | None]:
    """Reads a number there, whatever the evidence is made of."""

    def read(cell: Cell) -> float | None:
        value = look_up(cell.evidence, dotted)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    return read


_busy_milliseconds = in_evidence("activity.per_call.device_busy_ms")


def busy_seconds(cell: Cell) -> float | None:
    """In kernels and copies, as the profiler saw them; on a CPU there are none."""
    milliseconds = _busy_milliseconds(cell)
    return milliseconds * 1e-3 if milliseconds else None


def busy_share(cell: Cell) -> float | None:
    busy, wall = busy_seconds(cell), statistics.median(forward.wall_seconds for forward in cell.forwards)
    return busy / wall if busy and wall else None
