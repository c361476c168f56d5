"""silu(x·gateᵀ)·(x·upᵀ): two projections and what joins them, without a trip to memory in between.

With few rows the time is that of reading both weights once, so a program takes a few whole rows of each, all loads
under way at the same moment, and sums them without tensor cores. With many rows two tiles of products share each tile
of x.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, refuse_gradient, require

FEW_ROWS = 8
WHOLE_ROW_MAX = 4096


def gate_up_reference(x: torch.Tensor, gate_weight: torch.Tensor, up_weight: torch.Tensor) -> torch.Tensor:
    """The first half of Llama's and Qwen2's MLP."""
    return functional.silu(functional.linear(x, gate_weight)) * functional.linear(x, up_weight)


def gate_up(x: torch.Tensor, gate_weight: torch.Tensor, up_weight: torch.Tensor) -> torch.Tensor:
    """silu(x·gateᵀ)·(x·upᵀ) for weights [N, K] as `nn.Linear` keeps them; no backward pass."""
    refuse_gradient("gate_up", x, gate_weight, up_weight)
    require(gate_weight.shape == up_weight.shape and gate_weight.ndim == 2, "the weights differ in shape")
    require(x.ndim > 0 and x.shape[-1] == gate_weight.shape[1], "x is not as wide as the weights")
    require(x.dtype == gate_weight.dtype == up_weight.dtype, "x and the weights differ in dtype")
    result = torch.empty((*x.shape[:-1], gate_weight.shape[0]), dtype=x.dtype, device=x.device)
    if not x.shape[-1]:
        return result.zero_()
    if result.numel():
        rows, gate_weight, up_weight = as_rows(x), as_rows(gate_weight), as_rows(up_weight)
        few = rows.shape[0] <= FEW_ROWS and rows.shape[1] <= WHOLE_ROW_MAX
        (_few_rows if few else _many_rows)(rows, gate_weight, up_weight, result)
    return result


def _few_rows(x: torch.Tensor, gate_weight: torch.Tensor, up_weight: torch.Tensor, result: torch.Tensor) -> None:
    (rows, depth), width = x.shape, gate_weight.shape[0]
    whole_row = triton.next_power_of_2(depth)
    # 8 KiB of bf16 weights a program: enough in flight on every multiprocessor, few enough registers to hold them.
    outputs = max(1, min(2, 4096 // whole_row))
    _gate_up_few_rows_kernel[(triton.cdiv(width, outputs),)](
        x, gate_weight, up_weight, result, x.stride(0), gate_weight.stride(0), up_weight.stride(0), width, depth,
        ROWS=rows, OUTPUTS=outputs, WHOLE_ROW=whole_row, num_warps=4,
    )  # fmt: skip


def _many_rows(x: torch.Tensor, gate_weight: torch.Tensor, up_weight: torch.Tensor, result: torch.Tensor) -> None:
    (rows, depth), width = x.shape, gate_weight.shape[0]
    tile_rows, tile_width, tile_depth, warps = _tiles(rows, x.element_size())
    stages = _stages((tile_rows + 2 * tile_width) * tile_depth * x.element_size(), x.device)
    # Neighbouring programs share the weights, which then stay in the L2.
    grid = (triton.cdiv(rows, tile_rows), triton.cdiv(width, tile_width))
    _gate_up_many_rows_kernel[grid](
        x, gate_weight, up_weight, result, x.stride(0), gate_weight.stride(0), up_weight.stride(0),
        rows, width, DEPTH=depth, TILE_ROWS=tile_rows, TILE_WIDTH=tile_width, TILE_DEPTH=tile_depth,
        PRECISION=fp32_products(), INTERPRETED=x.device.type == "cpu", num_warps=warps, num_stages=stages,
    )  # fmt: skip


def _tiles(rows: int, element_size: int) -> tuple[int, int, int, int]:
    """Rows, width and depth of a tile, and warps; two tiles of fp32 sums have to fit into the registers."""
    if element_size == 4:
        return (16, 64, 32, 4) if rows <= 32 else (64, 64, 32, 4)
    if rows <= 64:
        return 16 if rows <= 16 else 64, 64, 64, 4
    # Large tiles spare the L2, which is what bounds this, even where the last wave of programs is mostly empty.
    return (64, 128, 64, 4) if rows <= 256 else (128, 128, 64, 8)


@torch.compiler.assume_constant_result
def _stages(stage_bytes: int, device: torch.device) -> int:
    """How many tiles are on their way at a time: four, or what shared memory holds."""
    if device.type != "cuda":
        return 1
    properties: Any = torch.cuda.get_device_properties(device)
    return max(1, min(4, int(properties.shared_memory_per_block_optin) // stage_bytes))


@torch.compiler.assume_constant_result
def fp32_products() -> str:
    """tf32 where torch may use it; otherwise three tf32 products, exact to 2⁻²¹ and far faster than fp32 ones."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


@triton.jit
def _gate_up_few_rows_kernel(  # type: ignore[no-untyped-def]
    x, gate_weight, up_weight, result, x_stride, gate_stride, up_stride, width, depth,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, WHOLE_ROW: tl.constexpr,
):  # fmt: skip
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    k = tl.arange(0, WHOLE_ROW)
    inside = (output < width)[:, None] & (k < depth)[None, :]
    place = output.to(tl.int64)[:, None]
    gate_row = tl.load(gate_weight + place * gate_stride + k[None, :], mask=inside, other=0.0).to(tl.float32)
    up_row = tl.load(up_weight + place * up_stride + k[None, :], mask=inside, other=0.0).to(tl.float32)
    for row in tl.static_range(ROWS):
        values = tl.load(x + row * x_stride + k, mask=k < depth, other=0.0).to(tl.float32)[None, :]
        gate = tl.sum(gate_row * values, axis=1)
        up = tl.sum(up_row * values, axis=1)
        tl.store(result + row * width + output, gate * tl.sigmoid(gate) * up, mask=output < width)


@triton.jit
def _gate_up_many_rows_kernel(  # type: ignore[no-untyped-def]
    x, gate_weight, up_weight, result, x_stride, gate_stride, up_stride, rows, width, DEPTH: tl.constexpr,
    TILE_ROWS: tl.constexpr, TILE_WIDTH: tl.constexpr, TILE_DEPTH: tl.constexpr, PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    output = tl.program_id(1) * TILE_WIDTH + tl.arange(0, TILE_WIDTH)
    # Rows past the end read row 0 again and are not stored: cheaper than a mask on every load.
    row_read = tl.where(row < rows, row, 0).to(tl.int64)[:, None]
    output_read = tl.where(output < width, output, 0).to(tl.int64)[None, :]
    gate = tl.zeros((TILE_ROWS, TILE_WIDTH), tl.float32)
    up = tl.zeros((TILE_ROWS, TILE_WIDTH), tl.float32)
    for start in range(0, DEPTH, TILE_DEPTH):
        k = start + tl.arange(0, TILE_DEPTH)
        inside = k < DEPTH
        values = tl.load(x + row_read * x_stride + k[None, :], mask=inside[None, :], other=0.0)
        gate_tile = tl.load(gate_weight + output_read * gate_stride + k[:, None], mask=inside[:, None], other=0.0)
        up_tile = tl.load(up_weight + output_read * up_stride + k[:, None], mask=inside[:, None], other=0.0)
        if INTERPRETED:  # the interpreter would multiply the bits of bf16 as integers
            values, gate_tile, up_tile = values.to(tl.float32), gate_tile.to(tl.float32), up_tile.to(tl.float32)
        gate = tl.dot(values, gate_tile, gate, input_precision=PRECISION)
        up = tl.dot(values, up_tile, up, input_precision=PRECISION)
    joined = (gate * tl.sigmoid(gate) * up).to(result.dtype.element_ty)
    place = row.to(tl.int64)[:, None] * width + output[None, :]
    tl.store(result + place, joined, mask=(row < rows)[:, None] & (output < width)[None, :])


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows, as wide as they are and as wide as the result is."""
    rows, depth, width = dims
    weights = (normal(generator, width, depth, dtype=dtype, scale=depth**-0.5) for _ in range(2))
    return (normal(generator, rows, depth, dtype=dtype), *weights)


def _load_liger() -> Forward:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return lambda x, gate, up: LigerSiLUMulFunction.apply(functional.linear(x, gate), functional.linear(x, up))


KERNEL = Kernel(
    device_names=(r"gate_up_\w+_rows_kernel",),
    is_product=True,
    cases=(
        Case(
            name="gate_up",
            inputs=_inputs,
            reference=gate_up_reference,
            ours=gate_up,
            exact=in_float64(gate_up_reference),
            load_liger=_load_liger,
            shapes=(
                Shape("T3 decode", (2, 1024, 4096)),
                Shape("T3 decode", (1, 1024, 4096)),
                Shape("T3 prefill", (600, 1024, 4096)),
                Shape("T3 prefill", (4096, 1024, 4096)),
                Shape("Spark decode", (1, 896, 4864)),
                Shape("Spark", (512, 896, 4864)),
                Shape("Spark", (2048, 896, 4864)),
            ),
            small=(Shape("small", (2, 70, 33)), Shape("small", (19, 70, 67))),
            flops=lambda dims: 4 * dims[0] * dims[1] * dims[2],
        ),
    ),
)
