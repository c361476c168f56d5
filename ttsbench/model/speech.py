"""What one utterance delivers: a wave, its tokens, and when its listener held the first samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from ttsbench.records import measurements

# Ids below it are speech; the others begin and end it.
SPEECH_TOKENS = 6561
SAMPLE_RATE_HZ = 24_000
MEL_BANDS = 80
AUDIBLE_LEVEL = 1e-3

# Seconds until the first sample, until enough to play, until any sound.
FirstAudio = tuple[float, float, float | None]


@dataclass(frozen=True)
class Speech:
    """The wave and the tokens of one utterance."""

    wave: torch.Tensor
    tokens: torch.Tensor
    # How it came, where it came in chunks, and when the listener had the first sample, enough to play, any sound.
    streamed: measurements.Streamed | None = None
    first_audio: FirstAudio | None = None

    @property
    def audio_seconds(self) -> float:
        return self.wave.shape[-1] / SAMPLE_RATE_HZ

    def tokens_sha256(self) -> str:
        return tokens_sha256(self.tokens)

    @property
    def audible(self) -> bool:
        return bool((self.wave.abs() > AUDIBLE_LEVEL).any())


def tokens_sha256(tokens: torch.Tensor) -> str:
    """Identifies a sequence of tokens across stacks and machines."""
    return hashlib.sha256(tokens.detach().to("cpu", torch.int32).numpy().tobytes()).hexdigest()
