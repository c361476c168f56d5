"""Attention kernels for S3Gen's estimator: each takes an attention module, hidden states, and which keys count.

`keys` is None where every frame counts, which leaves PyTorch free to pick its flash kernel, and otherwise what
`mark_keys` made of a mask: it lives on the device, so that a captured graph serves every length of its bucket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional


class Attention(Protocol):
    """One way to attend."""

    name: str

    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """What `__call__` needs to know of a mask of (rows, 1, frames): ones, then zeros to the end."""

    def __call__(self, module: Any, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        """The module's output for hidden states of (rows, frames, channels)."""


class Sdpa:
    name = "sdpa"

    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """A bias of (rows, 1, 1, frames) that takes the padding out."""
        return torch.zeros_like(mask).masked_fill(mask == 0, float("-inf"))[:, None]

    def __call__(self, module: Any, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        query, key, value = (heads.transpose(1, 2) for heads in _heads(module, x))
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=keys)
        return _joined(module, attended.transpose(1, 2))


class Flash2:
    """The flash-attn package's kernels; padded rows go to the one for sequences of various lengths."""

    name = "flash_attention_2"

    def __init__(self) -> None:
        from flash_attn import flash_attn_func, flash_attn_varlen_func

        self._plain, self._various = flash_attn_func, flash_attn_varlen_func

    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """Where sequences begin when all rows lie one behind the other: each row is its frames, then its padding."""
        rows, _, frames = mask.shape
        starts = torch.arange(rows, device=mask.device) * frames
        # Counted as integers: bf16 holds no odd number above 256.
        ends = starts + (mask != 0).sum(dim=2).flatten()
        total = torch.full_like(starts[:1], rows * frames)
        return torch.cat([torch.stack([starts, ends], dim=1).flatten(), total]).to(torch.int32)

    def __call__(self, module: Any, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        query, key, value = _heads(module, x)
        if keys is None:
            return _joined(module, self._plain(query, key, value))
        frames = x.size(1)
        packed = (heads.flatten(0, 1) for heads in (query, key, value))
        attended = self._various(
            *packed, cu_seqlens_q=keys, cu_seqlens_k=keys, max_seqlen_q=frames, max_seqlen_k=frames
        )
        return _joined(module, attended.view_as(query))


BY_NAME: dict[str, Callable[[], Attention]] = {"sdpa": Sdpa, "flash_attention_2": Flash2}


def _heads(module: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(project(x).unflatten(-1, (module.heads, -1)) for project in (module.to_q, module.to_k, module.to_v))


def _joined(module: Any, attended: torch.Tensor) -> torch.Tensor:
    projected = module.to_out[0](attended.flatten(2))
    assert isinstance(projected, torch.Tensor)
    return projected
