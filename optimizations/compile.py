"""Slot `compile`: torch.compile on T3.

Over a static cache one whole step of the backbone is compiled, and nothing in it may break the graph. The growing cache
has other shapes at every step, and its hooks cannot be traced; there only what does not touch it is compiled: each
layer's MLP and norms.
"""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.optimizations.options import (
    ANY_FORWARD,
    Evidence,
    Option,
    Slot,
    excludes,
    has_no_part_in,
    inductor,
    needs,
)
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Compiles lazily: the first call pays."""
    from ttsbench.optimizations.parts.backbones import StaticBackbone, WritingBackbone
    from ttsbench.optimizations.parts.compiled import CAPTURES, WITHIN_A_GRAPH, Compiled, stays_in_place

    undo, parts, backbone = target.undo, target.t3_parts, target.backbone
    if isinstance(backbone, WritingBackbone):
        mode = WITHIN_A_GRAPH.get(option, option) if target.slots.get("decode") == "cuda_graph" else option
        # Of a batch the number of rows is left open, so that a new one needs no new code.
        step = Compiled(backbone.forward_one, mode, fullgraph=True, dynamic=not isinstance(backbone, StaticBackbone))
        undo.replace(backbone, "forward_one", step)
        if mode in CAPTURES:
            undo.replace(backbone, "on_new_memory", stays_in_place)
        undo.replace(parts, "compiled", [*parts.compiled, step])
        return
    for module in _apart_from_the_cache(target.tts.t3.tfmr):
        compiled = Compiled(module.forward, option)
        undo.replace(module, "forward", compiled)
        undo.replace(parts, "compiled", [*parts.compiled, compiled])


def _apart_from_the_cache(tfmr: Any) -> list[Any]:
    if hasattr(tfmr, "layers"):
        parts = [(layer.mlp, layer.input_layernorm, layer.post_attention_layernorm) for layer in tfmr.layers]
        return [*(module for modules in parts for module in modules), tfmr.norm]
    parts = [(block.mlp, block.ln_1, block.ln_2) for block in tfmr.h]
    return [*(module for modules in parts for module in modules), tfmr.ln_f]


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.compiled import CAPTURES, evidence, hindrance

    if option == "off":
        return {"parts": 0}
    compiled = target.t3_parts.compiled
    problem = hindrance(compiled)
    if not problem and option in CAPTURES and target.slots.get("decode") != "cuda_graph":
        launched = target.warm_call.decode.per(target.warm_call.steps)["graph_launches"]
        problem = "" if launched else "Inductor captured no graph of the step"
    if problem:
        raise CellError(f"compile: {option} was asked for, and {problem}")
    return evidence(compiled)


ONE_KERNEL = has_no_part_in("decode", "persistent", because="it is compiled by itself")
STATIC = needs("cache", "static", because="a cache that grows has other shapes at every step")
SLOT = Slot(
    "compile",
    "torch.compile on T3",
    (
        Option("off", "as the package does"),
        inductor("default", "Inductor", rules=(ONE_KERNEL,)),
        inductor(
            "reduce-overhead",
            "Inductor, in CUDA graphs of its own",
            needs_cuda=True,
            rules=(
                ONE_KERNEL,
                STATIC,
                excludes("decode", "cuda_graph", because="it captures graphs of its own; use default or max-autotune"),
            ),
        ),
        inductor(
            "max-autotune",
            "Inductor, kernels chosen by timing, in CUDA graphs of its own",
            needs_cuda=True,
            rules=(ONE_KERNEL, STATIC),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
