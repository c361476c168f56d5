"""Classifier-free guidance, for every loop and for what is compared with the reference."""

from __future__ import annotations

import torch


def guided(logits: torch.Tensor, weight: float | torch.Tensor) -> torch.Tensor:
    """A row of each pair of rows: with the text, moved away from the one without it."""
    weight = torch.as_tensor(weight, device=logits.device, dtype=logits.dtype)
    with_text, without = logits[0::2], logits[1::2]
    return with_text + weight * (with_text - without)
