"""Slot `norm`: Llama's RMSNorm in one kernel instead of six operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.modules import attest_replaced, replace_forward


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each norm of the backbone another forward."""
    if option != "eager":
        replace_forward("norm", _norms(pipeline.tts.t3.tfmr), COMPUTING[option])


def _norms(tfmr: Any) -> Iterator[torch.nn.Module]:
    for layer in tfmr.layers:
        yield from (layer.input_layernorm, layer.post_attention_layernorm)
    yield tfmr.norm


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many norms were replaced and called."""
    return attest_replaced(pipeline, "norm", option)


def _liger(norm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    # No offset, Llama's rounding, and not in place: the residual still needs its input.
    return lambda x: LigerRMSNormFunction.apply(x, norm.weight, norm.variance_epsilon, 0.0, "llama", False)


def _triton(norm: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.rms_norm import rms_norm

    return lambda x: rms_norm(x, norm.weight, norm.variance_epsilon)


COMPUTING = {"liger": _liger, "triton": _triton}
