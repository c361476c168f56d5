"""Slot `s3gen_compile`: torch.compile on S3Gen's estimator.

Upstream calls the estimator's `forward`, never the module itself, so that `estimator.compile()` would compile something
that nobody calls. Compiled here is the work behind `forward`, with the number of frames left open, so that a new length
needs no new code. Compilations are counted call by call: PyTorch's own counters are the process's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo import maybe_mark_dynamic
from torch._dynamo.utils import counters

from ttsbench.errors import CellError
from ttsbench.optimizations.parts.s3gen import installed
from ttsbench.pipeline import Pipeline

SLOT = "s3gen_compile"
# Within a captured graph, Inductor must not capture graphs of its own.
WITHIN_A_GRAPH = {"max-autotune": "max-autotune-no-cudagraphs"}


def apply(pipeline: Pipeline, option: str) -> None:
    """Compiles lazily: the first call pays."""
    if option == "off":
        return
    estimator, _ = installed(pipeline)["s3gen_attention"]
    mode = WITHIN_A_GRAPH.get(option, option) if "s3gen_graph" in installed(pipeline) else option
    estimator.run = installed(pipeline)[SLOT] = CountedCompile(estimator.work, mode)


class CountedCompile:
    """A compiled callable that knows how often it was called, and which calls had to wait for the compiler."""

    def __init__(self, call: Callable[..., Any], mode: str, *, fullgraph: bool = False) -> None:
        self._call = torch.compile(call, mode=mode, fullgraph=fullgraph)
        self.mode = mode
        self.calls = 0
        self.graphs_per_compiling_call: list[int] = []
        self.compile_seconds: list[float] = []
        self._breaks = 0

    def __call__(self, *arguments: Any) -> Any:
        """The call. Whatever has three dimensions or more has its frames in the last."""
        for argument in arguments:
            if isinstance(argument, torch.Tensor) and argument.dim() >= 3:
                maybe_mark_dynamic(argument, argument.dim() - 1)
        self.calls += 1
        graphs, breaks, began = _graphs(), _breaks(), time.perf_counter()
        result = self._call(*arguments)
        if new := _graphs() - graphs:
            self.graphs_per_compiling_call.append(new)
            self.compile_seconds.append(time.perf_counter() - began)
        self._breaks += _breaks() - breaks
        return result

    def evidence(self) -> dict[str, Any]:
        """For the record."""
        return {
            "mode": self.mode,
            "calls": self.calls,
            "graphs": sum(self.graphs_per_compiling_call),
            "recompilations": len(self.graphs_per_compiling_call) - 1,
            # A frame given up whole leaves its callees compiled one by one, and no break is counted.
            "graph_breaks": max(self._breaks, sum(new - 1 for new in self.graphs_per_compiling_call)),
            "compile_seconds": [round(seconds, 3) for seconds in self.compile_seconds],
        }


def _graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def _breaks() -> int:
    return sum(counters["graph_break"].values())


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Calls of what was compiled, and what the compiler did; no call, or nothing compiled, is an error."""
    compiled = installed(pipeline).get(SLOT)
    ran = compiled is not None and compiled.calls and compiled.graphs_per_compiling_call
    if bool(ran) != (option != "off"):
        done = "it was never called" if compiled is None or not compiled.calls else "nothing was compiled"
        raise CellError(f"{SLOT}: {option} was asked for, and {done}")
    return {"calls": 0} if compiled is None else compiled.evidence()
