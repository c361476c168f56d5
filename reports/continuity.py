"""What a listener hears of a stream: whether the next chunk is there when the last one has been played. Pure numbers.

Playback begins when 80 ms are there, and stops whenever the next chunk is not. A chunk is due when all before it has
been played.
"""

from __future__ import annotations

from dataclasses import dataclass

from ttsbench.records import Streamed, Utterance


@dataclass(frozen=True)
class Stall:
    """Silence because a chunk was late: since when, in seconds from the request, and for how long."""

    began: float
    seconds: float


@dataclass(frozen=True)
class Playback:
    """A stream as it is played."""

    begins: float
    ends: float
    stalls: tuple[Stall, ...]
    # How much later playback would have to begin for no chunk to be late.
    prebuffer_seconds: float

    @property
    def underrun_seconds(self) -> float:
        """All silences together."""
        return sum(stall.seconds for stall in self.stalls)

    @property
    def late_chunks(self) -> int:
        """Those that were waited for."""
        return len(self.stalls)


def played(utterance: Utterance) -> Playback | None:
    """None where it did not come as a stream."""
    stream, begins = utterance.stream, utterance.first_playable_seconds
    if stream is None:
        return None
    at, before, prebuffer, stalls = begins, 0.0, 0.0, list[Stall]()
    for chunk in stream.chunks:
        prebuffer = max(prebuffer, chunk.arrived_seconds - (begins + before))
        if chunk.arrived_seconds > at:
            stalls.append(Stall(at, chunk.arrived_seconds - at))
            at = chunk.arrived_seconds
        seconds = chunk.samples / stream.sample_rate_hz
        at, before = at + seconds, before + seconds
    return Playback(begins, at, tuple(stalls), prebuffer)


def overlap_share(stream: Streamed | None) -> float | None:
    """Of the time that S3Gen worked, the share in which T3 decoded on."""
    if stream is None:
        return None
    spans = [(chunk.began_seconds, chunk.arrived_seconds) for chunk in stream.chunks]
    worked = sum(end - start for start, end in spans)
    if not worked:
        return None
    began, ended = stream.decode_began_seconds, stream.decode_ended_seconds
    together = sum(max(0.0, min(end, ended) - max(start, began)) for start, end in spans)
    return together / worked if stream.at_once else 0.0


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
