"""RMSNorm, forward and backward, and RMSNorm of a sum: the residual is added on the way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl

from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, normal
from ttsbench.optimizations.kernels.tensors import as_rows, require, wants_gradient

COLUMNS_MAX = 16384
# Programs of a backward pass; each leaves one partial sum of the weight's gradient.
BACKWARD_PROGRAMS = 256


def rms_norm_reference(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Llama's, operation by operation."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def add_rms_norm_reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    total = x + residual
    return rms_norm_reference(total, weight, eps), total


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """x over its root mean square, times the weight; in x's dtype, rounded once."""
    _check(x, weight)
    if wants_gradient(x, weight):
        result = _RmsNorm.apply(x, weight, eps)
        assert isinstance(result, torch.Tensor)
        return result
    return _forward(x, None, weight, eps)[0]


def add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """The norm of x + residual, and x + residual itself, rounded to its dtype before it is normed."""
    _check(x, weight)
    require(x.shape == residual.shape and x.dtype == residual.dtype, "x and residual differ in shape or dtype")
    if wants_gradient(x, residual, weight):
        normed, total = _AddRmsNorm.apply(x, residual, weight, eps)
        return normed, total
    normed, total, _ = _forward(x, residual, weight, eps)
    return normed, total


def _check(x: torch.Tensor, weight: torch.Tensor) -> None:
    require(x.ndim > 0 and weight.shape == x.shape[-1:], "the weight is not as long as x is wide")
    require(x.shape[-1] <= COLUMNS_MAX, f"a program holds a row of at most {COLUMNS_MAX}")


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        result, _, scale = _forward(x, None, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        return (*_backward(gradients[0], *ctx.saved_tensors), None)


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        normed, total, scale = _forward(x, residual, weight, eps)
        ctx.save_for_backward(total, weight, scale)
        return normed, total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        normed, total = gradients
        of_sum, of_weight = _backward(normed, *ctx.saved_tensors)
        of_sum = of_sum + total
        return of_sum, of_sum, of_weight, None


def _forward(
    x: torch.Tensor, residual: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The normed rows, what was normed, and each row's scale."""
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = x if residual is None else torch.empty_like(result)
    rows = as_rows(x)
    scale = torch.empty(rows.shape[0], dtype=torch.float32, device=x.device)
    if x.numel():
        added = rows if residual is None else as_rows(residual)
        block, warps = _block(rows)
        _rms_norm_forward_kernel[(rows.shape[0],)](
            rows, added, weight.contiguous(), result, total, scale, rows.stride(0), added.stride(0),
            rows.shape[1], eps, ADD=residual is not None, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return result, total, scale


def _backward(
    gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x_gradient = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not x.numel():
        return x_gradient, torch.zeros_like(weight)
    gradient, x = as_rows(gradient), as_rows(x)
    programs = min(BACKWARD_PROGRAMS, x.shape[0])
    partial = torch.empty(programs, x.shape[1], dtype=torch.float32, device=x.device)
    block, warps = _block(x)
    _rms_norm_backward_kernel[(programs,)](
        gradient, x, weight.contiguous(), scale, x_gradient, partial, gradient.stride(0), x.stride(0),
        x.shape[0], x.shape[1], BLOCK=block, num_warps=warps,
    )  # fmt: skip
    return x_gradient, partial.sum(0).to(weight.dtype)


def _block(rows: torch.Tensor) -> tuple[int, int]:
    """The whole row, 8 values a thread until 16 warps are busy."""
    block = triton.next_power_of_2(rows.shape[1])
    return block, max(1, min(16, block // 256))


@triton.jit
def _rms_norm_forward_kernel(  # type: ignore[no-untyped-def]
    x, residual, weight, result, total, scale, x_stride, residual_stride, columns, eps,
    ADD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    values = tl.load(x + row * x_stride + column, mask=inside, other=0.0)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        added = tl.load(residual + row * residual_stride + column, mask=inside, other=0.0)
        values = (values.to(tl.float32) + added.to(tl.float32)).to(total.dtype.element_ty)
        tl.store(total + row * columns + column, values, mask=inside)
    values = values.to(tl.float32)
    row_scale = tl.rsqrt(tl.sum(values * values, axis=0) / columns + tl.full((), eps, tl.float32))
    tl.store(scale + row, row_scale)
    tl.store(result + row * columns + column, values * row_scale * w, mask=inside)


@triton.jit
def _rms_norm_backward_kernel(  # type: ignore[no-untyped-def]
    gradient, x, weight, scale, x_gradient, partial, gradient_stride, x_stride, rows, columns, BLOCK: tl.constexpr
):  # fmt: skip
    program, programs = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    weight_gradient = tl.zeros((BLOCK,), tl.float32)
    row = program
    while row < rows:
        d = tl.load(gradient + row * gradient_stride + column, mask=inside, other=0.0).to(tl.float32)
        values = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
        row_scale = tl.load(scale + row)
        normed = values * row_scale
        weight_gradient += d * normed
        along = tl.sum(d * w * normed, axis=0) / columns
        tl.store(x_gradient + row * columns + column, (d * w - normed * along) * row_scale, mask=inside)
        row += programs
    tl.store(partial + program * columns + column, weight_gradient, mask=inside)


EPS = 1e-6


def _rows(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    return normal(generator, *dims, dtype=dtype), normal(generator, dims[-1], dtype=dtype)


def _rows_and_residual(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    return (normal(generator, *dims, dtype=dtype), *_rows(dims, dtype, generator))


def _exact(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Without Llama's detour through fp32."""
    x, weight = x.double(), weight.double()
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def _exact_of_sum(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Tensors:
    """Of the sum as it is rounded to its dtype, which is what is normed."""
    total = x + residual
    return _exact(total, weight), total.double()


def _load_liger() -> Forward:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return lambda x, weight: LigerRMSNormFunction.apply(x, weight, EPS, 0.0, "llama", False)


def _load_liger_of_sum() -> Forward:
    from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction

    return lambda x, residual, weight: LigerFusedAddRMSNormFunction.apply(x, residual, weight, EPS)


CASE = Case(
    name="rms_norm",
    inputs=_rows,
    reference=rms_norm_reference,
    ours=rms_norm,
    exact=_exact,
    load_liger=_load_liger,
    shapes=(
        Shape("T3 decode", (2, 1024)),
        Shape("T3 prefill", (600, 1024)),
        Shape("T3 prefill", (4096, 1024)),
        Shape("Spark", (512, 896)),
        Shape("Spark", (4096, 896)),
        Shape("beyond L2", (65536, 1024)),
    ),
    small=(Shape("small", (3, 257)),),
)
OF_SUM = replace(
    CASE,
    name="add_rms_norm",
    inputs=_rows_and_residual,
    reference=add_rms_norm_reference,
    ours=add_rms_norm,
    exact=_exact_of_sum,
    load_liger=_load_liger_of_sum,
)
KERNEL = Kernel(
    device_names=("rms_norm_(forward|backward)_kernel",),
    cases=(CASE, OF_SUM, replace(CASE, name="rms_norm_grad", gradient=True)),
)
