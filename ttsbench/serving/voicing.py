"""From the tokens of calls to sound in their listeners' hands.

This is where the ways to make sound plug in: the server hands over tokens as they are drawn, and what a voicing makes
of them goes to a `Receiver`. `Whole` waits for the last token and takes several utterances at once. `Chunked` is for
stacks that stream: each call has a `streaming.Stream` of its own, whose design cuts chunks and makes them one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ttsbench.pipeline import Pipeline
from ttsbench.serving.calls import Call
from ttsbench.serving.flow import BatchedS3Gen
from ttsbench.serving.randomness import RandomStream
from ttsbench.spoken import SAMPLE_RATE_HZ
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.marking import Marking
from ttsbench.streaming.stream import Stream

# S3Gen's time for one utterance of 10 s is half launches; from eight on it grows with their number.
TOGETHER = 8


class Receiver(Protocol):
    """Where sound goes: it stamps what comes."""

    def hold(self, call: Call, audio_seconds: float) -> None:
        """A piece of so many seconds is in the listener's hands."""

    def finish(self, call: Call) -> None:
        """That was all of it."""


@dataclass(frozen=True)
class Drawn:
    """Tokens of a call as T3 drew them; the last message holds all that are to be spoken."""

    call: Call
    random: RandomStream
    tokens: tuple[int, ...]
    last: bool


class Voicing(Protocol):
    """Makes sound; all its calls come from one thread."""

    # Whether it wants tokens before the last one is there.
    early: bool
    # How many messages it takes at once.
    together: int

    def warm_up(self, tokens: int) -> None:
        """Compiles and captures what utterances of so many tokens will need."""

    def speak(self, messages: Sequence[Drawn]) -> None:
        """Whatever can be made of these, into their listeners' hands."""

    def forget(self) -> None:
        """All calls that are under way."""

    def evidence(self) -> dict[str, Any]:
        """For the record."""


class Whole:
    """An utterance when all of it is drawn; those that are ready at the same time together."""

    early = False
    together = TOGETHER

    def __init__(self, pipeline: Pipeline, receiver: Receiver) -> None:
        self._tts = pipeline.tts
        self._s3gen = BatchedS3Gen(pipeline)
        self._receiver = receiver

    def warm_up(self, tokens: int) -> None:
        """One, two, four, … at once; nobody hears them."""
        tts, rows = self._tts, 1
        while rows <= self.together:
            given = [torch.zeros(tokens, dtype=torch.long, device=tts.t3.device)] * rows
            streams = [RandomStream.seeded(row, tts.t3.device) for row in range(rows)]
            for mel, stream in zip(self._s3gen.mels(given, streams, tts.conds.gen), streams, strict=True):
                self._s3gen.wave(mel, stream)
            rows *= 2
        self._s3gen.calls = self._s3gen.utterances = 0

    def speak(self, messages: Sequence[Drawn]) -> None:
        """Frames of all of them, then each one's wave, on the host and marked, as `generate` delivers it."""
        device, tts = self._tts.t3.device, self._tts
        tokens = [torch.tensor(message.tokens, device=device) for message in messages]
        mels = self._s3gen.mels(tokens, [message.random for message in messages], tts.conds.gen)
        for message, mel in zip(messages, mels, strict=True):
            wave = self._s3gen.wave(mel, message.random).cpu().numpy()
            marked = tts.watermarker.apply_watermark(wave, sample_rate=tts.sr)
            self._receiver.hold(message.call, len(marked) / SAMPLE_RATE_HZ)
            self._receiver.finish(message.call)

    def forget(self) -> None:
        """Nothing is begun that was not ended."""

    def evidence(self) -> dict[str, Any]:
        """How many utterances S3Gen made at once."""
        calls = max(1, self._s3gen.calls)
        return {"s3gen_calls": self._s3gen.calls, "utterances_per_call": round(self._s3gen.utterances / calls, 2)}


class Chunked:
    """Chunk by chunk, as the stack's design makes them."""

    early = True
    together = 1

    def __init__(self, pipeline: Pipeline, receiver: Receiver) -> None:
        self._pipeline = pipeline
        self._receiver = receiver
        self._streams: dict[Call, Stream] = {}
        self._chunks = self._ended = 0

    def warm_up(self, tokens: int) -> None:
        """Single streams were spoken before, through the same windows."""

    def speak(self, messages: Sequence[Drawn]) -> None:
        """What is due by now."""
        for message in messages:
            stream = self._streams.get(message.call) or self._open(message.call)
            if not message.last:
                stream.receive(torch.tensor(message.tokens), stream.now())
                continue
            stream.finish(list(message.tokens))
            self._receiver.finish(message.call)
            del self._streams[message.call]
            self._ended += 1
            self._chunks += len(stream.chunks)

    def _open(self, call: Call) -> Stream:
        pipeline = self._pipeline
        assert pipeline.streamer is not None
        design = pipeline.streamer.new_design(pipeline.tts.conds.gen, call.seed)
        listener = Listener(lambda samples: self._receiver.hold(call, samples.numel() / SAMPLE_RATE_HZ))
        stream = Stream(design, pipeline.streaming, listener, Marking(pipeline.tts.watermarker), pipeline.tts.t3)
        self._streams[call] = stream
        return stream

    def forget(self) -> None:
        """Whoever is in the middle of it."""
        self._streams.clear()

    def evidence(self) -> dict[str, Any]:
        """How many chunks an utterance came in."""
        return {"streams": self._ended, "chunks_per_stream": round(self._chunks / max(1, self._ended), 2)}
