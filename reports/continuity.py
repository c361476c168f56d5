"""What a listener heard of an utterance that came as a stream, and what it took to make it. Pure numbers."""

from __future__ import annotations

from ttsbench.records import playback
from ttsbench.records.measurements import Streamed, Utterance
from ttsbench.records.playback import Playback as Playback
from ttsbench.records.playback import Underrun as Underrun


def played(utterance: Utterance) -> Playback | None:
    """None where it did not come as a stream."""
    stream = utterance.stream
    if stream is None:
        return None
    pieces = [(chunk.arrived_seconds, chunk.samples / stream.sample_rate_hz) for chunk in stream.chunks]
    return playback.play(pieces, utterance.first_playable_seconds)


def overlap_share(stream: Streamed | None) -> float | None:
    """Of the time that S3Gen worked, the share in which T3 decoded on."""
    if stream is None:
        return None
    spans = [(chunk.began_seconds, chunk.arrived_seconds) for chunk in stream.chunks]
    worked = sum(end - start for start, end in spans)
    if not worked:
        return None
    decoded = _within(spans, stream.decode_began_seconds, stream.decode_ended_seconds)
    rested = _within(spans, stream.rest_began_seconds, stream.rest_ended_seconds)
    return (decoded - rested) / worked if stream.at_once else 0.0


def _within(spans: list[tuple[float, float]], began: float, ended: float) -> float:
    return sum(max(0.0, min(end, ended) - max(start, began)) for start, end in spans)


def audio_seconds(stream: Streamed) -> float:
    """All that was heard."""
    return sum(chunk.samples for chunk in stream.chunks) / stream.sample_rate_hz


def flow_frames_per_second(stream: Streamed | None) -> float | None:
    """Mel frames that the flow worked through for a second of audio; 50 of them are heard."""
    seconds = 0.0 if stream is None else audio_seconds(stream)
    return None if stream is None or not seconds else sum(chunk.flow_frames for chunk in stream.chunks) / seconds


def vocoder_frames_per_second(stream: Streamed | None) -> float | None:
    """The same for the vocoder."""
    seconds = 0.0 if stream is None else audio_seconds(stream)
    return None if stream is None or not seconds else sum(chunk.vocoder_frames for chunk in stream.chunks) / seconds


def waits_for_the_whole(utterance: Utterance) -> bool:
    """Whether it came in chunks and nothing of it was heard before nearly all was made, as if a wave were sliced."""
    stream = utterance.stream
    if stream is None or len(stream.chunks) < 2 or not utterance.wall_seconds:
        return False
    return utterance.first_sample_seconds >= LATE_SHARE * utterance.wall_seconds


# A stream of two equal chunks is half made when the first is heard.
LATE_SHARE = 0.9
