"""Slot `linear`: the products of a step with T3's weights, where each weight is read for one or two rows.

The product that `qkv: fused` makes of three is one of them; those that `mlp: triton_fused` has in its kernel are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.llama_attention import in_place
from ttsbench.optimizations.parts.modules import Counted, attest_replaced, replace_forward
from ttsbench.optimizations.qkv import OneProduct


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each linear layer of the backbone, and the head, another forward."""
    if option == "triton":
        from ttsbench.optimizations.kernels.few_rows import few_rows

        replace_forward("linear", _products(pipeline), lambda linear: lambda x: few_rows(x, linear.weight, linear.bias))
        for one_product in _side_by_side(pipeline):
            one_product.multiply = Counted(few_rows)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many layers were replaced and called, and whether a step ran the kernel."""
    multiply = (one_product.multiply for one_product in _side_by_side(pipeline))
    replaced = attest_replaced(pipeline, "linear", option, [count for count in multiply if isinstance(count, Counted)])
    kernels = [name for name in pipeline.warm_call.decode.names if "few_rows" in name and "gate_up" not in name]
    return replaced | {"kernels": sorted(kernels)}


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


def _side_by_side(pipeline: Pipeline) -> list[OneProduct]:
    if pipeline.slots["qkv"] == "separate":
        return []
    projects = (getattr(attending.project, "call", None) for attending in in_place(pipeline.tts.t3.tfmr))
    return [project for project in projects if isinstance(project, OneProduct)]
