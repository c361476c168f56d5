"""The products of the flow estimator with what stands around them: a norm before, GELU or a residual after.

A thousand frames of 256 channels are small: each of a block's operations takes as long to start as to run. A layer norm
is one number for each row times a row less its mean, so it can be applied to the product instead, whose weight holds
the norm's. The mean is taken out with the sums of that very weight, as it was rounded: what rounding does to the weight
then meets only what lies around the mean, as it does when rows are normed first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.flow_norm import (
    EPS,
    PART,
    Norm,
    RowStats,
    load_row_stats,
    mish,
    row_stats,
    store_row_stats,
)
from ttsbench.optimizations.kernels.gate_up import fp32_products
from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, refuse_gradient, require


@dataclass(frozen=True)
class NormedWeight:
    """A weight [N, K] times the norm before it, each output's sum over it, and all that is added: fp32 of [N]."""

    weight: torch.Tensor
    sums: torch.Tensor
    bias: torch.Tensor

    @classmethod
    def of(cls, weight: torch.Tensor, bias: torch.Tensor | None, norm: Norm) -> NormedWeight:
        scale, shift = (part.float() for part in norm)
        folded = (weight.float() * scale).to(weight.dtype)
        added = weight.float() @ shift
        return cls(folded, folded.float().sum(1), added if bias is None else added + bias.float())


@dataclass(frozen=True)
class Residual:
    """What is added to a product: frames, or Mish of their norm where one is given."""

    x: torch.Tensor
    stats: RowStats | None = None
    norm: Norm | None = None


def norm_linear(
    x: torch.Tensor, stats: RowStats, folded: NormedWeight, *, gelu: bool = False, eps: float = EPS
) -> torch.Tensor:
    """A linear layer of x's layer norm, through GELU; `stats` are x's. No backward pass."""
    require(stats.columns == x.shape[-1], "the stats are of other rows")
    require(stats.values.shape[0] == x.numel() // max(1, x.shape[-1]), "the stats are of other rows")
    return _linear(x, folded.weight, folded.bias, (stats, folded.sums), gelu, None, None, eps)


def add_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, residual: Residual, eps: float = EPS
) -> tuple[torch.Tensor, RowStats]:
    """A linear layer plus what leads around it, and what is known of the sum's rows. No backward pass."""
    stats = RowStats.empty(x.numel() // max(1, x.shape[-1]), weight.shape[0], x.device)
    return _linear(x, weight, bias, None, False, residual, stats, eps), stats


def _linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    before: tuple[RowStats, torch.Tensor] | None,
    gelu: bool,
    residual: Residual | None,
    left: RowStats | None,
    eps: float,
) -> torch.Tensor:
    refuse_gradient("flow_linear", x, weight)
    require(weight.ndim == 2 and x.ndim > 0 and x.shape[-1] == weight.shape[1], "x is not as wide as the weight")
    require(bias.shape == weight.shape[:1], "the bias is not as long as the weight is wide")
    result = torch.empty((*x.shape[:-1], weight.shape[0]), dtype=x.dtype, device=x.device)
    added = () if residual is None else (residual.x,)
    require(all(part.shape == result.shape for part in added), "the residual is not shaped as the result")
    require(all(part.dtype == x.dtype for part in (weight, *added)), "x and the weights differ in dtype")
    if not result.numel():
        return result
    rows, weight, nothing = as_rows(x), as_rows(weight), bias
    (tile_rows, tile_width, tile_depth, warps, stages), width = tiles(before is not None, rows), weight.shape[0]
    stats, sums = (nothing, nothing) if before is None else (before[0].values, before[1])
    around = rows if residual is None else as_rows(residual.x)
    norm = residual.norm if residual is not None and residual.norm is not None else (nothing, nothing)
    of_around = residual.stats.values if residual is not None and residual.stats is not None else nothing
    # Neighbouring programs share the weights, which then stay in the L2.
    grid = (triton.cdiv(rows.shape[0], tile_rows), triton.cdiv(width, tile_width))
    _flow_linear_kernel[grid](
        rows, weight, bias.contiguous(), stats, sums, around, of_around, norm[0].contiguous(), norm[1].contiguous(),
        result, nothing if left is None else left.values, rows.stride(0), weight.stride(0), around.stride(0),
        rows.shape[0], width, eps, DEPTH=rows.shape[1], PARTS=_parts(rows.shape[1]), NORM=before is not None, GELU=gelu,
        ADD=residual is not None, MISH=residual is not None and residual.norm is not None,
        ADDED_COLUMNS=width, ADDED_PARTS=_parts(width), STATS=left is not None, PART_COLUMNS=PART,
        TILE_ROWS=tile_rows, TILE_WIDTH=tile_width, TILE_DEPTH=tile_depth, PRECISION=fp32_products(),
        INTERPRETED=x.device.type == "cpu", num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return result


def _parts(columns: int) -> int:
    parts: int = triton.next_power_of_2(triton.cdiv(max(1, columns), PART))
    return parts


def tiles(normed: bool, x: torch.Tensor) -> tuple[int, int, int, int, int]:
    """Rows, width and depth of a tile, warps, and tiles on their way at a time; stats are left for parts of rows."""
    if x.device.type == "cpu":
        return 64, PART, 64, 4, 1
    if x.element_size() == 4:
        return 32, PART, 32, 4, 3
    if normed:
        return 64, 128, 64, 4, 3
    # A product of few steps has its time in what follows: more programs share that.
    return 32 if x.shape[1] <= 256 else 64, PART, 64, 4, 4


@triton.jit
def _gelu(x):  # type: ignore[no-untyped-def]
    """x times the normal distribution's share below it, by Abramowitz and Stegun 7.1.26: off by less than 1e-7."""
    z = tl.abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.3275911 * z)
    tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    tail = 0.5 * tail * tl.exp(-z * z)
    return x * tl.where(x < 0.0, tail, 1.0 - tail)


@triton.jit
def _flow_linear_kernel(  # type: ignore[no-untyped-def]
    x, weight, bias, stats, sums, around, of_around, scale, shift, result, left, x_stride, weight_stride, around_stride,
    rows, width, eps, DEPTH: tl.constexpr, PARTS: tl.constexpr, NORM: tl.constexpr, GELU: tl.constexpr,
    ADD: tl.constexpr, MISH: tl.constexpr, ADDED_COLUMNS: tl.constexpr, ADDED_PARTS: tl.constexpr,
    STATS: tl.constexpr, PART_COLUMNS: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_WIDTH: tl.constexpr,
    TILE_DEPTH: tl.constexpr, PRECISION: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    output = tl.program_id(1) * TILE_WIDTH + tl.arange(0, TILE_WIDTH)
    inside = output < width
    # Rows past the end read row 0 again and are not stored: cheaper than a mask on every load.
    row_read = tl.where(row < rows, row, 0).to(tl.int64)
    output_read = tl.where(inside, output, 0).to(tl.int64)[None, :]
    total = tl.zeros((TILE_ROWS, TILE_WIDTH), tl.float32)
    for start in range(0, DEPTH, TILE_DEPTH):
        k = start + tl.arange(0, TILE_DEPTH)
        values = tl.load(x + row_read[:, None] * x_stride + k[None, :], mask=(k < DEPTH)[None, :], other=0.0)
        weights = tl.load(weight + output_read * weight_stride + k[:, None], mask=(k < DEPTH)[:, None], other=0.0)
        if INTERPRETED:  # the interpreter would multiply the bits of bf16 as integers
            values, weights = values.to(tl.float32), weights.to(tl.float32)
        total = tl.dot(values, weights, total, input_precision=PRECISION)
    if NORM:
        mean, spread = load_row_stats(stats, row_read, eps, DEPTH, PARTS, PART_COLUMNS)
        total -= mean[:, None] * tl.load(sums + output, mask=inside, other=0.0)[None, :]
        total *= spread[:, None]
    total += tl.load(bias + output, mask=inside, other=0.0).to(tl.float32)[None, :]
    if GELU:
        total = _gelu(total)
    stored = (row < rows)[:, None] & inside[None, :]
    if ADD:
        added = tl.load(around + row_read[:, None] * around_stride + output[None, :], mask=stored, other=0.0)
        added = added.to(tl.float32)
        if MISH:
            mean, spread = load_row_stats(of_around, row_read, eps, ADDED_COLUMNS, ADDED_PARTS, PART_COLUMNS)
            scales = tl.load(scale + output, mask=inside, other=0.0).to(tl.float32)[None, :]
            shifts = tl.load(shift + output, mask=inside, other=0.0).to(tl.float32)[None, :]
            added = mish((added - mean[:, None]) * spread[:, None] * scales + shifts)
        total += added
    rounded = total.to(result.dtype.element_ty)
    tl.store(result + row.to(tl.int64)[:, None] * width + output[None, :], rounded, mask=stored)
    if STATS:
        tl.static_assert(TILE_WIDTH == PART_COLUMNS)
        store_row_stats(left, rounded.to(tl.float32), row, rows, output, width, tl.program_id(1), tl.num_programs(1))


def norm_linear_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """A layer norm, a linear layer and GELU."""
    normed = functional.layer_norm(x, x.shape[-1:], scale, shift, EPS)
    return functional.gelu(functional.linear(normed, weight, bias))


def add_linear_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, around: torch.Tensor, *norm: torch.Tensor
) -> torch.Tensor:
    """A linear layer, and what leads around it."""
    if norm:
        scale, shift = norm
        around = functional.mish(functional.layer_norm(around, around.shape[-1:], scale, shift, EPS))
    return functional.linear(x, weight, bias) + around


def _normed(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows, as wide as they are and as wide as the result is; then what is made of them beforehand."""
    rows, depth, width = dims
    x, weight = normal(generator, rows, depth, dtype=dtype), normal(generator, width, depth, dtype=dtype)
    weight = weight * depth**-0.5
    bias, scale, shift = (normal(generator, size, dtype=dtype) for size in (width, depth, depth))
    folded = NormedWeight.of(weight, bias, (scale, shift))
    return x, weight, bias, scale, shift, row_stats(x).values, folded.weight, folded.sums, folded.bias


def _norm_linear(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    stats, *folded = others[4:]
    return norm_linear(x, RowStats(stats, x.shape[-1]), NormedWeight(*folded), gelu=True)


def _added(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    x, weight, bias, *_ = _normed(dims, dtype, generator)
    return x, weight, bias, normal(generator, dims[0], dims[2], dtype=dtype)


def _add_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    return add_linear(x, weight, bias, Residual(around))[0]


def _around(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    x, weight, bias, around = _added(dims, dtype, generator)
    norm = (normal(generator, dims[2], dtype=dtype) for _ in range(2))
    return x, weight, bias, around, *norm, row_stats(around).values


def _add_linear_mish(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, around: torch.Tensor, *norm: torch.Tensor
) -> torch.Tensor:
    scale, shift, stats = norm
    residual = Residual(around, RowStats(stats, around.shape[-1]), (scale, shift))
    return add_linear(x, weight, bias, residual)[0]


def _first(count: int, reference: Forward) -> Forward:
    """Of the first so many inputs; the others are made of them."""
    return lambda *inputs: reference(*inputs[:count])


def _flops(dims: tuple[int, ...]) -> int:
    return 2 * dims[0] * dims[1] * dims[2]


SMALL: Any = {"small": (Shape("small", (19, 70, 67)),), "flops": _flops}
KERNEL = Kernel(
    device_names=("^_flow_linear_kernel",),
    is_product=True,
    cases=(
        Case(
            name="flow_norm_linear",
            inputs=_normed,
            reference=_first(5, norm_linear_reference),
            ours=_norm_linear,
            exact=in_float64(_first(5, norm_linear_reference)),
            shapes=(Shape("S3Gen qkv", (2048, 256, 1536)), Shape("S3Gen feed-forward", (2048, 256, 1024))),
            **SMALL,
        ),
        Case(
            name="flow_add_linear",
            inputs=_added,
            reference=add_linear_reference,
            ours=_add_linear,
            exact=in_float64(add_linear_reference),
            shapes=(Shape("S3Gen attention", (2048, 512, 256)), Shape("S3Gen feed-forward", (2048, 1024, 256))),
            **SMALL,
        ),
        Case(
            name="flow_add_linear_mish",
            inputs=_around,
            reference=_first(6, add_linear_reference),
            ours=_add_linear_mish,
            exact=in_float64(_first(6, add_linear_reference)),
            shapes=(Shape("S3Gen resnet", (2048, 256, 256)), Shape("S3Gen's last", (2048, 512, 256))),
            **SMALL,
        ),
    ),
)
