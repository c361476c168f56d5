"""One utterance on its way: tokens come in as T3 draws them, chunks go out to the listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ttsbench import measured
from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.measured import RESIDUAL
from ttsbench.spoken import SPEECH_TOKENS
from ttsbench.streaming.designs import Design
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.schedule import Cutter, Streaming

Mark = Callable[[torch.Tensor], torch.Tensor]


class Stream:
    """Its tokens so far and how many of them were spoken; all calls come one after the other, from any thread."""

    def __init__(self, design: Design, streaming: Streaming, listener: Listener, mark: Mark, t3: Any) -> None:
        self._design = design
        self._cutter = Cutter(streaming, design.lookahead_tokens)
        self._listener = listener
        self._mark = mark
        self._t3 = t3
        self._tokens: list[int] = []
        self._drawn = self._spoken = 0
        self._ended = False
        self.marks: Timeline | None = None
        self.chunks: list[measured.Chunk] = []
        self.token_seconds: list[float] = []
        self.token_counts: list[int] = []

    def now(self) -> float:
        """By the listener's clock."""
        return self._listener.now()

    def receive(self, drawn: torch.Tensor, seconds: float) -> None:
        """Tokens that T3 handed over then, special ones and those beyond the stop among them; waits for the device."""
        for token in drawn.flatten().tolist():
            self._note(int(token))
        self.token_seconds.append(seconds)
        self.token_counts.append(self._drawn)
        self._speak_what_is_due()

    def finish(self, tokens: list[int]) -> None:
        """All of what `generate` would have S3Gen speak; what came before must be its beginning."""
        if tokens[: len(self._tokens)] != self._tokens:
            raise CellError("the tokens that came early are not those that the utterance consists of")
        if not tokens:
            raise CellError("T3 drew no speech token; there is nothing to hear")
        self._tokens = tokens
        self._speak_what_is_due()
        if self._spoken < len(tokens):
            self._speak(len(tokens), final=True)

    def _note(self, token: int) -> None:
        # GPT-2's loop does not look for the stop at its first draw, and drops it as it drops all that is not speech.
        stops = token == self._t3.hp.stop_speech_token and not (self._t3.is_gpt and not self._drawn)
        if not self._ended:
            self._drawn += 1
            self._ended = stops
            if token < SPEECH_TOKENS:
                self._tokens.append(token)

    def _speak_what_is_due(self) -> None:
        while (upto := self._cutter.due(self._spoken, len(self._tokens))) is not None:
            self._speak(upto, final=False)

    def _speak(self, upto: int, *, final: bool) -> None:
        began = self._listener.now()
        self._enter("flow_encoder")
        piece = self._design.speak(self._tokens, upto, final=final)
        self._enter("copy_to_host")
        samples = piece.samples.float().cpu()
        self._enter("watermark")
        samples = self._mark(samples)
        self._enter(RESIDUAL)
        arrived = self._listener.take(samples)
        chunk = measured.Chunk(
            tokens=upto - self._spoken,
            samples=samples.numel(),
            flow_frames=piece.flow_frames,
            vocoder_frames=piece.vocoder_frames,
            began_seconds=began,
            arrived_seconds=arrived,
        )
        self.chunks.append(chunk)
        self._spoken = upto

    def _enter(self, stage: str) -> None:
        if self.marks is not None:
            self.marks.enter(stage)
