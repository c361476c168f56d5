"""What a kernel's file declares as `KERNEL`: the cases that compare it, and the names by which a profile knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Of ‖out − reference‖ over ‖reference‖. Opponents may round after each operation, not only at the end.
TOLERANCES = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1.6e-2}

Tensors = tuple[torch.Tensor, ...]
Forward = Callable[..., Any]


@dataclass(frozen=True)
class Shape:
    label: str
    dims: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.label} {'×'.join(map(str, self.dims))}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One comparison of `ttsbench kernels`: functions of the same inputs with the same outputs.

    `small` shapes are for the interpreter: odd, and over within a second. `exact` computes in float64.
    """

    name: str
    inputs: Callable[[tuple[int, ...], torch.dtype, torch.Generator], Tensors]
    reference: Forward
    ours: Forward
    exact: Forward
    shapes: tuple[Shape, ...]
    small: tuple[Shape, ...]
    # Loads Liger's kernel, which only a comparison imports.
    load_liger: Callable[[], Forward] | None = None
    flops: Callable[[tuple[int, ...]], int] = lambda dims: 0
    gradient: bool = False
    tolerances: Mapping[str, float] = field(default_factory=lambda: TOLERANCES)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    # Regular expressions, searched in the name that a profiler shows (so `layer_norm` finds PyTorch's own as well, and
    # `^_layer_norm` does not). Ours and, where an option runs them, another package's.
    device_names: tuple[str, ...]
    cases: tuple[Case, ...]
    # A product of matrices, or attention: what no fusion with a neighbour saves.
    is_product: bool = False


def normal(generator: torch.Generator, *shape: int, dtype: torch.dtype, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).mul_(scale).to(dtype)


def in_float64(reference: Forward) -> Forward:
    return lambda *inputs: reference(*(tensor.double() for tensor in inputs))
