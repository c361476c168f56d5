"""Slot `linear`: the products of a step with T3's weights, where each weight is read for one or two rows.

The product that `qkv: fused` makes of three is one of them; those that `mlp: triton_fused` has in its kernel are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ttsbench.optimizations.dtype import AMP
from ttsbench.optimizations.options import (
    WITH_STEPS,
    Evidence,
    Option,
    Slot,
    excludes,
    has_no_part_in,
    layer_kernel,
    needs,
)
from ttsbench.optimizations.quantize import UNQUANTIZED

if TYPE_CHECKING:
    import torch

    from ttsbench.optimizations.parts.llama_attention import OneProduct
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.kernels.few_rows import few_rows
    from ttsbench.optimizations.parts.modules import Counted, replace_forward

    replace_forward(
        target, "linear", _products(target), lambda linear: lambda x: few_rows(x, linear.weight, linear.bias)
    )
    for one_product in _side_by_side(target):
        one_product.multiply = Counted(few_rows)


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.modules import Counted, attest_replaced

    multiply = (one_product.multiply for one_product in _side_by_side(target))
    others = [counted for counted in multiply if isinstance(counted, Counted)]
    kernels = [name for name in target.warm_call.decode.names if "few_rows" in name and "gate_up" not in name]
    return attest_replaced(target, "linear", option, others) | {"kernels": sorted(kernels)}


def _products(target: Target) -> Iterator[torch.nn.Linear]:
    import torch

    slots, t3 = target.slots, target.tts.t3
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


def _side_by_side(target: Target) -> list[OneProduct]:
    from ttsbench.optimizations.parts.llama_attention import OneProduct, in_place

    if target.slots["qkv"] == "separate":
        return []
    projects = (getattr(attention.project, "call", None) for attention in in_place(target))
    return [project for project in projects if isinstance(project, OneProduct)]


SLOT = Slot(
    "linear",
    "the products of a step with T3's weights",
    (
        Option("eager", "as PyTorch does, by cuBLAS"),
        layer_kernel(
            "triton",
            "our kernel for few rows",
            rules=(
                has_no_part_in("decode", "persistent", because="it makes the products of a step itself"),
                UNQUANTIZED,
                excludes("dtype", *AMP, because="it multiplies in the weights' own precision; use linear: eager"),
                needs(
                    "cache",
                    "static",
                    because="over a growing one only parts of a step are compiled",
                    where={"compile": ("default", "reduce-overhead", "max-autotune")},
                ),
            ),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=WITH_STEPS,
)
