"""Attention of the flow estimator's frames: every frame sees every other, up to the length of its row.

Query, key and value are read where one product left them, and padding is left out by a length on the device, so that
one captured graph serves every length and no bias of a megabyte is read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.gate_up import fp32_products
from ttsbench.optimizations.kernels.kernel import Case, Kernel, Shape, Tensors, normal
from ttsbench.optimizations.kernels.tensors import refuse_gradient, require

HEADS_MAX_CHANNELS = 128


def flow_attention_reference(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """PyTorch's, with a mask."""
    inside = torch.arange(key.shape[1], device=key.device) < lengths[:, None]
    query, key, value = (heads.transpose(1, 2) for heads in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=inside[:, None, None]).transpose(1, 2)


def flow_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention of (rows, frames, heads, channels) to the first `lengths` frames of each row; no backward pass."""
    refuse_gradient("flow_attention", query, key, value)
    require(query.shape == key.shape == value.shape and query.ndim == 4, "query, key and value differ in shape")
    require(query.dtype == key.dtype == value.dtype, "query, key and value differ in dtype")
    require(query.shape[3] <= HEADS_MAX_CHANNELS, f"a head has at most {HEADS_MAX_CHANNELS} channels")
    one_each = lengths is None or (lengths.shape == query.shape[:1] and lengths.dtype == torch.int32)
    require(one_each, "a row has one length")
    query, key, value = (heads if heads.stride(3) == 1 else heads.contiguous() for heads in (query, key, value))
    result = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if result.numel():
        _launch(query, key, value, lengths, result)
    return result


def _launch(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor | None, result: torch.Tensor
) -> None:
    rows, frames, heads, channels = query.shape
    tile_queries, tile_keys, warps, stages = tiles(query)
    grid = (triton.cdiv(frames, tile_queries), rows * heads)
    _flow_attention_kernel[grid](
        query, key, value, result if lengths is None else lengths, result, *query.stride()[:3], *key.stride()[:3],
        *value.stride()[:3], frames, heads, channels**-0.5 * 1.4426950408889634, CHANNELS=channels,
        WHOLE_HEAD=max(16, triton.next_power_of_2(channels)), LENGTHS=lengths is not None, TILE_QUERIES=tile_queries,
        TILE_KEYS=tile_keys, PRECISION=fp32_products(),
        INTERPRETED=frames if query.device.type == "cpu" else 0, num_warps=warps, num_stages=stages,
    )  # fmt: skip


def tiles(query: torch.Tensor) -> tuple[int, int, int, int]:
    """Queries and keys of a tile, warps, and tiles on their way at a time."""
    if query.device.type == "cpu":
        return 64, 32, 4, 1
    # On an H200 15.1 µs for two rows of 1,000 frames; 128 queries and 64 keys 16.9, cuDNN's with a bias 18.5.
    return (32, 32, 4, 2) if query.element_size() == 4 else (64, 128, 4, 2)


@triton.jit
def _flow_attention_kernel(  # type: ignore[no-untyped-def]
    query, key, value, lengths, result, query_row, query_frame, query_head, key_row, key_frame, key_head, value_row,
    value_frame, value_head, frames, heads, scale, CHANNELS: tl.constexpr, WHOLE_HEAD: tl.constexpr,
    LENGTHS: tl.constexpr, TILE_QUERIES: tl.constexpr, TILE_KEYS: tl.constexpr, PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(0) * TILE_QUERIES + tl.arange(0, TILE_QUERIES)
    row, head = (tl.program_id(1) // heads).to(tl.int64), (tl.program_id(1) % heads).to(tl.int64)
    channel = tl.arange(0, WHOLE_HEAD)
    stored = (frame < frames)[:, None] & (channel < CHANNELS)[None, :]
    place = frame.to(tl.int64)[:, None] * query_frame + channel[None, :]
    query_tile = tl.load(query + row * query_row + head * query_head + place, mask=stored, other=0.0)
    keys = key + row * key_row + head * key_head + channel[None, :]
    values = value + row * value_row + head * value_head + channel[None, :]
    scale = tl.full((), scale, tl.float32)
    length = frames
    if LENGTHS:
        length = tl.load(lengths + row)
    peak = tl.full((TILE_QUERIES,), float("-inf"), tl.float32)
    weight = tl.zeros((TILE_QUERIES,), tl.float32)
    total = tl.zeros((TILE_QUERIES, WHOLE_HEAD), tl.float32)
    if INTERPRETED:  # its loops end at no number from memory: there, every tile is masked
        for start in range(0, INTERPRETED, TILE_KEYS):
            peak, weight, total = _add_tile(
                query_tile, keys, values, start, key_frame, value_frame, length, channel, scale, peak, weight, total,
                True, CHANNELS, TILE_KEYS, PRECISION, True,
            )  # fmt: skip
    else:
        whole = length // TILE_KEYS * TILE_KEYS
        for start in range(0, whole, TILE_KEYS):
            peak, weight, total = _add_tile(
                query_tile, keys, values, start, key_frame, value_frame, length, channel, scale, peak, weight, total,
                False, CHANNELS, TILE_KEYS, PRECISION, False,
            )  # fmt: skip
        if whole < length:
            peak, weight, total = _add_tile(
                query_tile, keys, values, whole, key_frame, value_frame, length, channel, scale, peak, weight, total,
                True, CHANNELS, TILE_KEYS, PRECISION, False,
            )  # fmt: skip
    total = total / tl.maximum(weight, 1e-30)[:, None]
    place = ((row * frames + frame.to(tl.int64)[:, None]) * heads + head) * CHANNELS + channel[None, :]
    tl.store(result + place, total.to(result.dtype.element_ty), mask=stored)


@triton.jit
def _add_tile(  # type: ignore[no-untyped-def]
    query_tile, keys, values, start, key_frame, value_frame, length, channel, scale, peak, weight, total,
    MASKED: tl.constexpr, CHANNELS: tl.constexpr, TILE_KEYS: tl.constexpr, PRECISION: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    """The tile's keys and values into the running sum; only the last tile of a row has to look where the row ends."""
    frame = start + tl.arange(0, TILE_KEYS)
    inside = frame < length
    read = (channel < CHANNELS)[None, :]
    if MASKED:
        read = read & inside[:, None]
    key_tile = tl.load(keys + frame.to(tl.int64)[:, None] * key_frame, mask=read, other=0.0)
    value_tile = tl.load(values + frame.to(tl.int64)[:, None] * value_frame, mask=read, other=0.0)
    if INTERPRETED:  # the interpreter would multiply the bits of bf16 as integers
        query_tile, key_tile, value_tile = query_tile.to(tl.float32), key_tile.to(tl.float32), value_tile.to(tl.float32)
    score = tl.dot(query_tile, tl.trans(key_tile), input_precision=PRECISION)
    if MASKED:
        score = tl.where(inside[None, :], score, float("-inf"))
    new_peak = tl.maximum(peak, tl.max(score, axis=1) * scale)
    share = tl.exp2(score * scale - new_peak[:, None])
    rescale = tl.exp2(peak - new_peak)
    weight = weight * rescale + tl.sum(share, axis=1)
    total = tl.dot(share.to(value_tile.dtype), value_tile, total * rescale[:, None], input_precision=PRECISION)
    return new_peak, weight, total


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Of as many rows, frames, heads and channels; the last row is shorter than the others by a tenth."""
    rows, frames, heads, channels = dims
    parts = normal(generator, rows, frames, 3, heads, channels, dtype=dtype).unbind(2)
    lengths = torch.full((rows,), frames, dtype=torch.int32, device=generator.device)
    lengths[-1] -= frames // 10
    return (*parts, lengths)


def _exact(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return flow_attention_reference(query.double(), key.double(), value.double(), lengths)


def _flops(dims: tuple[int, ...]) -> int:
    rows, frames, heads, channels = dims
    return 4 * rows * heads * frames * frames * channels


KERNEL = Kernel(
    device_names=("^_flow_attention_kernel",),
    is_product=True,
    cases=(
        Case(
            name="flow_attention",
            inputs=_inputs,
            reference=flow_attention_reference,
            ours=flow_attention,
            exact=_exact,
            shapes=(Shape("S3Gen", (2, 1024, 8, 64)), Shape("S3Gen, a short window", (2, 256, 8, 64))),
            small=(Shape("small", (2, 70, 3, 24)),),
            flops=_flops,
        ),
    ),
)
