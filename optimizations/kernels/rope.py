"""Rotary position embedding of queries and keys in one launch, by halves of the head as Llama and Qwen2 have it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ttsbench.optimizations.kernels.kernel import Case, Forward, Kernel, Shape, Tensors, in_float64, normal
from ttsbench.optimizations.kernels.tensors import refuse_gradient, require


def rope_reference(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """transformers' `apply_rotary_pos_emb`."""
    cos, sin = cos[:, None], sin[:, None]
    return q * cos + _half_rotated(q) * sin, k * cos + _half_rotated(k) * sin


def _half_rotated(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def rope(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q and k of [batch, heads, length, head] turned by cos and sin of [batch or 1, length, head]; no backward pass."""
    refuse_gradient("rope", q, k, cos, sin)
    batch, _, length, head = q.shape
    require((k.shape[0], *k.shape[2:]) == (batch, length, head), "q and k differ in more than their heads")
    require(q.dtype == k.dtype, "q and k differ in dtype")
    require(head % 2 == 0, "a head has two halves")
    require(cos.shape == sin.shape and cos.shape in ((batch, length, head), (1, length, head)), "cos or sin do not fit")
    q, k, cos, sin = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, cos, sin))
    # Laid out as the inputs are, which in attention is [batch, length, heads, head]: a token's heads stay neighbours.
    turned_q, turned_k = torch.empty_like(q), torch.empty_like(k)
    if batch * length * head:
        turn_of_row = [stride if cos.shape[0] == batch else 0 for stride in (cos.stride(0), sin.stride(0))]
        _rope_kernel[(length, batch)](
            q, k, cos, sin, turned_q, turned_k, *q.stride()[:3], *k.stride()[:3], *turned_q.stride()[:3],
            *turned_k.stride()[:3], turn_of_row[0], cos.stride(1), turn_of_row[1], sin.stride(1),
            q.shape[1], k.shape[1], head // 2, Q_HEADS=triton.next_power_of_2(max(1, q.shape[1])),
            K_HEADS=triton.next_power_of_2(max(1, k.shape[1])), HALF=triton.next_power_of_2(head // 2), num_warps=4,
        )  # fmt: skip
    return turned_q, turned_k


@triton.jit
def _rope_kernel(  # type: ignore[no-untyped-def]
    q, k, cos, sin, turned_q, turned_k, q_batch, q_head, q_token, k_batch, k_head, k_token,
    to_q_batch, to_q_head, to_q_token, to_k_batch, to_k_head, to_k_token,
    cos_batch, cos_token, sin_batch, sin_token, q_heads, k_heads, half,
    Q_HEADS: tl.constexpr, K_HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    place = tl.arange(0, HALF)
    here = place < half
    cos += row * cos_batch + token * cos_token + place
    sin += row * sin_batch + token * sin_token + place
    cos_first = tl.load(cos, mask=here, other=0.0).to(tl.float32)[None, :]
    cos_second = tl.load(cos + half, mask=here, other=0.0).to(tl.float32)[None, :]
    sin_first = tl.load(sin, mask=here, other=0.0).to(tl.float32)[None, :]
    sin_second = tl.load(sin + half, mask=here, other=0.0).to(tl.float32)[None, :]

    head = tl.arange(0, Q_HEADS)[:, None]
    inside = (head < q_heads) & here[None, :]
    source = q + row * q_batch + token * q_token + head * q_head + place[None, :]
    target = turned_q + row * to_q_batch + token * to_q_token + head * to_q_head + place[None, :]
    _turn(source, target, cos_first, cos_second, sin_first, sin_second, half, inside)

    head = tl.arange(0, K_HEADS)[:, None]
    inside = (head < k_heads) & here[None, :]
    source = k + row * k_batch + token * k_token + head * k_head + place[None, :]
    target = turned_k + row * to_k_batch + token * to_k_token + head * to_k_head + place[None, :]
    _turn(source, target, cos_first, cos_second, sin_first, sin_second, half, inside)


@triton.jit
def _turn(source, target, cos_first, cos_second, sin_first, sin_second, half, inside):  # type: ignore[no-untyped-def]
    first = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(source + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(target, first * cos_first - second * sin_first, mask=inside)
    tl.store(target + half, second * cos_second + first * sin_second, mask=inside)


def _inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """Laid out as attention has them: a projection seen as heads."""
    batch, q_heads, k_heads, length, head = dims
    q, k = (normal(generator, batch, length, n, head, dtype=dtype).transpose(1, 2) for n in (q_heads, k_heads))
    angles = torch.arange(length, device=generator.device)[:, None] * frequencies(head, generator.device)
    return q, k, angles.cos()[None].to(dtype), angles.sin()[None].to(dtype)


def frequencies(head: int, device: torch.device) -> torch.Tensor:
    """Of each value of a head, as Llama has them."""
    return (1e4 ** -torch.linspace(0, 1, head // 2, device=device)).repeat(2)


def _load_liger() -> Forward:
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    return liger_rotary_pos_emb  # type: ignore[no-any-return]


KERNEL = Kernel(
    device_names=("^_rope_kernel", "^_?triton_rope"),
    cases=(
        Case(
            name="rope",
            inputs=_inputs,
            reference=rope_reference,
            ours=rope,
            exact=in_float64(rope_reference),
            load_liger=_load_liger,
            shapes=(
                Shape("T3 decode", (2, 16, 16, 1, 64)),
                Shape("T3 prefill", (2, 16, 16, 300, 64)),
                Shape("T3 prefill", (2, 16, 16, 2048, 64)),
                Shape("Spark", (1, 14, 2, 512, 64)),
                Shape("Spark", (1, 14, 2, 2500, 64)),
                Shape("beyond L2", (2, 16, 16, 32768, 64)),
            ),
            small=(Shape("small", (2, 3, 1, 5, 6)),),
        ),
    ),
)
