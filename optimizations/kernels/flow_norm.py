"""The layer norms of the flow estimator: what a row's mean and spread are made of, and norm, Mish and time in one pass.

A product that makes a row in several tiles leaves the mean of each and its squares around that mean. Whoever reads the
row next joins them, so that nobody reads it twice; sums of plain squares would lose the digits of a row far from zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.kernel import Case, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import as_rows, refuse_gradient, require

EPS = 1e-5
COLUMNS_MAX = 4096
# Columns of each part of a row.
PART = 64

Norm = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class RowStats:
    """The mean of each part of each row, and the sum of squares around it: fp32 of (rows, parts, 2)."""

    values: torch.Tensor
    columns: int

    @classmethod
    def empty(cls, rows: int, columns: int, device: torch.device) -> RowStats:
        return cls(torch.empty(rows, triton.cdiv(columns, PART), 2, dtype=torch.float32, device=device), columns)


def row_stats(x: torch.Tensor) -> RowStats:
    """What a kernel leaves of its result, in PyTorch's operations."""
    rows = x.flatten(0, -2).float()
    parts = [(part.mean(1), part.var(1, correction=0) * part.shape[1]) for part in rows.split(PART, dim=1)]
    return RowStats(torch.stack([torch.stack(pair, dim=1) for pair in parts], dim=1), x.shape[-1])


def flow_norm_reference(x: torch.Tensor, norm: Norm, time: torch.Tensor | None = None) -> torch.Tensor:
    y = functional.mish(functional.layer_norm(x, x.shape[-1:], *norm, EPS))
    return y if time is None else y + time[:, None]


def flow_norm(x: torch.Tensor, norm: Norm, time: torch.Tensor | None = None, eps: float = EPS) -> torch.Tensor:
    """Mish of the layer norm of x (rows, frames, channels), plus a time for all rows or for each; no backward pass."""
    refuse_gradient("flow_norm", x, *norm)
    require(x.ndim == 3 and x.shape[2] <= COLUMNS_MAX, f"x is not (rows, frames, channels) of at most {COLUMNS_MAX}")
    require(all(part.shape == x.shape[2:] for part in norm), "the norm is not as wide as x")
    require(time is None or time.shape in ((1, x.shape[2]), (x.shape[0], x.shape[2])), "the time's rows do not fit")
    result = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if result.numel():
        rows, added = as_rows(x), norm[0][None] if time is None else time
        added = added if added.stride(1) == 1 else added.contiguous()
        width = triton.next_power_of_2(rows.shape[1])
        tile_rows = 64 if x.device.type == "cpu" else max(1, 1024 // width)
        _flow_norm_kernel[(triton.cdiv(rows.shape[0], tile_rows),)](
            rows, norm[0].contiguous(), norm[1].contiguous(), added, result, rows.stride(0),
            0 if added.shape[0] == 1 else added.stride(0), rows.shape[0], x.shape[1], rows.shape[1], eps,
            TIME=time is not None, TILE_ROWS=tile_rows, WHOLE_ROW=width, num_warps=4,
        )  # fmt: skip
    return result


@triton.jit
def mish(x):  # type: ignore[no-untyped-def]
    """x·tanh(log(1 + eˣ)), which beyond 20 is x."""
    e = tl.exp(tl.minimum(x, 20.0))
    e = e * (e + 2.0)
    return x * (e / (e + 2.0))


@triton.jit
def store_row_stats(stats, values, row, rows, output, width, part, parts):  # type: ignore[no-untyped-def]
    """Of one part of some rows."""
    inside = (output < width)[None, :]
    count = tl.minimum(width - part * output.shape[0], output.shape[0])
    mean = tl.sum(tl.where(inside, values, 0.0), axis=1) / count
    centred = tl.where(inside, values - mean[:, None], 0.0)
    place = stats + (row.to(tl.int64) * parts + part) * 2
    tl.store(place, mean, mask=row < rows)
    tl.store(place + 1, tl.sum(centred * centred, axis=1), mask=row < rows)


@triton.jit
def load_row_stats(  # type: ignore[no-untyped-def]
    stats, row, eps, COLUMNS: tl.constexpr, PARTS: tl.constexpr, PART_COLUMNS: tl.constexpr
):  # fmt: skip
    """Each row's mean, and one over its spread."""
    part = tl.arange(0, PARTS)[None, :]
    count = tl.minimum(COLUMNS - part * PART_COLUMNS, PART_COLUMNS)
    exists = count > 0
    stored: tl.constexpr = (COLUMNS + PART_COLUMNS - 1) // PART_COLUMNS
    place = stats + (row[:, None] * stored + part) * 2
    means, squares = tl.load(place, mask=exists, other=0.0), tl.load(place + 1, mask=exists, other=0.0)
    weight = tl.where(exists, count, 0).to(tl.float32)
    mean = tl.sum(means * weight, axis=1) / COLUMNS
    offset = means - mean[:, None]
    variance = tl.sum(squares + weight * offset * offset, axis=1) / COLUMNS
    return mean, tl.rsqrt(variance + tl.full((), eps, tl.float32))


@triton.jit
def _flow_norm_kernel(  # type: ignore[no-untyped-def]
    x, scale, shift, time, result, x_stride, time_stride, rows, frames, columns, eps,
    TIME: tl.constexpr, TILE_ROWS: tl.constexpr, WHOLE_ROW: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, WHOLE_ROW)[None, :]
    inside = (row < rows) & (column < columns)
    values = tl.load(x + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=1)[:, None] / columns
    centred = tl.where(column < columns, values - mean, 0.0)
    spread = tl.rsqrt(tl.sum(centred * centred, axis=1)[:, None] / columns + tl.full((), eps, tl.float32))
    scales = tl.load(scale + column, mask=column < columns, other=0.0).to(tl.float32)
    shifts = tl.load(shift + column, mask=column < columns, other=0.0).to(tl.float32)
    values = mish(centred * spread * scales + shifts)
    if TIME:
        values += tl.load(time + (row // frames) * time_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(result + row * columns + column, values.to(result.dtype.element_ty), mask=inside)


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows, frames and channels, the norm, and a time for each row."""
    rows, _, columns = dims
    vectors = (normal(generator, columns, dtype=dtype) for _ in range(2))
    return (normal(generator, *dims, dtype=dtype), *vectors, normal(generator, rows, columns, dtype=dtype))


def _with_norm(call: Any) -> Any:
    return lambda x, scale, shift, time: call(x, (scale, shift), time)


KERNEL = Kernel(
    device_names=("^_flow_norm_kernel",),
    cases=(
        Case(
            name="flow_norm",
            inputs=_inputs,
            reference=_with_norm(flow_norm_reference),
            ours=_with_norm(flow_norm),
            exact=in_float64(_with_norm(flow_norm_reference)),
            shapes=(Shape("S3Gen", (2, 1024, 256)), Shape("beyond L2", (8, 32768, 256))),
            small=(Shape("small", (2, 19, 67)),),
        ),
    ),
)
