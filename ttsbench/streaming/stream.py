"""One utterance on its way: tokens come in as T3 draws them, chunks go out to the listener."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.model.spoken import SPEECH_TOKENS
from ttsbench.records import measurements
from ttsbench.records.chunk_schedule import Cutter, Streaming
from ttsbench.records.measurements import RESIDUAL
from ttsbench.streaming.designs import Design, Piece
from ttsbench.streaming.listener import Listener

Mark = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Due:
    """A chunk that can be made: up to which token, and whether that is the last."""

    upto: int
    final: bool


class Stream:
    """Its tokens so far and how many of them were spoken; all calls come one after the other, from any thread."""

    def __init__(self, design: Design, streaming: Streaming, listener: Listener, mark: Mark, t3: Any) -> None:
        self.design = design
        self.first_alone = streaming.first_alone
        self.tokens_for_the_first = next(streaming.sizes()) + design.lookahead_tokens
        self._cutter = Cutter(streaming, design.lookahead_tokens)
        self._listener = listener
        self._mark = mark
        self._t3 = t3
        self.tokens: list[int] = []
        self._drawn = self._spoken = 0
        self._ended = self._complete = False
        self.marks: Timeline | None = None
        self.chunks: list[measurements.Chunk] = []
        self.token_seconds: list[float] = []
        self.token_counts: list[int] = []

    def now(self) -> float:
        """By the listener's clock."""
        return self._listener.now()

    def receive(self, drawn: torch.Tensor, seconds: float) -> None:
        """Takes tokens, and speaks what is due."""
        self.take(drawn, seconds)
        self._speak_what_is_due()

    def finish(self, tokens: list[int]) -> None:
        """Takes the last tokens, and speaks all that is left."""
        self.end(tokens)
        self._speak_what_is_due()

    def take(self, drawn: torch.Tensor, seconds: float) -> None:
        """Tokens that T3 handed over then, special ones and those beyond the stop among them; waits for the device."""
        for token in drawn.flatten().tolist():
            self._note(int(token))
        self.token_seconds.append(seconds)
        self.token_counts.append(self._drawn)

    def end(self, tokens: list[int]) -> None:
        """All of what `generate` would have S3Gen speak; what came before must be its beginning."""
        if tokens[: len(self.tokens)] != self.tokens:
            raise CellError("the tokens that came early are not those that the utterance consists of")
        if not tokens:
            raise CellError("T3 drew no speech token; there is nothing to hear")
        self.tokens, self._complete = tokens, True

    def due(self) -> Due | None:
        """The next chunk, if all that it needs is there; it is told of once, and has to be delivered then."""
        if (upto := self._cutter.due(self._spoken, len(self.tokens))) is not None:
            return Due(upto, final=False)
        if self._complete and self._spoken < len(self.tokens):
            return Due(len(self.tokens), final=True)
        return None

    @property
    def over(self) -> bool:
        """Whether all has been delivered."""
        return self._complete and self._spoken == len(self.tokens)

    def _note(self, token: int) -> None:
        # GPT-2's loop does not look for the stop at its first draw, and drops it as it drops all that is not speech.
        stops = token == self._t3.hp.stop_speech_token and not (self._t3.is_gpt and not self._drawn)
        if not self._ended:
            self._drawn += 1
            self._ended = stops
            if token < SPEECH_TOKENS:
                self.tokens.append(token)

    def _speak_what_is_due(self) -> None:
        while (due := self.due()) is not None:
            self.speak(due)

    def speak(self, due: Due) -> None:
        """Has the design make this chunk by itself."""
        began = self._listener.now()
        self._enter("flow_encoder")
        self.deliver(due, self.design.speak(self.tokens, due.upto, final=due.final), began)

    def deliver(self, due: Due, piece: Piece, began: float) -> None:
        """A chunk's sound, on the host and marked, into the listener's hands."""
        self._enter("copy_to_host")
        samples = piece.samples.float().cpu()
        self._enter("watermark")
        samples = self._mark(samples)
        self._enter(RESIDUAL)
        arrived = self._listener.take(samples)
        chunk = measurements.Chunk(
            tokens=due.upto - self._spoken,
            samples=samples.numel(),
            flow_frames=piece.flow_frames,
            vocoder_frames=piece.vocoder_frames,
            began_seconds=began,
            arrived_seconds=arrived,
        )
        self.chunks.append(chunk)
        self._spoken = due.upto

    def _enter(self, stage: str) -> None:
        if self.marks is not None:
            self.marks.enter(stage)
