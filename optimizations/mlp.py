"""Slot `mlp`: what Llama's MLP computes between its projections, and with them.

`liger` and `triton` join silu and the product in one kernel; `triton_fused` does both projections of a step in that
kernel too, so that what lies between them is never written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ttsbench.optimizations.options import ANY_FORWARD, Evidence, Option, Slot, layer_kernel
from ttsbench.optimizations.quantize import UNQUANTIZED
from ttsbench.optimizations.target import Target

if TYPE_CHECKING:
    import torch


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.modules import replace_forward

    replace_forward(target, "mlp", (layer.mlp for layer in target.tts.t3.tfmr.layers), FORWARDS[option])


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.modules import attest_replaced

    kernels = [name for name in target.warm_call.decode.names if "silu" in name.lower() or "gate_up" in name.lower()]
    return attest_replaced(target, "mlp", option) | {"kernels": sorted(kernels)}


def _liger(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    return lambda x: mlp.down_proj(LigerSiLUMulFunction.apply(mlp.gate_proj(x), mlp.up_proj(x)))


def _triton(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.silu_mul import silu_mul

    return lambda x: mlp.down_proj(silu_mul(mlp.gate_proj(x), mlp.up_proj(x)))


def _triton_fused(mlp: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.gate_up import gate_up

    return lambda x: mlp.down_proj(gate_up(x, mlp.gate_proj.weight, mlp.up_proj.weight))


FORWARDS = {"liger": _liger, "triton": _triton, "triton_fused": _triton_fused}
SLOT = Slot(
    "mlp",
    "Llama's silu(gate)·up",
    (
        Option("eager", "as transformers writes it"),
        layer_kernel("liger", "Liger's kernel for silu and product"),
        layer_kernel("triton", "our kernel for silu and product"),
        layer_kernel(
            "triton_fused",
            "our kernel with both projections in it",
            rules=(UNQUANTIZED,),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
