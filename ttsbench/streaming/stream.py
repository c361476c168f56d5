"""One utterance on its way: tokens come in as T3 draws them, chunks go out to the listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.model.speech import SPEECH_TOKENS
from ttsbench.records import measurements
from ttsbench.records.chunk_schedule import Cutter, Streaming
from ttsbench.records.measurements import RESIDUAL
from ttsbench.streaming.designs import ChunkAudio, Design
from ttsbench.streaming.listener import Listener

Mark = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class DueChunk:
    """A chunk that can be made: up to which token, and whether it is the last."""

    end_token: int
    final: bool


class Stream:
    """Its tokens, and how many of them were made into sound. Calls come one after the other, from any thread."""

    def __init__(self, design: Design, streaming: Streaming, listener: Listener, mark: Mark, t3: Any) -> None:
        self.design = design
        self.pause_for_first_chunk = streaming.pause_for_first_chunk
        self.tokens_for_the_first = next(streaming.sizes()) + design.lookahead_tokens
        self._cutter = Cutter(streaming, design.lookahead_tokens)
        self._listener = listener
        self._mark = mark
        self._t3 = t3
        self.tokens: list[int] = []
        self._drawn = self._made = 0
        self._ended = self._complete = False
        self.marks: Timeline | None = None
        self.chunks: list[measurements.Chunk] = []
        self.token_seconds: list[float] = []
        self.token_counts: list[int] = []

    def now(self) -> float:
        return self._listener.now()

    def receive(self, drawn: torch.Tensor, seconds: float) -> None:
        """Takes tokens, and makes the chunks that they complete."""
        self.take(drawn, seconds)
        self._speak_due_chunks()

    def finish(self, tokens: list[int]) -> None:
        """Takes the last tokens, and makes all chunks that are left."""
        self.end(tokens)
        self._speak_due_chunks()

    def take(self, drawn: torch.Tensor, seconds: float) -> None:
        """Tokens as T3 handed them over, special ones and those beyond the stop among them; waits for the device."""
        for token in drawn.flatten().tolist():
            self._note(int(token))
        self.token_seconds.append(seconds)
        self.token_counts.append(self._drawn)

    def end(self, tokens: list[int]) -> None:
        """All tokens that `generate` would hand to S3Gen; those that came before must be their beginning."""
        if tokens[: len(self.tokens)] != self.tokens:
            raise CellError("the tokens that came early are not those that the utterance consists of")
        if not tokens:
            raise CellError("T3 drew no speech token; there is nothing to hear")
        self.tokens, self._complete = tokens, True

    def due(self) -> DueChunk | None:
        """The next chunk, if all that it needs is there; the caller has to deliver it."""
        if (end_token := self._cutter.due(self._made, len(self.tokens))) is not None:
            return DueChunk(end_token, final=False)
        if self._complete and self._made < len(self.tokens):
            return DueChunk(len(self.tokens), final=True)
        return None

    @property
    def delivered(self) -> bool:
        """Whether all has been delivered."""
        return self._complete and self._made == len(self.tokens)

    def _note(self, token: int) -> None:
        # GPT-2's loop does not look for the stop at its first draw, and drops it as it drops all that is not speech.
        stops = token == self._t3.hp.stop_speech_token and not (self._t3.is_gpt and not self._drawn)
        if not self._ended:
            self._drawn += 1
            self._ended = stops
            if token < SPEECH_TOKENS:
                self.tokens.append(token)

    def _speak_due_chunks(self) -> None:
        while (due := self.due()) is not None:
            self.speak(due)

    def speak(self, due: DueChunk) -> None:
        began = self._listener.now()
        self._enter("flow_encoder")
        self.deliver(due, self.design.speak(self.tokens, due.end_token, final=due.final), began)

    def deliver(self, due: DueChunk, audio: ChunkAudio, began: float) -> None:
        """The sound of a chunk to the host, through the watermark, to the listener."""
        self._enter("copy_to_host")
        samples = audio.samples.float().cpu()
        self._enter("watermark")
        samples = self._mark(samples)
        self._enter(RESIDUAL)
        arrived = self._listener.take(samples)
        chunk = measurements.Chunk(
            tokens=due.end_token - self._made,
            samples=samples.numel(),
            flow_frames=audio.flow_frames,
            vocoder_frames=audio.vocoder_frames,
            began_seconds=began,
            arrived_seconds=arrived,
        )
        self.chunks.append(chunk)
        self._made = due.end_token

    def _enter(self, stage: str) -> None:
        if self.marks is not None:
            self.marks.enter(stage)
