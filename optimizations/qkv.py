"""Slot `qkv`: query, key and value of a Llama layer by three products, or by one over all their weights.

The weights are laid side by side once, and the layer's own parameters become views of that: no memory is added, and
whatever else reads them reads the same numbers.
"""

from __future__ import annotations

from ttsbench.model.families import Family
from ttsbench.optimizations.options import ANY_FORWARD, Evidence, Option, Slot
from ttsbench.optimizations.quantize import UNQUANTIZED
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.llama_attention import OneProduct, in_place
    from ttsbench.optimizations.parts.modules import Counted

    for attention in in_place(target):
        attention.project = Counted(OneProduct(target.undo, attention.attention))


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.llama_attention import attest_part

    return attest_part(target, "qkv", option, "project")


SLOT = Slot(
    "qkv",
    "query, key and value of a Llama layer",
    (
        Option("separate", "three products, as transformers writes it"),
        Option(
            "fused",
            "one product over all their weights",
            fits=Family.llama_layers,
            rules=(UNQUANTIZED,),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
