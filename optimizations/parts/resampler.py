"""Resampling on the model's device, and Perth's watermark around it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import librosa
import numpy as np
import torch
from torchaudio.transforms import Resample

from ttsbench.instruments.swapping import swapped


class DeviceResampler:
    """torchaudio's windowed sinc, its filters kept; as steep as the one that torchaudio likens to kaiser_best."""

    def __init__(self, device: Any) -> None:
        self._device = torch.device(device)
        self._filters: dict[tuple[int, int], Resample] = {}
        self.calls = 0

    def __call__(self, wave: np.ndarray | torch.Tensor, from_hz: int, to_hz: int) -> torch.Tensor:
        """The wave at another rate, on the device; the same wave where the rates are equal."""
        samples = torch.as_tensor(wave, dtype=torch.float32, device=self._device)
        if from_hz == to_hz:
            return samples
        self.calls += 1
        if (from_hz, to_hz) not in self._filters:
            self._filters[from_hz, to_hz] = Resample(
                from_hz,
                to_hz,
                resampling_method="sinc_interp_kaiser",
                lowpass_filter_width=64,
                rolloff=0.9475937167399596,
                beta=14.769656459379492,
            ).to(self._device)
        resampled = self._filters[from_hz, to_hz](samples)
        assert isinstance(resampled, torch.Tensor)
        return resampled


class ResampledWatermarker:
    """Perth's implicit watermark by its own network, wherever that is, with the resampling on the device."""

    def __init__(self, network: Any, resampler: DeviceResampler) -> None:
        self.perth_net = network
        self.resampler = resampler
        self.calls = 0

    @torch.inference_mode()
    def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """The wave, marked; as long as upstream's."""
        self.calls += 1
        network, rate_hz = self.perth_net, self.perth_net.hp.sample_rate
        magnitude, phase = network.ap.signal_to_magphase(self.resampler(wav, sample_rate, rate_hz).to(network.device))
        marked, _ = network.encoder(magnitude[None])
        wave = network.ap.magphase_to_signal(marked[0], phase)
        resampled: np.ndarray = self.resampler(wave, rate_hz, sample_rate).cpu().numpy()
        return resampled


class DeviceWatermarker(ResampledWatermarker):
    """The whole of it on the model's device."""


class NoWatermark:
    """In the watermarker's place: hands the wave back as it is."""

    def __init__(self) -> None:
        self.calls = 0

    def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        self.calls += 1
        return wav


class VoiceOnDevice:
    """Upstream's `prepare_conditionals`, which sees a librosa that resamples on the device while it runs."""

    def __init__(self, tts: Any, prepare: Callable[..., None]) -> None:
        self._prepare = prepare
        self._module = sys.modules[type(tts).__module__]
        self.resampler = DeviceResampler(tts.device)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        with swapped(self._module, "librosa", SimpleNamespace(load=self._load, resample=self._resample)):
            self._prepare(*args, **kwargs)

    def _load(self, path: str, sr: int) -> tuple[np.ndarray, int]:
        wave, rate_hz = librosa.load(path, sr=None)
        return self._resample(wave, orig_sr=int(rate_hz), target_sr=sr), sr

    def _resample(self, wave: np.ndarray, *, orig_sr: int, target_sr: int) -> np.ndarray:
        resampled: np.ndarray = self.resampler(wave, orig_sr, target_sr).cpu().numpy()
        return resampled
