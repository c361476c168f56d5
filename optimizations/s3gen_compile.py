"""Slot `s3gen_compile`: torch.compile on S3Gen's estimator.

Upstream calls the estimator's `forward`, never the module itself, so that `estimator.compile()` would compile something
that nobody calls. Compiled here is the work behind `forward`, with the number of frames left open, so that a new length
needs no new code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._dynamo import maybe_mark_dynamic

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.compiled import CAPTURES, WITHIN_A_GRAPH, Compiled, evidence, hindrance
from ttsbench.optimizations.parts.s3gen import installed

SLOT = "s3gen_compile"


class OfAnyLength(Compiled):
    """Whatever has three dimensions or more has its frames in the last, and their number is left open."""

    def __call__(self, *arguments: Any) -> Any:
        """The compiled one."""
        for argument in arguments:
            if isinstance(argument, torch.Tensor) and argument.dim() >= 3:
                maybe_mark_dynamic(argument, argument.dim() - 1)
        return super().__call__(*arguments)


def apply(pipeline: Pipeline, option: str) -> None:
    """Compiles lazily: the first call pays."""
    if option == "off":
        return
    estimator, _ = installed(pipeline)["s3gen_attention"]
    mode = WITHIN_A_GRAPH.get(option, option) if "s3gen_graph" in installed(pipeline) else option
    estimator.run = installed(pipeline)[SLOT] = OfAnyLength(estimator.work, mode)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """What was compiled, and how often it was called; no call, or nothing compiled, is an error."""
    compiled = installed(pipeline).get(SLOT)
    problem = hindrance([] if compiled is None else [compiled])
    if bool(problem) != (option == "off"):
        raise CellError(f"{SLOT}: {option} was asked for, and {problem or 'something was compiled'}")
    if compiled is None:
        return {"parts": 0}
    captures = option in CAPTURES and "s3gen_graph" not in installed(pipeline) and pipeline.device.type == "cuda"
    if captures and not pipeline.warm_call.s3gen.per(1)["graph_launches"]:
        raise CellError(f"{SLOT}: {option} was asked for, and Inductor captured no graph")
    return evidence([compiled])
