"""From the tokens of calls to sound in their listeners' hands.

This is where the ways to make sound plug in: the server hands over tokens as they are drawn, and what a synthesizer
makes of them goes to a `Receiver`. `WholeSynthesizer` waits for the last token and takes several utterances at once.
`ChunkSynthesizer` is for stacks that stream: each call has a `streaming.Stream` of its own, and S3Gen makes the windows
of several at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SAMPLE_RATE_HZ
from ttsbench.serving.calls import Call
from ttsbench.serving.flow import BatchedS3Gen
from ttsbench.serving.randomness import RandomStream
from ttsbench.serving.windows import WindowBatch
from ttsbench.streaming.designs import Windowed
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.stream import DueChunk, Stream
from ttsbench.streaming.streamer import streamer_of

# Four windows take twice as long as one on an H200; from eight on S3Gen's time grows with their number.
TOGETHER = 8
# As many as are captured; others are filled up.
ROWS = tuple(1 << power for power in range(TOGETHER.bit_length()))


class Receiver(Protocol):
    """Stamps the sound that comes."""

    def hold(self, call: Call, audio_seconds: float) -> None:
        """A piece of so many seconds is in the listener's hands."""

    def finish(self, call: Call) -> None:
        """That was all of it."""


@dataclass(frozen=True)
class DrawnTokens:
    """Tokens of a call as T3 drew them; the last message holds all that S3Gen is to make sound of."""

    call: Call
    random: RandomStream
    tokens: tuple[int, ...]
    last: bool


class Synthesizer(Protocol):
    """Makes sound; all its calls come from one thread."""

    def warm_up(self, tokens: int) -> None:
        """Compiles and captures what utterances of so many tokens will need."""

    def take(self, message: DrawnTokens) -> None:
        """Nothing is made of it yet."""

    def work(self) -> bool:
        """Makes one batch of what is due and delivers it; whether there is more to do."""

    def forget(self) -> None:
        """Drops all calls that are under way."""

    def evidence(self) -> dict[str, Any]: ...


class WholeSynthesizer:
    """An utterance when all of it is drawn; those that are ready at the same time together."""

    def __init__(self, pipeline: Pipeline, receiver: Receiver) -> None:
        self._tts = pipeline.tts
        self._s3gen = BatchedS3Gen(pipeline)
        self._receiver = receiver
        self._ready: deque[DrawnTokens] = deque()

    def warm_up(self, tokens: int) -> None:
        """One, two, four, … at once."""
        tts = self._tts
        for rows in ROWS:
            speech = [torch.zeros(tokens, dtype=torch.long, device=tts.t3.device)] * rows
            streams = [RandomStream.seeded(row, tts.t3.device) for row in range(rows)]
            for mel, stream in zip(self._s3gen.mels(speech, streams, tts.conds.gen), streams, strict=True):
                self._s3gen.wave(mel, stream)
        self._s3gen.calls = self._s3gen.utterances = 0

    def take(self, message: DrawnTokens) -> None:
        self._ready.append(message)

    def work(self) -> bool:
        """Frames of some of them, then each one's wave, through the watermark as `generate` delivers it."""
        device, tts = self._tts.t3.device, self._tts
        messages = [self._ready.popleft() for _ in range(min(len(self._ready), TOGETHER))]
        if not messages:
            return False
        tokens = [torch.tensor(message.tokens, device=device) for message in messages]
        mels = self._s3gen.mels(tokens, [message.random for message in messages], tts.conds.gen)
        for message, mel in zip(messages, mels, strict=True):
            wave = self._s3gen.wave(mel, message.random).cpu().numpy()
            marked = tts.watermarker.apply_watermark(wave, sample_rate=tts.sr)
            self._receiver.hold(message.call, len(marked) / SAMPLE_RATE_HZ)
            self._receiver.finish(message.call)
        return bool(self._ready)

    def forget(self) -> None:
        self._ready.clear()

    def evidence(self) -> dict[str, Any]:
        return {"s3gen_calls": self._s3gen.calls, "utterances_per_call": self._s3gen.rows_per_call}


class ChunkSynthesizer:
    """Chunk by chunk, as the stack's design makes them; of those that are due, the most urgent ones together."""

    def __init__(self, pipeline: Pipeline, receiver: Receiver, patience_seconds: float) -> None:
        streamer = streamer_of(pipeline)
        assert streamer is not None
        self._pipeline = pipeline
        self._streamer = streamer
        self._receiver = receiver
        self._patience_seconds = patience_seconds
        self._windows = WindowBatch(pipeline, streamer.synthesis)
        self._streams: dict[Call, Stream] = {}
        self._due: dict[Call, DueChunk] = {}
        self._chunks = self._ended = 0

    def warm_up(self, tokens: int) -> None:
        """Streams of so many tokens, one, two, four, … at once."""
        for rows in ROWS:
            streams = [self._new_stream(Listener(), seed) for seed in range(rows)]
            for stream in streams:
                stream.end([0] * tokens)
            while due_chunks := {stream: due for stream in streams if (due := stream.due())}:
                self._speak(due_chunks)
        self._windows.s3gen.calls = self._windows.s3gen.utterances = 0

    def take(self, message: DrawnTokens) -> None:
        call = message.call
        if (stream := self._streams.get(call)) is None:
            listener = Listener(lambda samples: self._receiver.hold(call, samples.numel() / SAMPLE_RATE_HZ))
            stream = self._streams[call] = self._new_stream(listener, call.seed)
        if message.last:
            stream.end(list(message.tokens))
        else:
            stream.take(torch.tensor(message.tokens), stream.now())
        self._look_at(call)

    def work(self) -> bool:
        """One chunk for each of the listeners whose playback would run dry first."""
        urgent = sorted(self._due, key=self._runs_dry)[:TOGETHER]
        if not urgent:
            return False
        self._speak({self._streams[call]: self._due.pop(call) for call in urgent})
        for call in urgent:
            self._look_at(call)
        return bool(self._due)

    def _speak(self, due_chunks: Mapping[Stream, DueChunk]) -> None:
        if all(isinstance(stream.design, Windowed) for stream in due_chunks):
            self._windows.speak(due_chunks)
            return
        for stream, due in due_chunks.items():
            stream.speak(due)

    def _runs_dry(self, call: Call) -> float:
        """When its listener has played all that was delivered; the first piece is due within the patience."""
        if not call.pieces:
            return call.scheduled + self._patience_seconds
        return call.pieces[0][0] + sum(seconds for _, seconds in call.pieces)

    def _look_at(self, call: Call) -> None:
        """Notes the next chunk of a stream, or its end."""
        stream = self._streams[call]
        # Without a look ahead the last chunk may be delivered before it is known to be the last.
        if stream.delivered:
            self._receiver.finish(call)
            self._ended += 1
            self._chunks += len(self._streams.pop(call).chunks)
        elif call not in self._due and (due := stream.due()):
            self._due[call] = due

    def _new_stream(self, listener: Listener, seed: int) -> Stream:
        return self._streamer.new_stream(self._pipeline.tts.conds.gen, seed, listener)

    def forget(self) -> None:
        self._streams.clear()
        self._due.clear()

    def evidence(self) -> dict[str, Any]:
        return {
            "streams": self._ended,
            "chunks_per_stream": round(self._chunks / max(1, self._ended), 2),
            "windows_per_call": self._windows.s3gen.rows_per_call,
        }
