"""Slot `linear`: the products of a step with T3's weights, where each weight is read for one or two rows.

Products that another slot has taken over, as `qkv: fused` and `mlp: triton_fused` do, stay theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ttsbench.optimizations.parts.modules import attest_replaced, replace_forward
from ttsbench.pipeline import Pipeline


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each linear layer of the backbone, and the head, another forward."""
    if option == "triton":
        replace_forward("linear", _products(pipeline), _triton)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many layers were replaced and called, and whether a step ran the kernel."""
    kernels = [name for name in pipeline.seen.decode.names if "few_rows" in name and "gate_up" not in name]
    return attest_replaced(pipeline, "linear", option) | {"kernels": sorted(kernels)}


def _products(pipeline: Pipeline) -> Iterator[torch.nn.Linear]:
    slots, t3 = pipeline.slots, pipeline.tts.t3
    for layer in t3.tfmr.layers:
        attention, mlp = layer.self_attn, layer.mlp
        if slots["qkv"] == "separate":
            yield from (attention.q_proj, attention.k_proj, attention.v_proj)
        yield attention.o_proj
        if slots["mlp"] != "triton_fused":
            yield from (mlp.gate_proj, mlp.up_proj)
        yield mlp.down_proj
    if isinstance(t3.speech_head, torch.nn.Linear):  # a backbone alone has none
        yield t3.speech_head


def _triton(linear: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    from ttsbench.optimizations.kernels.few_rows import few_rows

    return lambda x: few_rows(x, linear.weight, linear.bias)
