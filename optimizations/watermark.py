"""Slot `watermark`: Perth's implicit watermark, which upstream computes on the host with two resamplings.

`gpu` runs Perth's own network on the model's device, and resamples there. The resampling filter is another than the
host's, so the samples differ; the mark is the same, and Perth reads it as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.resampler import DeviceResampler, ResampledWatermarker


class NoWatermark:
    """In the watermarker's place: hands the wave back as it is."""

    def __init__(self) -> None:
        self.calls = 0

    def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """The wave, unmarked."""
        self.calls += 1
        return wav


class DeviceWatermarker(ResampledWatermarker):
    """The whole of it on the model's device."""


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts another watermarker, or none, where the package's `generate` looks for it."""
    tts = pipeline.tts
    if option == "off":
        tts.watermarker = NoWatermark()
    elif option == "gpu":
        network = tts.watermarker.perth_net.to(pipeline.device)
        tts.watermarker = DeviceWatermarker(network, DeviceResampler(pipeline.device))


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which watermarker `generate` calls, and where its network is."""
    watermarker = pipeline.tts.watermarker
    ran = {NoWatermark: "off", DeviceWatermarker: "gpu"}.get(type(watermarker), "on")
    replaced = isinstance(watermarker, NoWatermark | ResampledWatermarker)
    if ran != option or (replaced and watermarker.calls == 0):
        raise CellError(f"watermark: {option} was asked for, and {type(watermarker).__name__} is what ran")
    evidence = {"watermarker": f"{type(watermarker).__module__}.{type(watermarker).__qualname__}"}
    return evidence if option == "off" else evidence | {"network": str(watermarker.perth_net.device)}
