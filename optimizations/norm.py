"""Slot `norm`: Llama's RMSNorm in one kernel instead of six operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ttsbench.optimizations.options import ANY_FORWARD, Evidence, Option, Slot, layer_kernel
from ttsbench.optimizations.target import Target

if TYPE_CHECKING:
    import torch


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.modules import replace_forward

    replace_forward(target, "norm", _norms(target.tts.t3.tfmr), FORWARDS[option])


def _norms(tfmr: Any) -> Iterator[torch.nn.Module]:
    for layer in tfmr.layers:
        yield from (layer.input_layernorm, layer.post_attention_layernorm)
    yield tfmr.norm


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.modules import attest_replaced

    return attest_replaced(target, "norm", option)


def _liger(norm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    # No offset, Llama's rounding, and not in place: the residual still needs its input.
    return lambda x: LigerRMSNormFunction.apply(x, norm.weight, norm.variance_epsilon, 0.0, "llama", False)


def _triton(norm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.rms_norm import rms_norm

    return lambda x: rms_norm(x, norm.weight, norm.variance_epsilon)


FORWARDS = {"liger": _liger, "triton": _triton}
SLOT = Slot(
    "norm",
    "Llama's RMSNorm",
    (
        Option("eager", "as transformers writes it"),
        layer_kernel("liger", "Liger's kernel"),
        layer_kernel("triton", "our kernel"),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
