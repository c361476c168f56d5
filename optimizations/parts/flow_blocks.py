"""S3Gen's estimator in few kernels: five for a transformer block, four for a resnet, frames before channels throughout.

Norms are folded into the products behind them, and whoever makes a row leaves what its norm needs. Weights that one
product takes lie side by side, in copies: 93 MB in half precision. What depends on the time alone is computed for all
steps of a solve at once, and what depends on neither time nor noise is laid out once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ttsbench.errors import CellError
from ttsbench.optimizations.kernels.flow_conv import flow_conv
from ttsbench.optimizations.kernels.flow_linear import NormedWeight, Residual, add_linear, norm_linear
from ttsbench.optimizations.kernels.flow_norm import RowStats, flow_norm
from ttsbench.optimizations.parts.flow_attention import Attention
from ttsbench.optimizations.parts.flow_estimator import LeanEstimator

Frames = tuple[torch.Tensor, RowStats]


class FusedEstimator(LeanEstimator):
    """In the place of the lean one, over the same modules."""

    def __init__(self, module: Any, attention: Attention) -> None:
        super().__init__(module, attention)
        _refuse_other_layers(module, self.blocks)
        levels = _levels(module)
        self.resnets = [_Resnet.of(level[0]) for level in levels]
        self._levels = [[_Block.of(block) for block in level[1]] for level in levels]
        self._joints = [_conv(level[2]) for level in levels if len(level) > 2]
        self._final = _conv(module.final_block.block[0])
        projections = [level[0].mlp[1] for level in levels]
        self._shift_weight = torch.cat([projection.weight.data for projection in projections])
        self._shift_bias = torch.cat([projection.bias.data for projection in projections])

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
        """Channels before frames, as upstream calls it."""
        x = torch.cat([x, mu, spks[:, :, None].expand(-1, -1, x.size(2)), cond], dim=1)
        return self._frames(x.transpose(1, 2).contiguous(), self._shifts(t, r), keys).transpose(1, 2)

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
        """As `flow_solve.euler`: with guidance, rows without conditions follow those with."""
        guided, bands = not self.module.meanflow, x.size(1)
        inputs = torch.zeros(((1 + guided) * x.size(0), x.size(2), 4 * bands), dtype=self.module.dtype, device=x.device)
        noisy, *conditions = inputs.view(-1, *x.shape[:1], *inputs.shape[1:]).chunk(4, dim=-1)
        for place, condition in zip(conditions, (mu.transpose(1, 2), spks[:, None], cond.transpose(1, 2)), strict=True):
            place[0].copy_(condition)
        shifts = self._shifts(times[:-1], None if guided else times[1:])
        state = x.transpose(1, 2).contiguous()
        for step, length in enumerate(times.diff()):
            noisy.copy_(state)
            self.calls += 1
            moved = self._frames(inputs, shifts[step : step + 1], keys).to(x.dtype)
            if guided:
                with_text, without = moved.chunk(2)
                moved = torch.lerp(without, with_text, 1.0 + decoder.inference_cfg_rate)
            state = torch.addcmul(state, moved, length)
        return state.transpose(1, 2).contiguous()

    def _shifts(self, t: torch.Tensor, r: torch.Tensor | None) -> torch.Tensor:
        """What each resnet adds for each of the times: (times, resnets, channels)."""
        time = functional.mish(self.time(t, r))
        shifts = functional.linear(time, self._shift_weight, self._shift_bias)
        return shifts.view(shifts.size(0), len(self.resnets), -1)

    def _frames(self, x: torch.Tensor, shifts: torch.Tensor, keys: torch.Tensor | None) -> torch.Tensor:
        """The velocity, frames before channels; one row of shifts for all rows, or one for each."""
        first, last = 0, len(self._levels) - 1
        skip = x
        for index, (resnet, blocks) in enumerate(zip(self.resnets, self._levels, strict=True)):
            frames = resnet(torch.cat([x, skip], dim=-1) if index == last else x, shifts[:, index])
            for block in blocks:
                frames = block(frames, self.attention, keys)
            x, _ = frames
            if index == first:
                skip = x
            if index in (first, last):
                x, _ = flow_conv(x, *self._joints[index == last])
        x, _ = flow_conv(x, *self._final)
        norm, projection = self.module.final_block.block[2], self.module.final_proj
        return functional.linear(flow_norm(x, _norm(norm), eps=norm.eps), projection.weight[:, :, 0], projection.bias)


@dataclass(frozen=True)
class _Block:
    """A transformer block: norm and projections, attention, output and sum, norm and first layer, second and sum."""

    module: Any
    qkv: NormedWeight
    inner: NormedWeight

    @classmethod
    def of(cls, module: Any) -> _Block:
        projections = (module.attn1.to_q, module.attn1.to_k, module.attn1.to_v)
        joined = torch.cat([projection.weight.data for projection in projections])
        inner = module.ff.net[0].proj
        return cls(
            module,
            NormedWeight.of(joined, None, _norm(module.norm1)),
            NormedWeight.of(inner.weight.data, inner.bias.data, _norm(module.norm3)),
        )

    def __call__(self, frames: Frames, attention: Attention, keys: torch.Tensor | None) -> Frames:
        module, attend = self.module, self.module.attn1
        x, stats = frames
        projected = norm_linear(x, stats, self.qkv, eps=module.norm1.eps)
        query, key, value = projected.view(*projected.shape[:2], 3, attend.heads, -1).unbind(2)
        attended = attention.attend(query, key, value, keys).flatten(2)
        out, outer = attend.to_out[0], module.ff.net[2]
        x, stats = add_linear(attended, out.weight, out.bias, Residual(x))
        fed = norm_linear(x, stats, self.inner, gelu=True, eps=module.norm3.eps)
        return add_linear(fed, outer.weight, outer.bias, Residual(x))


@dataclass(frozen=True)
class _Resnet:
    """Two convolutions with norm and Mish, the time added between, and a product that leads around both."""

    module: Any
    first: tuple[torch.Tensor, torch.Tensor]
    second: tuple[torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, module: Any) -> _Resnet:
        return cls(module, _conv(module.block1.block[0]), _conv(module.block2.block[0]))

    def __call__(self, x: torch.Tensor, shift: torch.Tensor) -> Frames:
        module = self.module
        inner, outer, around = module.block1.block[2], module.block2.block[2], module.res_conv
        hidden, _ = flow_conv(x, *self.first)
        hidden = flow_norm(hidden, _norm(inner), shift, eps=inner.eps)
        hidden, stats = flow_conv(hidden, *self.second)
        residual = Residual(hidden, stats, _norm(outer))
        return add_linear(x, around.weight[:, :, 0], around.bias, residual, eps=outer.eps)


def _norm(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return module.weight.data, module.bias.data


def _conv(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A convolution's weight as (outputs, taps, inputs), and its bias."""
    return module.weight.data.transpose(1, 2).contiguous(), module.bias.data


def _refuse_other_layers(module: Any, blocks: list[Any]) -> None:
    """The kernels do what these layers do, and no other ones."""
    plain = all(
        block.attn1.to_q.bias is None
        and block.attn1.to_k.bias is None
        and block.attn1.to_v.bias is None
        and type(block.ff.net[0]).__name__ == "GELU"
        and block.ff.net[0].approximate == "none"
        and len(block.ff.net) == 3
        for block in blocks
    )
    convolutions = [block.block for level in _levels(module) for block in (level[0].block1, level[0].block2)]
    causal = all(type(convolution[0]).__name__ == "CausalConv1d" for convolution in convolutions)
    if not (plain and causal):
        raise CellError("s3gen_blocks: this estimator is built otherwise than Chatterbox's, and only that is known")


def _levels(module: Any) -> list[Any]:
    return [*module.down_blocks, *module.mid_blocks, *module.up_blocks]
