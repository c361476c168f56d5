"""S3Gen's estimator over upstream's own modules, without what waits for the host and without what changes nothing.

Upstream's forward asks the host in each of its 14 blocks whether a mask is empty, hands attention a dense bias of
zeros, multiplies by a mask of ones some 90 times and divides by 1 another 56 times. One utterance has no padding, so
that all of this can go. Where rows are padded at their end, only attention has to know: every convolution is causal,
every norm looks at one frame, and so nothing else carries padding into frames that count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.optimizations.parts import flow_solve
from ttsbench.optimizations.parts.flow_attention import Attention


class LeanEstimator:
    """In the place of the estimator's `forward`; `run` is the work itself, which other slots compile and capture."""

    def __init__(self, module: Any, attention: Attention) -> None:
        self.module = module
        self.attention = attention
        self.blocks = _transformer_blocks(module)
        self.calls = 0
        self.run: Callable[..., torch.Tensor] = self.work
        _refuse_other_architecture(module, self.blocks)

    def __call__(
        self,
        x: torch.Tensor,
        mask: torch.Tensor,
        mu: torch.Tensor,
        t: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        r: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Upstream's signature. Guidance doubles the rows of an utterance; a single one is never padded."""
        rows_per_utterance = 1 if self.module.meanflow else 2
        if x.size(0) == rows_per_utterance:
            return self.velocity(x, mu, t, spks, cond, r, None)
        return self.velocity(x, mu, t, spks, cond, r, self.attention.mark_keys(mask)) * mask

    def velocity(self, *arguments: torch.Tensor | None) -> torch.Tensor:
        self.calls += 1
        return self.run(*arguments)

    def solve(
        self,
        decoder: Any,
        x: torch.Tensor,
        times: torch.Tensor,
        mu: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        keys: torch.Tensor | None,
    ) -> torch.Tensor:
        """The state at the last of the times, by all Euler steps; their noise is `x`."""

        def velocity(*arguments: torch.Tensor | None) -> torch.Tensor:
            return self.velocity(*arguments, keys)

        return flow_solve.euler(velocity, decoder, x, times, mu, spks, cond)

    def work(
        self,
        x: torch.Tensor,
        mu: torch.Tensor,
        t: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        r: torch.Tensor | None,
        keys: torch.Tensor | None,
    ) -> torch.Tensor:
        """The velocity at time t, or from t to r for a mean flow; what stands in the padding means nothing."""
        module = self.module
        time = self.time(t, r)
        x = torch.cat([x, mu, spks[:, :, None].expand(-1, -1, x.size(2)), cond], dim=1)
        ((resnet, blocks, downsample),) = module.down_blocks
        skip = self._block(resnet, blocks, x, time, keys)
        x = downsample(skip)
        for resnet, blocks in module.mid_blocks:
            x = self._block(resnet, blocks, x, time, keys)
        ((resnet, blocks, upsample),) = module.up_blocks
        x = upsample(self._block(resnet, blocks, torch.cat([x, skip], dim=1), time, keys))
        velocity = module.final_proj(module.final_block.block(x))
        assert isinstance(velocity, torch.Tensor)
        return velocity

    def time(self, t: torch.Tensor, r: torch.Tensor | None) -> torch.Tensor:
        module = self.module
        time = module.time_mlp(module.time_embeddings(t).to(module.dtype))
        if r is not None:
            end = module.time_mlp(module.time_embeddings(r).to(module.dtype))
            time = module.time_embed_mixer(torch.cat([time, end], dim=1))
        assert isinstance(time, torch.Tensor)
        return time

    def _block(
        self, resnet: Any, blocks: Any, x: torch.Tensor, time: torch.Tensor, keys: torch.Tensor | None
    ) -> torch.Tensor:
        hidden = resnet.block1.block(x) + resnet.mlp(time)[:, :, None]
        x = resnet.block2.block(hidden) + resnet.res_conv(x)
        x = x.transpose(1, 2).contiguous()
        for block in blocks:
            x = self.attention(block.attn1, block.norm1(x), keys) + x
            x = block.ff(block.norm3(x)) + x
        return x.transpose(1, 2).contiguous()


def _transformer_blocks(module: Any) -> list[Any]:
    parts = (*module.down_blocks, *module.mid_blocks, *module.up_blocks)
    return [block for part in parts for block in part[1]]


def _refuse_other_architecture(module: Any, blocks: list[Any]) -> None:
    """What is left out above must really do nothing in this checkpoint's modules."""
    plain = all(
        block.attn2 is None
        and not block.use_ada_layer_norm
        and not block.use_ada_layer_norm_zero
        and block._chunk_size is None
        and block.attn1.norm_q is None
        and block.attn1.norm_k is None
        and block.attn1.group_norm is None
        and block.attn1.spatial_norm is None
        and not block.attn1.residual_connection
        and block.attn1.rescale_output_factor == 1
        for block in blocks
    )
    one_level = len(module.down_blocks) == len(module.up_blocks) == 1
    if not (plain and one_level and module.causal and not module.static_chunk_size and not module.training and blocks):
        raise CellError("s3gen_attention: this estimator is built otherwise than Chatterbox's, and only that is known")
