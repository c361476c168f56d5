"""x·weightᵀ + bias for the one or two rows of a decoding step, whose time is that of reading the weight once.

A library's product is made for many rows: at two it reads 2 MB in more time than this takes. A program takes a few
whole rows of the weight, all loads under way at the same moment, and sums them without tensor cores.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.kernel import Case, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, refuse_gradient, require

FEW_ROWS = 8
WHOLE_ROW_MAX = 8192
# Two whole rows a program, and a warp for 2048 values: on an H200 2.5, 4.8 and 6.8 µs for weights of 2, 8 and 17 MB
# where cuBLAS takes 7.7, 8.0 and 14.4. Twice or half of either costs up to a quarter.
VALUES, VALUES_A_WARP = 2048, 2048


def few_rows_reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return functional.linear(x, weight, bias)


def few_rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """The same for a weight [N, K] as `nn.Linear` keeps it; with more rows than a step has, by the library."""
    refuse_gradient("few_rows", x, weight)
    require(weight.ndim == 2 and x.ndim > 0 and x.shape[-1] == weight.shape[1], "x is not as wide as the weight")
    require(x.dtype == weight.dtype, "x and the weight differ in dtype")
    require(bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype), "the bias does not fit")
    width, depth = weight.shape
    if not 0 < depth <= WHOLE_ROW_MAX or x.numel() > FEW_ROWS * depth:
        return functional.linear(x, weight, bias)
    result = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    if not result.numel():
        return result
    rows, weight = as_rows(x), as_rows(weight)
    whole_row = triton.next_power_of_2(depth)
    outputs = max(2, VALUES // whole_row)
    _few_rows_kernel[(triton.cdiv(width, outputs),)](
        rows, weight, weight if bias is None else bias.contiguous(), result, rows.stride(0), weight.stride(0),
        width, depth, ROWS=rows.shape[0], OUTPUTS=outputs, WHOLE_ROW=whole_row, BIAS=bias is not None,
        num_warps=max(1, min(8, outputs * whole_row // VALUES_A_WARP)),
    )  # fmt: skip
    return result


@triton.jit
def _few_rows_kernel(  # type: ignore[no-untyped-def]
    x, weight, bias, result, x_stride, weight_stride, width, depth,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, WHOLE_ROW: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    k = tl.arange(0, WHOLE_ROW)
    inside = (output < width)[:, None] & (k < depth)[None, :]
    place = output.to(tl.int64)[:, None] * weight_stride + k[None, :]
    weights = tl.load(weight + place, mask=inside, other=0.0).to(tl.float32)
    shift = tl.zeros((OUTPUTS,), tl.float32)
    if BIAS:
        shift = tl.load(bias + output, mask=output < width, other=0.0).to(tl.float32)
    for row in tl.static_range(ROWS):
        values = tl.load(x + row * x_stride + k, mask=k < depth, other=0.0).to(tl.float32)[None, :]
        tl.store(result + row * width + output, tl.sum(weights * values, axis=1) + shift, mask=output < width)


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows, as wide as they are and as wide as the result is."""
    rows, depth, width = dims
    weight = normal(generator, width, depth, dtype=dtype, scale=depth**-0.5)
    return normal(generator, rows, depth, dtype=dtype), weight, normal(generator, width, dtype=dtype)


KERNEL = Kernel(
    device_names=("^_few_rows_kernel",),
    is_product=True,
    cases=(
        Case(
            name="few_rows",
            inputs=_inputs,
            reference=few_rows_reference,
            ours=few_rows,
            exact=in_float64(few_rows_reference),
            shapes=(
                Shape("T3 query", (2, 1024, 1024)),
                Shape("T3 down", (2, 4096, 1024)),
                Shape("T3 head", (2, 1024, 8194)),
                Shape("T3 query", (1, 1024, 1024)),
                Shape("Spark down", (1, 4864, 896)),
                Shape("beyond L2", (2, 4096, 32768)),
            ),
            small=(Shape("small", (2, 70, 33)), Shape("small", (5, 130, 7))),
            flops=lambda dims: 2 * dims[0] * dims[1] * dims[2],
        ),
    ),
)
