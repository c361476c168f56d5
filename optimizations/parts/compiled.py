"""torch.compile on one callable, and what came of it; the same for T3, S3Gen's estimator and the vocoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._dynamo import maybe_mark_dynamic
from torch._dynamo.utils import counters

# These modes capture CUDA graphs of their own; within a captured graph Inductor must not.
CAPTURES = ("reduce-overhead", "max-autotune")
WITHIN_A_GRAPH = {"max-autotune": "max-autotune-no-cudagraphs"}


class Compiled:
    """Knows how often it was called and which calls had to wait for the compiler: this costs two look-ups per call."""

    def __init__(self, call: Callable[..., Any], mode: str, **options: Any) -> None:
        self.wrapped = call
        self.mode = mode
        self._call = torch.compile(call, mode=mode, **options)
        self._captures = mode in CAPTURES
        self.calls = 0
        self.graphs_per_compiling_call: list[int] = []
        self.compile_seconds: list[float] = []
        self._breaks = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self._captures:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        graphs, breaks, began = _graphs(), _breaks(), time.perf_counter()
        result = self._call(*args, **kwargs)
        if new := _graphs() - graphs:
            self.graphs_per_compiling_call.append(new)
            self.compile_seconds.append(time.perf_counter() - began)
        self._breaks += _breaks() - breaks
        return result

    @property
    def graph_breaks(self) -> int:
        """A frame given up whole leaves its callees compiled one by one, and no break is counted."""
        return max(self._breaks, sum(new - 1 for new in self.graphs_per_compiling_call))


class CompiledForAnyLength(Compiled):
    """Whatever has three dimensions or more has its frames in the last, and their number is left open."""

    def __call__(self, *arguments: Any) -> Any:
        for argument in arguments:
            if isinstance(argument, torch.Tensor) and argument.dim() >= 3:
                maybe_mark_dynamic(argument, argument.dim() - 1)
        return super().__call__(*arguments)


def stays_in_place(memory: list[torch.Tensor]) -> None:
    """Inductor captures nothing that writes into its inputs, unless it is told that they stay where they are."""
    for tensor in memory:
        torch._dynamo.mark_static_address(tensor)


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _breaks() -> int:
    return sum(counters["graph_break"].values())


def evidence(parts: Sequence[Compiled]) -> dict[str, Any]:
    """For the record. Parts of the same code share what is compiled, so that only some of them had to wait."""
    return {
        "mode": parts[0].mode,
        "parts": len(parts),
        "calls": sum(part.calls for part in parts),
        "graphs": sum(sum(part.graphs_per_compiling_call) for part in parts),
        "recompilations": sum(max(len(part.graphs_per_compiling_call) - 1, 0) for part in parts),
        "graph_breaks": sum(part.graph_breaks for part in parts),
        "compile_seconds": [round(seconds, 3) for part in parts for seconds in part.compile_seconds],
    }


def hindrance(parts: Sequence[Compiled]) -> str:
    """Why nothing can have come of it; empty where something has."""
    if not parts:
        return "nothing was put in the place of eager calls"
    if never := sum(not part.calls for part in parts):
        return f"{never} of {len(parts)} compiled parts were never called"
    if not any(part.graphs_per_compiling_call for part in parts):
        return "nothing was compiled"
    return ""
