"""The watermark of a stream: each chunk is marked as it goes out, with some of what went before it as context."""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.model.speech import SAMPLE_RATE_HZ

CONTEXT_SAMPLES = SAMPLE_RATE_HZ // 4
# Perth's transform drops the end of what it is given, up to 10 ms, and its resampling is wrong at both ends.
PADDING_SAMPLES = SAMPLE_RATE_HZ // 20


class StreamWatermark:
    """The chunks of one utterance through the model's watermarker, whichever that is."""

    def __init__(self, watermarker: Any) -> None:
        self._watermarker = watermarker
        self._context = torch.empty(0)

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        """The marked chunk, as long as before."""
        context = self._context
        padding = samples[-PADDING_SAMPLES:].flip(0)
        padded = torch.cat([context, samples, padding])
        marked = torch.from_numpy(self._watermarker.apply_watermark(padded.numpy(), sample_rate=SAMPLE_RATE_HZ))
        self._context = padded[: padded.numel() - padding.numel()][-CONTEXT_SAMPLES:]
        return marked[context.numel() : context.numel() + samples.numel()].to(samples.dtype)
