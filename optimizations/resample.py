"""Slot `resample`: where sample rates are changed, for the voice (to 24 and 16 kHz) and around the watermark (32 kHz).

Upstream resamples on the host with librosa, which means soxr. `gpu` uses torchaudio on the model's device. Its filter
is about as steep, and another all the same: the samples differ a little, and so may what is heard of the voice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import librosa
import numpy as np

from ttsbench.errors import CellError
from ttsbench.instruments.swapping import swapped
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.resampler import DeviceResampler, ResampledWatermarker


def install(tts: Any, option: str) -> None:
    """Has this model's voices and watermarks resampled on its device; once, and before a voice is prepared."""
    if option == "gpu" and not isinstance(tts.watermarker, ResampledWatermarker):
        tts.prepare_conditionals = OnDevice(tts, tts.prepare_conditionals)
        tts.watermarker = ResampledWatermarker(tts.watermarker.perth_net, DeviceResampler(tts.device))


def apply(pipeline: Pipeline, option: str) -> None:
    """The same for a model whose voice was prepared before."""
    install(pipeline.tts, option)


class OnDevice:
    """Upstream's `prepare_conditionals`, which sees a librosa that resamples on the device while it runs."""

    def __init__(self, tts: Any, prepare: Callable[..., None]) -> None:
        self._prepare = prepare
        self._module = sys.modules[type(tts).__module__]
        self.resampler = DeviceResampler(tts.device)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Upstream's signature."""
        with swapped(self._module, "librosa", SimpleNamespace(load=self._load, resample=self._resample)):
            self._prepare(*args, **kwargs)

    def _load(self, path: str, sr: int) -> tuple[np.ndarray, int]:
        wave, rate_hz = librosa.load(path, sr=None)
        return self._resample(wave, orig_sr=int(rate_hz), target_sr=sr), sr

    def _resample(self, wave: np.ndarray, *, orig_sr: int, target_sr: int) -> np.ndarray:
        resampled: np.ndarray = self.resampler(wave, orig_sr, target_sr).cpu().numpy()
        return resampled


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How often the device resampled, for the voice and around the watermark; not at all is an error."""
    prepare, watermarker = pipeline.tts.prepare_conditionals, pipeline.tts.watermarker
    voice = prepare.resampler.calls if isinstance(prepare, OnDevice) else 0
    watermark = watermarker.resampler.calls if isinstance(watermarker, ResampledWatermarker) else 0
    installed = isinstance(prepare, OnDevice)
    if installed != (option == "gpu") or (installed and not voice + watermark):
        raise CellError(f"resample: {option} was asked for, and the device resampled {voice + watermark} times")
    return {"voice": voice, "watermark": watermark}
