"""Slot `s3gen_compile`: torch.compile on S3Gen's estimator.

Upstream calls the estimator's `forward`, never the module itself, so that `estimator.compile()` would compile something
that nobody calls. Compiled here is the work behind `forward`, with the number of frames left open, so that a new length
needs no new code.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot, inductor, needs
from ttsbench.optimizations.s3gen_attention import OUR_PASSES
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Compiles lazily: the first call pays."""
    from ttsbench.optimizations.parts.compiled import WITHIN_A_GRAPH, CompiledForAnyLength

    parts, undo = target.s3gen_parts, target.undo
    assert parts.estimator is not None
    mode = option if parts.graphed_solve is None else WITHIN_A_GRAPH.get(option, option)
    compiled = CompiledForAnyLength(parts.estimator.work, mode)
    undo.replace(parts.estimator, "run", compiled)
    undo.replace(parts, "compiled_estimator", compiled)


def attest(target: Target, option: str) -> Evidence:
    """By what was compiled, and how often it was called; no call, or nothing compiled, is an error."""
    from ttsbench.optimizations.parts.compiled import CAPTURES, evidence, hindrance

    parts = target.s3gen_parts
    compiled = [] if parts.compiled_estimator is None else [parts.compiled_estimator]
    problem = hindrance(compiled)
    if bool(problem) != (option == "off"):
        raise CellError(f"s3gen_compile: {option} was asked for, and {problem or 'something was compiled'}")
    if not compiled:
        return {"parts": 0}
    captures = option in CAPTURES and parts.graphed_solve is None and target.device.type == "cuda"
    if captures and not target.warm_call.s3gen.per(1)["graph_launches"]:
        raise CellError(f"s3gen_compile: {option} was asked for, and Inductor captured no graph")
    return evidence(compiled)


SLOT = Slot(
    "s3gen_compile",
    "torch.compile on S3Gen's flow estimator",
    (
        Option("off", "as the package does"),
        inductor("default", "Inductor", rules=(OUR_PASSES,)),
        inductor(
            "reduce-overhead",
            "Inductor, in CUDA graphs of its own",
            needs_cuda=True,
            rules=(
                OUR_PASSES,
                needs(
                    "s3gen_graph", "off", because="it captures graphs of its own; use default or max-autotune with it"
                ),
            ),
        ),
        inductor(
            "max-autotune",
            "Inductor, kernels chosen by timing, in CUDA graphs of its own",
            needs_cuda=True,
            rules=(OUR_PASSES,),
        ),
    ),
    apply=apply,
    attest=attest,
)
