"""Slot `compile`: torch.compile on T3.

Over a static cache one whole step of the backbone is compiled, and nothing in it may break the graph. The growing cache
has other shapes at every step, and its hooks cannot be traced; there only what does not touch it is compiled: each
layer's MLP and norms.
"""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.cache import StaticBackbone, WritingBackbone
from ttsbench.optimizations.parts.compiled import CAPTURES, WITHIN_A_GRAPH, Compiled, evidence, hindrance


def apply(pipeline: Pipeline, option: str) -> None:
    """Compiles lazily: the first call pays."""
    if option == "off":
        return
    backbone = getattr(pipeline.loop, "backbone", None)
    if isinstance(backbone, WritingBackbone):
        mode = WITHIN_A_GRAPH.get(option, option) if pipeline.slots.get("decode") == "cuda_graph" else option
        # Of a batch the number of rows is left open, so that a new one needs no new code.
        step = Compiled(backbone.forward_one, mode, fullgraph=True, dynamic=not isinstance(backbone, StaticBackbone))
        backbone.forward_one = step
        if mode in CAPTURES:
            backbone.on_new_memory = stays_in_place
        pipeline.compiled.append(step)
        return
    for module in _apart_from_the_cache(pipeline.tts.t3.tfmr):
        module.forward = Compiled(module.forward, option)
        pipeline.compiled.append(module.forward)


def stays_in_place(memory: list[torch.Tensor]) -> None:
    """Inductor captures nothing that writes into its inputs, unless it is told that they stay where they are."""
    for tensor in memory:
        torch._dynamo.mark_static_address(tensor)


def _apart_from_the_cache(tfmr: Any) -> list[Any]:
    if hasattr(tfmr, "layers"):
        parts = [(layer.mlp, layer.input_layernorm, layer.post_attention_layernorm) for layer in tfmr.layers]
        return [*(module for modules in parts for module in modules), tfmr.norm]
    parts = [(block.mlp, block.ln_1, block.ln_2) for block in tfmr.h]
    return [*(module for modules in parts for module in modules), tfmr.ln_f]


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """What was compiled, what it cost, how often it was called, and where it broke."""
    if option == "off":
        return {"parts": 0}
    problem = hindrance(pipeline.compiled)
    if not problem and option in CAPTURES and pipeline.slots.get("decode") != "cuda_graph":
        launched = pipeline.warm_call.decode.per(pipeline.warm_call.steps)["graph_launches"]
        problem = "" if launched else "Inductor captured no graph of the step"
    if problem:
        raise CellError(f"compile: {option} was asked for, and {problem}")
    return evidence(pipeline.compiled)
