"""The random numbers of one utterance, apart from those of all others: its tokens and its sound come from one seed.

They are the numbers that a single run draws after `torch.manual_seed`: on a GPU from the device's stream, but for the
vocoder's phases, which upstream draws on the host.
"""

from __future__ import annotations

import math

import torch

from ttsbench.optimizations.parts.random_stream import Draws, of_process
from ttsbench.records.chunk_schedule import SAMPLES_PER_FRAME


class RandomStream:
    """One stream on the device and one on the host; on a CPU they are the same."""

    def __init__(self, device: torch.Generator, host: torch.Generator) -> None:
        self.device = device
        self.host = host
        self._draws = Draws(device)

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> RandomStream:
        """As after `torch.manual_seed`."""
        of_device = torch.Generator(device).manual_seed(seed)
        return cls(of_device, torch.Generator().manual_seed(seed) if device.type == "cuda" else of_device)

    @classmethod
    def of_process(cls, device: torch.device) -> RandomStream:
        return cls(of_process(device), torch.default_generator)

    def draw(self, noise: torch.Tensor) -> None:
        """The noise of one draw of a token, into its place."""
        noise.exponential_(1.0, generator=self.device)

    def draw_first(self, noise: torch.Tensor) -> None:
        """Of the first token; every later draw takes as much of the stream."""
        self._draws = Draws(self.device)
        self.draw(noise)
        self._draws.first_is_over()

    def rewind(self, draws: int) -> None:
        """As if only so many tokens had been drawn."""
        self._draws.rewind(draws)

    def source_noise(self, harmonics: int) -> _SourceNoise:
        """For the vocoder, after everything else was drawn."""
        return _SourceNoise(self, harmonics)


class _SourceNoise:
    """As upstream draws it: phases on the host, then the noise of all samples at once."""

    def __init__(self, random: RandomStream, harmonics: int) -> None:
        self._random, self._harmonics = random, harmonics

    def phases(self) -> torch.Tensor:
        phases = -math.pi + torch.rand(1, self._harmonics, 1, generator=self._random.host) * (2 * math.pi)
        phases[:, 0] = 0
        return phases.to(self._random.device.device)

    def source(self, first: int, last: int) -> torch.Tensor:
        shape = (1, self._harmonics, (last - first) * SAMPLES_PER_FRAME)
        return torch.randn(shape, generator=self._random.device, device=self._random.device.device)
