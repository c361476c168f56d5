"""Slot `compile`: torch.compile on T3.

Over a static cache one whole step of the backbone is compiled, and nothing in it may break the graph. The growing cache
has other shapes at every step, and its hooks cannot be traced; there only what does not touch it is compiled: each
layer's MLP and norms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.compiler import compilations
from ttsbench.optimizations.cache import StaticBackbone
from ttsbench.pipeline import Pipeline

WITHIN_A_GRAPH = {"max-autotune": "max-autotune-no-cudagraphs"}


CAPTURES = ("reduce-overhead", "max-autotune")


class Compiled:
    """A compiled callable that counts its calls and the seconds of the first, which is when the compiler works."""

    def __init__(self, call: Callable[..., Any], mode: str, **options: Any) -> None:
        self.wrapped = call
        self._call = torch.compile(call, mode=mode, **options)
        self._captures = mode in CAPTURES
        self.calls = 0
        self.first_call_seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The compiled one."""
        self.calls += 1
        if self._captures:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if self.calls > 1:
            return self._call(*args, **kwargs)
        began = time.perf_counter()
        result = self._call(*args, **kwargs)
        self.first_call_seconds = time.perf_counter() - began
        return result


def apply(pipeline: Pipeline, option: str) -> None:
    """Compiles lazily: the first call pays."""
    if option == "off":
        return
    backbone = getattr(pipeline.loop, "backbone", None)
    if isinstance(backbone, StaticBackbone):
        captured = hasattr(pipeline.loop, "captures")
        mode = WITHIN_A_GRAPH.get(option, option) if captured else option
        step = Compiled(backbone.forward_one, mode, fullgraph=True, dynamic=False)
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
    """What was compiled, what its first call cost, and how often it was called."""
    if option == "off":
        return {"compiled": 0}
    compiled = pipeline.compiled
    never = sum(not part.calls for part in compiled)
    if not compiled or never:
        raise CellError(
            f"compile: {option} was asked for, and {never} of {len(compiled)} compiled parts were never called"
        )
    if not compilations().graphs:
        raise CellError(f"compile: {option} was asked for, and the compiler made nothing of it")
    if option in CAPTURES and not hasattr(pipeline.loop, "captures"):
        launched = pipeline.seen.decode.per(pipeline.seen.steps)["graph_launches"]
        if not launched:
            raise CellError(f"compile: {option} was asked for, and Inductor captured no graph of the step")
    return {
        "compiled": len(compiled),
        "calls": sum(part.calls for part in compiled),
        "first_call_seconds": round(sum(part.first_call_seconds for part in compiled), 3),
    }
