"""The flow estimator's causal convolutions over frames of channels.

A convolution is a product with the frames before laid side by side; read from where they lie, they need no copy.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.flow_norm import PART, RowStats, store_row_stats
from ttsbench.optimizations.kernels.gate_up import fp32_products
from ttsbench.optimizations.kernels.kernel import Case, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, refuse_gradient, require

TAPS = 3


def flow_conv_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """PyTorch's operations; `weight` is [N, taps, K]."""
    before = functional.pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return functional.conv1d(before, weight.transpose(1, 2), bias).transpose(1, 2)


def flow_conv(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, RowStats]:
    """A causal convolution of x (rows, frames, K) by a weight [N, 3, K], and what is known of the result's rows.

    No backward pass.
    """
    refuse_gradient("flow_conv", x, weight)
    require(weight.ndim == 3 and weight.shape[1] == TAPS, f"the weight does not have {TAPS} taps")
    require(x.ndim == 3 and x.shape[2] == weight.shape[2], "x is not as wide as the weight")
    require(bias.shape == weight.shape[:1], "the bias is not as long as the weight is wide")
    require(weight.dtype == bias.dtype == x.dtype, "x and the weights differ in dtype")
    (rows, frames, depth), width = x.shape, weight.shape[0]
    result = torch.empty((rows, frames, width), dtype=x.dtype, device=x.device)
    stats = RowStats.empty(rows * frames, width, x.device)
    if result.numel():
        x, weight = as_rows(x), weight.flatten(1)
        tile_rows, tile_depth, warps, stages = tiles(x)
        grid = (triton.cdiv(rows * frames, tile_rows), triton.cdiv(width, PART))
        _flow_conv_kernel[grid](
            x, weight, bias.contiguous(), result, stats.values, x.stride(0), weight.stride(0), rows * frames, frames,
            width, DEPTH=depth, WINDOW=TAPS, TILE_ROWS=tile_rows, TILE_WIDTH=PART, TILE_DEPTH=tile_depth,
            PRECISION=fp32_products(), INTERPRETED=x.device.type == "cpu", num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return result, stats


def tiles(x: torch.Tensor) -> tuple[int, int, int, int]:
    """Rows and depth of a tile, warps, and tiles on their way at a time."""
    if x.device.type == "cpu":
        return 64, 64, 4, 1
    return (32, 32, 4, 3) if x.element_size() == 4 else (64, 64, 4, 4)


@triton.jit
def _flow_conv_kernel(  # type: ignore[no-untyped-def]
    x, weight, bias, result, stats, x_stride, weight_stride, rows, frames, width, DEPTH: tl.constexpr,
    WINDOW: tl.constexpr, TILE_ROWS: tl.constexpr, TILE_WIDTH: tl.constexpr, TILE_DEPTH: tl.constexpr,
    PRECISION: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    output = tl.program_id(1) * TILE_WIDTH + tl.arange(0, TILE_WIDTH)
    inside = output < width
    row_read = tl.where(row < rows, row, 0).to(tl.int64)
    output_read = tl.where(inside, output, 0).to(tl.int64)[None, :]
    frame = row_read % frames
    total = tl.zeros((TILE_ROWS, TILE_WIDTH), tl.float32)
    pieces: tl.constexpr = (DEPTH + TILE_DEPTH - 1) // TILE_DEPTH
    # One loop over all taps, so that none of them waits for its first tiles.
    for piece in range(WINDOW * pieces):
        tap = piece // pieces
        k = (piece % pieces) * TILE_DEPTH + tl.arange(0, TILE_DEPTH)
        back = WINDOW - 1 - tap
        read = (frame >= back)[:, None] & (k < DEPTH)[None, :]
        values = tl.load(x + (row_read - back)[:, None] * x_stride + k[None, :], mask=read, other=0.0)
        place = output_read * weight_stride + (tap * DEPTH + k)[:, None]
        weights = tl.load(weight + place, mask=(k < DEPTH)[:, None], other=0.0)
        if INTERPRETED:  # the interpreter would multiply the bits of bf16 as integers
            values, weights = values.to(tl.float32), weights.to(tl.float32)
        total = tl.dot(values, weights, total, input_precision=PRECISION)
    total += tl.load(bias + output, mask=inside, other=0.0).to(tl.float32)[None, :]
    rounded = total.to(result.dtype.element_ty)
    stored = (row < rows)[:, None] & inside[None, :]
    tl.store(result + row.to(tl.int64)[:, None] * width + output[None, :], rounded, mask=stored)
    store_row_stats(stats, rounded.to(tl.float32), row, rows, output, width, tl.program_id(1), tl.num_programs(1))


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows and frames, as wide as they are and as wide as the result is."""
    rows, frames, depth, width = dims
    weight = normal(generator, width, TAPS, depth, dtype=dtype, scale=(TAPS * depth) ** -0.5)
    return normal(generator, rows, frames, depth, dtype=dtype), weight, normal(generator, width, dtype=dtype)


KERNEL = Kernel(
    device_names=("^_flow_conv_kernel",),
    is_product=True,
    cases=(
        Case(
            name="flow_conv",
            inputs=_inputs,
            reference=flow_conv_reference,
            ours=lambda x, weight, bias: flow_conv(x, weight, bias)[0],
            exact=in_float64(flow_conv_reference),
            shapes=(Shape("S3Gen", (2, 1024, 256, 256)), Shape("S3Gen's first", (2, 1024, 320, 256))),
            small=(Shape("small", (2, 19, 70, 67)),),
            flops=lambda dims: 2 * TAPS * dims[0] * dims[1] * dims[2] * dims[3],
        ),
    ),
)
