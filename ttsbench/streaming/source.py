"""The vocoder's source of sound, with its random numbers from outside, and carried on from window to window.

HiFT shapes a sum of harmonics of the pitch, plus noise. Upstream starts each call at phase zero with new noise, which
two neighbouring windows would be heard to disagree about. Here what is certain is kept, and the phase runs on from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from ttsbench.instruments.swapping import swapped
from ttsbench.records.chunk_schedule import SAMPLES_PER_FRAME

# The pitch of a frame depends on so many frames on either side.
PITCH_REACH_FRAMES = 5


class SourceNoise(Protocol):
    """The random numbers of one utterance's source."""

    def phases(self) -> torch.Tensor:
        """Where each harmonic begins, (1, harmonics, 1); the fundamental at zero, as upstream has it."""

    def source(self, first: int, last: int) -> torch.Tensor:
        """What is added to each harmonic in these frames, (1, harmonics, samples)."""


class CarriedSource:
    """The source of one utterance, window by window."""

    def __init__(self, module: Any, noise: SourceNoise) -> None:
        self._module = module
        self._noise = noise
        self._phases = noise.phases()
        # Up to which frame the source is certain, in whole cycles there, and the samples before it that are kept.
        self._known = 0
        self._cycles = torch.zeros_like(self._phases)
        self._kept = self._phases.new_zeros(1, 1, 0)
        self._first = self._last = self._certain = 0

    def window(self, first: int, last: int, certain: int) -> CarriedSource:
        """The next call is for these frames; those before `certain` will not change any more."""
        self._first, self._last, self._certain = first, last, max(certain, self._known)
        return self

    @property
    def first_kept(self) -> int:
        """No window may begin before this frame."""
        return self._known - self._kept.size(2) // SAMPLES_PER_FRAME

    def __call__(self, f0: torch.Tensor) -> torch.Tensor:
        """The sound, (1, samples, 1), for the pitch of each sample."""
        kept = self._kept[:, :, (self._first - self.first_kept) * SAMPLES_PER_FRAME :]
        new = f0.transpose(1, 2)[:, :, kept.size(2) :]
        cycles = self._cycles + torch.cumsum(self._steps(new), dim=2)
        source = torch.cat([kept, self._sound(new, cycles)], dim=2)
        self._keep(source, cycles)
        return source.transpose(1, 2)

    def _steps(self, f0: torch.Tensor) -> torch.Tensor:
        """Cycles from one sample to the next, of each harmonic."""
        generator = self._module.l_sin_gen
        harmonics = torch.arange(1, self._phases.size(1) + 1, device=f0.device)[None, :, None]
        return f0 * harmonics / float(generator.sampling_rate)

    def _sound(self, f0: torch.Tensor, cycles: torch.Tensor) -> torch.Tensor:
        """As upstream's `SineGen` makes it of pitch, phase and noise."""
        generator = self._module.l_sin_gen
        sines = generator.sine_amp * torch.sin(2 * math.pi * (cycles % 1) + self._phases)
        voiced = (f0 > generator.voiced_threshold).to(f0.dtype)
        loudness = voiced * generator.noise_std + (1 - voiced) * generator.sine_amp / 3
        sound = sines * voiced + loudness * self._noise.source(self._known, self._last)
        merged = self._module.l_tanh(self._module.l_linear(sound.transpose(1, 2)))
        assert isinstance(merged, torch.Tensor)
        return merged.transpose(1, 2)

    def _keep(self, source: torch.Tensor, cycles: torch.Tensor) -> None:
        if advanced := (self._certain - self._known) * SAMPLES_PER_FRAME:
            self._cycles = cycles[:, :, advanced - 1 : advanced] % 1
        self._known = self._certain
        self._kept = source[:, :, : (self._certain - self._first) * SAMPLES_PER_FRAME].clone()


@contextmanager
def vocoded_with(s3gen: Any, sources: Sequence[CarriedSource]) -> Iterator[None]:
    """Within the block the vocoder takes each row's sound from that row's source."""

    def forward(f0: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Upstream's signature; of its three results the first is used."""
        return torch.cat([source(pitch[None]) for source, pitch in zip(sources, f0, strict=True)]), None, None

    with swapped(s3gen.mel2wav.m_source, "forward", forward):
        yield
