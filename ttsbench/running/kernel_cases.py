"""Which kernels are compared, on which shapes, with whom: contenders of the same inputs and the same outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction
from liger_kernel.ops.rms_norm import LigerRMSNormFunction
from liger_kernel.ops.swiglu import LigerSiLUMulFunction
from liger_kernel.transformers.rope import liger_rotary_pos_emb
from torch.nn import functional

from ttsbench.optimizations.kernels import few_rows, gate_up, rms_norm, rope, sampler, silu_mul, step_attention
from ttsbench.records.kernels import EAGER, OURS

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Of ‖out − reference‖ over ‖reference‖. Contenders may round after each operation, not only at the end.
TOLERANCES = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1.6e-2}
EPS = 1e-6

Tensors = tuple[torch.Tensor, ...]
Forward = Callable[..., Any]


@dataclass(frozen=True)
class Shape:
    """What it stands for in a model, and its dimensions."""

    label: str
    dims: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.label} {'×'.join(map(str, self.dims))}"


@dataclass(frozen=True)
class Case:
    """One kernel. `small` shapes are for the interpreter: odd, and over within a second."""

    name: str
    inputs: Callable[[tuple[int, ...], torch.dtype, torch.Generator], Tensors]
    contenders: Mapping[str, Forward]
    shapes: tuple[Shape, ...]
    small: tuple[Shape, ...]
    exact: Forward
    flops: Callable[[tuple[int, ...]], int] = field(default=lambda dims: 0)
    gradient: bool = False
    tolerances: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    """Fresh noise on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device).mul_(scale).to(dtype)


def two_alike(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For silu·mul."""
    return normal(generator, *dims, dtype=dtype), normal(generator, *dims, dtype=dtype)


def rows_and_weight(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For RMSNorm."""
    return normal(generator, *dims, dtype=dtype), normal(generator, dims[-1], dtype=dtype)


def two_alike_and_weight(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For RMSNorm of a sum."""
    return (*two_alike(dims, dtype, generator), normal(generator, dims[-1], dtype=dtype))


def rows_and_projections(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For gate and up: rows, what goes in, what comes out."""
    rows, depth, width = dims
    weights = (normal(generator, width, depth, dtype=dtype, scale=depth**-0.5) for _ in range(2))
    return (normal(generator, rows, depth, dtype=dtype), *weights)


def rows_and_a_layer(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For a linear layer: rows, its weight and its bias."""
    rows, depth, width = dims
    weight = normal(generator, width, depth, dtype=dtype, scale=depth**-0.5)
    return normal(generator, rows, depth, dtype=dtype), weight, normal(generator, width, dtype=dtype)


def heads_and_angles(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For rotary embedding, laid out as attention has it: a projection seen as heads."""
    batch, q_heads, k_heads, length, head = dims
    q, k = (normal(generator, batch, length, n, head, dtype=dtype).transpose(1, 2) for n in (q_heads, k_heads))
    frequencies = 1e4 ** -torch.linspace(0, 1, head // 2, device=generator.device)
    angles = torch.arange(length, device=generator.device)[:, None] * frequencies.repeat(2)
    return q, k, angles.cos()[None].to(dtype), angles.sin()[None].to(dtype)


def step_over_a_cache(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
    """For a step of attention: a projection seen as heads, a cache filled up to a position, and its angles."""
    rows, heads, groups, now, width = dims
    projected = normal(generator, rows, heads + 2 * groups, 1, width, dtype=dtype)
    keys, values = (normal(generator, rows, groups, now + 1, width, dtype=dtype) for _ in range(2))
    frequencies = 1e4 ** -torch.linspace(0, 1, width // 2, device=generator.device)
    angles = (now * frequencies.repeat(2))[None, None]
    position = torch.tensor([now], device=generator.device)
    parts = torch.split(projected, [heads, groups, groups], dim=1)
    return (*parts, keys, values, position, angles.cos().to(dtype), angles.sin().to(dtype))


def stepping(step: Forward) -> Forward:
    """The angles as a pair, and a head's own scale."""

    def attend(*inputs: torch.Tensor) -> Any:
        *tensors, cos, sin = inputs
        return step(*tensors, (cos, sin), inputs[0].shape[-1] ** -0.5)

    return attend


def widened_step(*inputs: torch.Tensor) -> Any:
    """The reference in float64; a position is no number to widen."""
    return stepping(step_attention.step_attention_reference)(
        *(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    )


def logits_and_noise(values: list[float]) -> Callable[[tuple[int, ...], torch.dtype, torch.Generator], Tensors]:
    """For a sampler with these settings; the token to be written is poisoned with one that does not exist."""

    def make(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
        device = generator.device
        logits = normal(generator, *dims, dtype=dtype, scale=3.0)
        seen = torch.rand(dims, generator=generator, device=device) < 0.02
        race = torch.empty(dims, device=device).exponential_(generator=generator)
        token = torch.full(dims[:1], -1, dtype=torch.int64, device=device)
        return logits, seen, torch.tensor(values, device=device), race, token

    return make


def sampler_case(name: str, values: dict[str, float], shapes: tuple[Shape, ...]) -> Case:
    """Upstream's settings, read by the kernel from the device and known to its twins when they are launched."""
    order = name.removeprefix("sampler_")
    known = sampler.settings("cpu", **values).tolist()  # type: ignore[arg-type]

    def reference(
        logits: torch.Tensor, seen: torch.Tensor, _: torch.Tensor, race: torch.Tensor, __: torch.Tensor
    ) -> torch.Tensor:
        return sampler.sample_reference(logits, seen, known, race, order=order)

    return Case(
        name=name,
        inputs=logits_and_noise(known),
        contenders={EAGER: reference, OURS: lambda *inputs: sampler.sample(*inputs, order=order)},
        shapes=shapes,
        small=(Shape("small", (3, 131)),),
        exact=reference,
        tolerances=dict.fromkeys(DTYPES, 0.0),  # the very same tokens
    )


def widened(reference: Forward) -> Forward:
    """The reference in float64."""
    return lambda *inputs: reference(*(tensor.double() for tensor in inputs))


def exact_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMSNorm without Llama's detour through fp32."""
    x, weight = x.double(), weight.double()
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def exact_add_norm(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor) -> Tensors:
    """Of the sum as it is rounded to its dtype, which is what is normed."""
    total = x + residual
    return exact_norm(total, weight), total.double()


SILU_MUL = Case(
    name="silu_mul",
    inputs=two_alike,
    contenders={
        EAGER: silu_mul.silu_mul_reference,
        "liger": LigerSiLUMulFunction.apply,
        OURS: silu_mul.silu_mul,
    },
    shapes=(
        Shape("T3 decode", (2, 4096)),
        Shape("T3 prefill", (600, 4096)),
        Shape("T3 prefill", (4096, 4096)),
        Shape("Spark", (512, 4864)),
        Shape("Spark", (2048, 4864)),
        Shape("beyond L2", (16384, 4096)),
    ),
    small=(Shape("small", (3, 257)),),
    exact=widened(silu_mul.silu_mul_reference),
)

GATE_UP = Case(
    name="gate_up",
    inputs=rows_and_projections,
    contenders={
        EAGER: gate_up.gate_up_reference,
        "liger": lambda x, g, u: LigerSiLUMulFunction.apply(functional.linear(x, g), functional.linear(x, u)),
        OURS: gate_up.gate_up,
    },
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
    exact=widened(gate_up.gate_up_reference),
    flops=lambda dims: 4 * dims[0] * dims[1] * dims[2],
)

FEW_ROWS = Case(
    name="few_rows",
    inputs=rows_and_a_layer,
    contenders={EAGER: few_rows.few_rows_reference, OURS: few_rows.few_rows},
    shapes=(
        Shape("T3 query", (2, 1024, 1024)),
        Shape("T3 down", (2, 4096, 1024)),
        Shape("T3 head", (2, 1024, 8194)),
        Shape("T3 query", (1, 1024, 1024)),
        Shape("Spark down", (1, 4864, 896)),
        Shape("beyond L2", (2, 4096, 32768)),
    ),
    small=(Shape("small", (2, 70, 33)), Shape("small", (5, 130, 7))),
    exact=widened(few_rows.few_rows_reference),
    flops=lambda dims: 2 * dims[0] * dims[1] * dims[2],
)

RMS_NORM = Case(
    name="rms_norm",
    inputs=rows_and_weight,
    contenders={
        EAGER: rms_norm.rms_norm_reference,
        "liger": lambda x, weight: LigerRMSNormFunction.apply(x, weight, EPS, 0.0, "llama", False),
        OURS: rms_norm.rms_norm,
    },
    shapes=(
        Shape("T3 decode", (2, 1024)),
        Shape("T3 prefill", (600, 1024)),
        Shape("T3 prefill", (4096, 1024)),
        Shape("Spark", (512, 896)),
        Shape("Spark", (4096, 896)),
        Shape("beyond L2", (65536, 1024)),
    ),
    small=(Shape("small", (3, 257)),),
    exact=exact_norm,
)

ADD_RMS_NORM = Case(
    name="add_rms_norm",
    inputs=two_alike_and_weight,
    contenders={
        EAGER: rms_norm.add_rms_norm_reference,
        "liger": lambda x, residual, weight: LigerFusedAddRMSNormFunction.apply(x, residual, weight, EPS),
        OURS: rms_norm.add_rms_norm,
    },
    shapes=RMS_NORM.shapes,
    small=RMS_NORM.small,
    exact=exact_add_norm,
)

ROPE = Case(
    name="rope",
    inputs=heads_and_angles,
    contenders={EAGER: rope.rope_reference, "liger": liger_rotary_pos_emb, OURS: rope.rope},
    shapes=(
        Shape("T3 decode", (2, 16, 16, 1, 64)),
        Shape("T3 prefill", (2, 16, 16, 300, 64)),
        Shape("T3 prefill", (2, 16, 16, 2048, 64)),
        Shape("Spark", (1, 14, 2, 512, 64)),
        Shape("Spark", (1, 14, 2, 2500, 64)),
        Shape("beyond L2", (2, 16, 16, 32768, 64)),
    ),
    small=(Shape("small", (2, 3, 1, 5, 6)),),
    exact=widened(rope.rope_reference),
)

STEP_ATTENTION = Case(
    name="step_attention",
    inputs=step_over_a_cache,
    contenders={
        EAGER: stepping(step_attention.step_attention_reference),
        OURS: stepping(step_attention.step_attention),
    },
    shapes=(
        Shape("T3 decode", (2, 16, 16, 100, 64)),
        Shape("T3 decode", (2, 16, 16, 400, 64)),
        Shape("T3 decode", (2, 16, 16, 1000, 64)),
        Shape("Turbo decode", (1, 16, 16, 400, 64)),
        Shape("Spark decode", (1, 14, 2, 2500, 64)),
    ),
    small=(Shape("small", (2, 4, 2, 13, 6)),),
    exact=widened_step,
)

CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        SILU_MUL,
        replace(SILU_MUL, name="silu_mul_grad", gradient=True),
        GATE_UP,
        FEW_ROWS,
        RMS_NORM,
        replace(RMS_NORM, name="rms_norm_grad", gradient=True),
        ADD_RMS_NORM,
        ROPE,
        STEP_ATTENTION,
        sampler_case(
            "sampler_llama",
            {"temperature": 0.8, "repetition_penalty": 1.2, "min_p": 0.05},
            (Shape("T3", (1, 8194)), Shape("T3 batch", (64, 8194))),
        ),
        sampler_case(
            "sampler_gpt2",
            {"temperature": 0.8, "repetition_penalty": 1.2, "top_k": 1000, "top_p": 0.95},
            (Shape("Turbo", (1, 6563)), Shape("Turbo batch", (64, 6563))),
        ),
    )
}
