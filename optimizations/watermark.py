"""Slot `watermark`: Perth's implicit watermark, computed on the host with two resamplings."""

from __future__ import annotations

from typing import Any

import numpy as np

from ttsbench.errors import CellError
from ttsbench.pipeline import Pipeline


class NoWatermark:
    """In the watermarker's place: hands the wave back as it is."""

    def __init__(self) -> None:
        self.calls = 0

    def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """The wave, unmarked."""
        self.calls += 1
        return wav


def apply(pipeline: Pipeline, option: str) -> None:
    """Takes the watermarker out of the package's `generate`."""
    if option == "off":
        pipeline.tts.watermarker = NoWatermark()


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which watermarker `generate` calls."""
    watermarker = pipeline.tts.watermarker
    unmarked = isinstance(watermarker, NoWatermark)
    if unmarked != (option == "off") or (unmarked and watermarker.calls == 0):
        raise CellError(f"watermark: {option} was asked for, and {type(watermarker).__name__} is what ran")
    return {"watermarker": f"{type(watermarker).__module__}.{type(watermarker).__qualname__}"}
