"""Slot `mlp`: what Llama's MLP computes between its projections, and with them.

`liger` and `triton` join silu and the product in one kernel; `triton_fused` does both projections of a step in that
kernel too, so that what lies between them is never written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.modules import attest_replaced, replace_forward


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each layer's MLP another forward."""
    if option != "eager":
        layers = pipeline.tts.t3.tfmr.layers
        replace_forward("mlp", (layer.mlp for layer in layers), COMPUTING[option])


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many MLPs were replaced and called, and which kernels a step ran."""
    kernels = [name for name in pipeline.warm_call.decode.names if "silu" in name.lower() or "gate_up" in name.lower()]
    return attest_replaced(pipeline, "mlp", option) | {"kernels": sorted(kernels)}


def _liger(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return lambda x: mlp.down_proj(LigerSiLUMulFunction.apply(mlp.gate_proj(x), mlp.up_proj(x)))


def _triton(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.silu_mul import silu_mul

    return lambda x: mlp.down_proj(silu_mul(mlp.gate_proj(x), mlp.up_proj(x)))


def _triton_fused(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.gate_up import gate_up

    return lambda x: mlp.down_proj(gate_up(x, mlp.gate_proj.weight, mlp.up_proj.weight))


COMPUTING = {"liger": _liger, "triton": _triton, "triton_fused": _triton_fused}
