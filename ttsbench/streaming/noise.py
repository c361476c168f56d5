"""The random numbers that S3Gen takes, fixed for each mel frame of an utterance, so that windows agree on them.

Frames count from the first of the speech; those of the reference have negative numbers. Numbers come in blocks, each
from a seed of its own, so that any stretch can be had at any time and the process's own random stream is left to T3.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch

from ttsbench.model.speech import MEL_BANDS
from ttsbench.records.chunk_schedule import SAMPLES_PER_FRAME

BLOCK_FRAMES = 64


class FrameNoise:
    def __init__(self, seed: int, device: torch.device, harmonics: int) -> None:
        self._seed = seed
        self._generator = torch.Generator(device)
        self._harmonics = harmonics
        self._mel_block = lru_cache(maxsize=None)(self._draw_mel_block)

    def mel(self, first: int, last: int) -> torch.Tensor:
        """What the Euler solve begins with, (1, bands, frames)."""
        blocks = range(first // BLOCK_FRAMES, -(-last // BLOCK_FRAMES))
        start = first - blocks.start * BLOCK_FRAMES
        return torch.cat([self._mel_block(block) for block in blocks], dim=2)[:, :, start : start + last - first]

    def source(self, first: int, last: int) -> torch.Tensor:
        blocks = range(first // BLOCK_FRAMES, -(-last // BLOCK_FRAMES))
        start = (first - blocks.start * BLOCK_FRAMES) * SAMPLES_PER_FRAME
        drawn = [self._draw("source", block, self._harmonics, BLOCK_FRAMES * SAMPLES_PER_FRAME) for block in blocks]
        return torch.cat(drawn, dim=2)[:, :, start : start + (last - first) * SAMPLES_PER_FRAME]

    def phases(self) -> torch.Tensor:
        generator = self._seeded("phases", 0)
        drawn = torch.rand(1, self._harmonics, 1, generator=generator, device=generator.device)
        phases = (2 * drawn - 1) * math.pi
        phases[:, 0] = 0
        return phases

    def _draw_mel_block(self, block: int) -> torch.Tensor:
        return self._draw("mel", block, MEL_BANDS, BLOCK_FRAMES)

    def _draw(self, kind: str, block: int, rows: int, columns: int) -> torch.Tensor:
        generator = self._seeded(kind, block)
        return torch.randn(1, rows, columns, generator=generator, device=generator.device)

    def _seeded(self, kind: str, block: int) -> torch.Generator:
        digest = hashlib.sha256(f"{self._seed}/{kind}/{block}".encode()).digest()
        return self._generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
