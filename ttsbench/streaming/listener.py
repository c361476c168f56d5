"""The listener of a stream, who stamps samples when they are delivered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.speech import AUDIBLE_LEVEL, SAMPLE_RATE_HZ, FirstAudio
from ttsbench.records.playback import PLAYABLE_SECONDS

Use = Callable[[torch.Tensor], None]


@dataclass(frozen=True)
class Delivery:
    """Samples, and the seconds from the request until the listener held them."""

    samples: torch.Tensor
    seconds: float


class Listener:
    """Takes samples on the host and stamps them. Its clock stands still while `use` works with them."""

    def __init__(self, use: Use | None = None) -> None:
        self._use = use
        self._began = time.perf_counter()
        self.own_seconds = 0.0
        self.deliveries: list[Delivery] = []

    def begin(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> float:
        """Seconds since the request, without those of `use`."""
        return time.perf_counter() - self._began - self.own_seconds

    def take(self, samples: torch.Tensor) -> float:
        """The second of delivery. A WAV header is no sound: only samples are taken."""
        _require_samples(samples)
        seconds = self.now()
        self.deliveries.append(Delivery(samples, seconds))
        if self._use is not None:
            began = time.perf_counter()
            self._use(samples)
            self.own_seconds += time.perf_counter() - began
        return seconds

    @property
    def wave(self) -> torch.Tensor:
        """(1, samples)."""
        return torch.cat([heard.samples for heard in self.deliveries])[None] if self.deliveries else torch.empty(1, 0)

    def first_audio(self) -> FirstAudio:
        """When there was any sample, enough to begin playback (or all, where that is less), and any sound."""
        enough = min(PLAYABLE_SECONDS * SAMPLE_RATE_HZ, self.wave.size(1))
        first = self._when(lambda _, held: held > 0)
        playable = self._when(lambda _, held: held >= enough)
        if first is None or playable is None:
            raise CellError("a listener was handed no sample")
        return first, playable, self._when(lambda samples, _: bool((samples.abs() > AUDIBLE_LEVEL).any()))

    def _when(self, reached: Callable[[torch.Tensor, int], bool]) -> float | None:
        held = 0
        for heard in self.deliveries:
            held += heard.samples.numel()
            if reached(heard.samples, held):
                return heard.seconds
        return None


def _require_samples(samples: Any) -> None:
    if not isinstance(samples, torch.Tensor):
        raise CellError(f"a listener takes samples, and was handed {type(samples).__name__}")
    if not samples.is_floating_point() or samples.dim() != 1:
        shape = f"{samples.dtype} in {samples.dim()} dimensions".removeprefix("torch.")
        raise CellError(f"a listener takes samples as one row of floating-point numbers, and was handed {shape}")
    if samples.is_cuda:
        raise CellError("a listener takes samples on the host, and these are still on the GPU")
