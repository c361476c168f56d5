"""Attention kernels for S3Gen's estimator: each takes query, key and value, frames first, and which keys count.

`keys` is None where every frame counts, which leaves PyTorch free to pick its flash kernel, and otherwise what
`mark_keys` made of a mask: it lives on the device, so that a captured graph serves every length of its bucket.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


class Attention(ABC):
    """One way to attend."""

    name: str

    @abstractmethod
    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """What `attend` needs to know of a mask of (rows, 1, frames): ones, then zeros to the end."""

    @abstractmethod
    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor | None
    ) -> torch.Tensor:
        """(rows, frames, heads, channels), as the other three are."""

    def __call__(self, module: Any, x: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        """The output of an attention module for hidden states of (rows, frames, channels)."""
        query, key, value = (
            project(x).unflatten(-1, (module.heads, -1)) for project in (module.to_q, module.to_k, module.to_v)
        )
        projected = module.to_out[0](self.attend(query, key, value, keys).flatten(2))
        assert isinstance(projected, torch.Tensor)
        return projected


class Sdpa(Attention):
    name = "sdpa"

    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """A bias of (rows, 1, 1, frames) that takes the padding out."""
        return torch.zeros_like(mask).masked_fill(mask == 0, float("-inf"))[:, None]

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor | None
    ) -> torch.Tensor:
        """Heads first."""
        query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=keys).transpose(1, 2)


class Flash2(Attention):
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

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor | None
    ) -> torch.Tensor:
        """Frames first, as the projections deliver them."""
        if keys is None:
            attended = self._plain(query, key, value)
            assert isinstance(attended, torch.Tensor)
            return attended
        frames = query.size(1)
        packed = (heads.flatten(0, 1) for heads in (query, key, value))
        attended = self._various(
            *packed, cu_seqlens_q=keys, cu_seqlens_k=keys, max_seqlen_q=frames, max_seqlen_k=frames
        )
        assert isinstance(attended, torch.Tensor)
        return attended.view(query.shape)


class Triton(Attention):
    """Our kernel, which is told how many frames of a row count instead of reading a bias for each of them."""

    name = "triton"

    def mark_keys(self, mask: torch.Tensor) -> torch.Tensor:
        """Each row's length, counted as integers as above."""
        return (mask != 0).sum(dim=2).flatten().to(torch.int32)

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor | None
    ) -> torch.Tensor:
        from ttsbench.optimizations.kernels.flow_attention import flow_attention

        return flow_attention(query, key, value, keys)


BY_NAME: dict[str, Callable[[], Attention]] = {"sdpa": Sdpa, "flash_attention_2": Flash2, "triton": Triton}
