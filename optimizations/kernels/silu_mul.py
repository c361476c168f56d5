"""silu(gate)·up in one pass over memory, and its gradient in another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, require, wants_gradient

BLOCK = 2048


def silu_mul_reference(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """What Llama's and Qwen2's MLP compute between their projections."""
    return functional.silu(gate) * up


def silu_mul(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate)·up, rounded once; halves of one fused projection are read where they lie."""
    require(gate.shape == up.shape and gate.dtype == up.dtype, "gate and up differ in shape or dtype")
    require(gate.ndim > 0, "gate and up have no dimension")
    if wants_gradient(gate, up):
        result = _SiluMul.apply(gate, up)
        assert isinstance(result, torch.Tensor)
        return result
    return _forward(gate, up)


class _SiluMul(torch.autograd.Function):
    """Keeps its inputs, not the sigmoid: computing it again is cheaper than another trip to memory."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return _forward(gate, up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        return _backward(gradients[0], gate, up)


def _forward(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    result = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if gate.numel():
        gate, up = as_rows(gate), as_rows(up)
        block = _block(gate)
        grid = (gate.shape[0], triton.cdiv(gate.shape[1], block))
        _silu_mul_forward_kernel[grid](gate, up, result, gate.stride(0), up.stride(0), gate.shape[1], BLOCK=block)
    return result


def _backward(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gate_gradient, up_gradient = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (gate, up))
    if gate.numel():
        gradient, gate, up = as_rows(gradient), as_rows(gate), as_rows(up)
        block = _block(gate)
        grid = (gate.shape[0], triton.cdiv(gate.shape[1], block))
        strides = gradient.stride(0), gate.stride(0), up.stride(0)
        _silu_mul_backward_kernel[grid](
            gradient, gate, up, gate_gradient, up_gradient, *strides, gate.shape[1], BLOCK=block
        )  # fmt: skip
    return gate_gradient, up_gradient


def _block(rows: torch.Tensor) -> int:
    return min(BLOCK, int(triton.next_power_of_2(rows.shape[1])))


@triton.jit
def _silu_mul_forward_kernel(gate, up, result, gate_stride, up_stride, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(result + row * columns + column, g * tl.sigmoid(g) * u, mask=inside)


@triton.jit
def _silu_mul_backward_kernel(  # type: ignore[no-untyped-def]
    gradient, gate, up, gate_gradient, up_gradient, gradient_stride, gate_stride, up_stride, columns,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    d = tl.load(gradient + row * gradient_stride + column, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + row * up_stride + column, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(g)
    silu = g * sigmoid
    tl.store(gate_gradient + row * columns + column, d * u * (sigmoid + silu * (1.0 - sigmoid)), mask=inside)
    tl.store(up_gradient + row * columns + column, d * silu, mask=inside)


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    return normal(generator, *dims, dtype=dtype), normal(generator, *dims, dtype=dtype)


def _load_liger() -> Forward:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return LigerSiLUMulFunction.apply  # type: ignore[no-any-return]


CASE = Case(
    name="silu_mul",
    inputs=_inputs,
    reference=silu_mul_reference,
    ours=silu_mul,
    exact=in_float64(silu_mul_reference),
    load_liger=_load_liger,
    shapes=(
        Shape("T3 decode", (2, 4096)),
        Shape("T3 prefill", (600, 4096)),
        Shape("T3 prefill", (4096, 4096)),
        Shape("Spark", (512, 4864)),
        Shape("Spark", (2048, 4864)),
        Shape("beyond L2", (16384, 4096)),
    ),
    small=(Shape("small", (3, 257)),),
)
KERNEL = Kernel(
    device_names=(r"silu_mul_\w+_kernel", r"swiglu_\w*kernel"),
    cases=(CASE, replace(CASE, name="silu_mul_grad", gradient=True)),
)
