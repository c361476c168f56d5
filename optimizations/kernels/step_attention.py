"""One decoding step of attention in one launch: turns query and key, writes key and value to their place, attends.

Written for a static cache. How far it reads is a number on the device, for all rows or for each, so that no step reads
further than there is text, no mask is made, and a captured launch serves every position. A program takes one head: its
own key and value it still holds in registers, and all others were written by earlier steps, so that no program waits
for another.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, normal
from ttsbench.optimizations.kernels.rope import frequencies, rope_reference
from ttsbench.optimizations.kernels.tensors import refuse_gradient, require

Turn = tuple[torch.Tensor, torch.Tensor]


def step_attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    turn: Turn | None,
    scale: float,
) -> torch.Tensor:
    """As transformers does it over a static cache: rotary embedding, two writes, attention with a mask."""
    if turn is not None:
        query, key = rope_reference(query, key, *turn)
    for memory, new in ((keys, key), (values, value)):
        if position.numel() == 1:
            memory.index_copy_(2, position, new)
        else:
            memory[torch.arange(position.numel(), device=position.device), :, position] = new[:, :, 0]
    mask = torch.arange(keys.size(2), device=position.device) <= position[:, None]
    attended = functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask[:, None, None], scale=scale, enable_gqa=query.size(1) != key.size(1)
    )
    return attended.transpose(1, 2)


def step_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    position: torch.Tensor,
    turn: Turn | None,
    scale: float,
) -> torch.Tensor:
    """[rows, 1, heads, head] from query, key and value of [rows, heads, 1, head]; no backward pass.

    `keys` and `values`, [rows, heads, positions, head], take this step's at `position`, one integer on the device for
    all rows or one for each; `turn` is the cosine and sine of its angles, [rows or 1, 1, head].
    """
    refuse_gradient("step_attention", query, key, value)
    rows, heads, length, width = query.shape
    require(length == 1, "there is more than one position; a prompt needs another kernel")
    require(key.shape == value.shape == (rows, keys.shape[1], 1, width), "key or value does not fit the query")
    require(keys.shape == values.shape and (keys.shape[0], keys.shape[3]) == (rows, width), "the cache does not fit")
    require(key.dtype == value.dtype == query.dtype == keys.dtype == values.dtype, "dtypes differ")
    require(position.shape in ((1,), (rows,)), "there is not one position for all rows, nor one for each")
    require(heads % max(1, keys.shape[1]) == 0, "heads come in whole groups")
    result = torch.empty((rows, 1, heads, width), dtype=query.dtype, device=query.device)
    if not result.numel():
        return result
    require(keys.stride(3) == values.stride(3) == 1, "a head's values do not lie side by side in the cache")
    query, key, value = (t if t.stride(3) == 1 else t.contiguous() for t in (query, key, value))
    cos, sin = turn if turn is not None else (query, query)
    if turn is not None:
        require(width % 2 == 0, "a head has two halves")
        require(cos.shape == sin.shape and cos.shape in ((rows, 1, width), (1, 1, width)), "cos or sin do not fit")
        cos, sin = cos.contiguous(), sin.contiguous()
    _step_attention_kernel[(heads, rows)](
        query, key, value, cos, sin, keys, values, position, result, *query.stride()[:2], *key.stride()[:2],
        *value.stride()[:2], *keys.stride()[:3], *values.stride()[:3], width if cos.shape[0] > 1 else 0,
        position.stride(0) if position.numel() > 1 else 0, scale, heads, heads // keys.shape[1], width,
        TURNS=turn is not None, WIDTH=triton.next_power_of_2(width), TILE=TILE, num_warps=WARPS,
    )  # fmt: skip
    return result


# A step has 32 programs or fewer and is bound by what one of them can have on its way: on an H200, at 300 positions,
# 6.9 µs with tiles of 512, 8.5 with 256, 10.6 with 128 and four warps. Below 128 positions smaller ones are faster.
TILE, WARPS = 512, 8


@triton.jit
def _step_attention_kernel(  # type: ignore[no-untyped-def]
    query, key, value, cos, sin, keys, values, position, result, query_row, query_head, key_row, key_head,
    value_row, value_head, keys_row, keys_head, keys_place, values_row, values_head, values_place, turn_row,
    position_row, scale, heads, group, width, TURNS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    shared = head // group
    now = tl.load(position + row * position_row)
    at = tl.arange(0, WIDTH)
    here = at < width
    query += row * query_row + head * query_head
    key += row * key_row + shared * key_head
    q = tl.load(query + at, mask=here, other=0.0).to(tl.float32)
    k = tl.load(key + at, mask=here, other=0.0).to(tl.float32)
    v = tl.load(value + row * value_row + shared * value_head + at, mask=here, other=0.0)
    if TURNS:
        half = width // 2
        partner = tl.where(at < half, at + half, at - half)
        sign = tl.where(at < half, -1.0, 1.0)
        c = tl.load(cos + row * turn_row + at, mask=here, other=0.0).to(tl.float32)
        s = tl.load(sin + row * turn_row + at, mask=here, other=0.0).to(tl.float32) * sign
        q = q * c + tl.load(query + partner, mask=here, other=0.0).to(tl.float32) * s
        k = k * c + tl.load(key + partner, mask=here, other=0.0).to(tl.float32) * s
    keys += row * keys_row + shared * keys_head
    values += row * values_row + shared * values_head
    kept = k.to(keys.dtype.element_ty)
    if head % group == 0:
        tl.store(keys + now * keys_place + at, kept, mask=here)
        tl.store(values + now * values_place + at, v, mask=here)

    # Its own position first, from registers, as later steps will read it; then all that were there before.
    q *= tl.full((), scale, tl.float32)  # which a compiler hands over in fp64
    highest = tl.sum(q * kept.to(tl.float32))
    total = highest * 0.0 + 1.0
    mixed = v.to(tl.float32)
    start = now * 0
    while start < now:
        place = start + tl.arange(0, TILE)
        known = place < now
        read = known[:, None] & here[None, :]
        tile_keys = tl.load(keys + place[:, None] * keys_place + at[None, :], mask=read, other=0.0).to(tl.float32)
        tile_values = tl.load(values + place[:, None] * values_place + at[None, :], mask=read, other=0.0)
        scores = tl.where(known, tl.sum(tile_keys * q[None, :], axis=1), -float("inf"))
        higher = tl.maximum(highest, tl.max(scores))
        weights = tl.exp(scores - higher)
        shrink = tl.exp(highest - higher)
        mixed = mixed * shrink + tl.sum(weights[:, None] * tile_values.to(tl.float32), axis=0)
        total = total * shrink + tl.sum(weights)
        highest = higher
        start += TILE
    tl.store(result + (row * heads + head) * width + at, mixed / total, mask=here)


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """A projection seen as heads, a cache filled up to a position, and the position's angles."""
    rows, heads, groups, now, width = dims
    projected = normal(generator, rows, heads + 2 * groups, 1, width, dtype=dtype)
    keys, values = (normal(generator, rows, groups, now + 1, width, dtype=dtype) for _ in range(2))
    angles = (now * frequencies(width, generator.device))[None, None]
    position = torch.tensor([now], device=generator.device)
    parts = torch.split(projected, [heads, groups, groups], dim=1)
    return (*parts, keys, values, position, angles.cos().to(dtype), angles.sin().to(dtype))


def _with_turn_and_scale(step: Forward) -> Forward:
    def attend(*inputs: torch.Tensor) -> Any:
        *tensors, cos, sin = inputs
        return step(*tensors, (cos, sin), inputs[0].shape[-1] ** -0.5)

    return attend


def _exact(*inputs: torch.Tensor) -> Any:
    """A position is no number to widen."""
    wide = (tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    return _with_turn_and_scale(step_attention_reference)(*wide)


KERNEL = Kernel(
    device_names=("^_step_attention_kernel",),
    is_product=True,
    cases=(
        Case(
            name="step_attention",
            inputs=_inputs,
            reference=_with_turn_and_scale(step_attention_reference),
            ours=_with_turn_and_scale(step_attention),
            exact=_exact,
            shapes=(
                Shape("T3 decode", (2, 16, 16, 100, 64)),
                Shape("T3 decode", (2, 16, 16, 400, 64)),
                Shape("T3 decode", (2, 16, 16, 1000, 64)),
                Shape("Turbo decode", (1, 16, 16, 400, 64)),
                Shape("Spark decode", (1, 14, 2, 2500, 64)),
            ),
            small=(Shape("small", (2, 4, 2, 13, 6)),),
        ),
    ),
)
