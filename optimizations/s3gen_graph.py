"""Slot `s3gen_graph`: S3Gen's flow by CUDA graph, one for the encoder and one for the whole Euler solve.

`exact` captures each length by itself. `bucket` pads lengths to the next multiple and masks the padding, so that one
graph serves a bucket. `parts/flow_graphs.py` holds the work.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot
from ttsbench.optimizations.s3gen_attention import OUR_PASSES
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Puts the replays in the place of the encoder's work and of the solvers."""
    from ttsbench.optimizations.parts import flow_graphs, flow_solve

    decoder, undo, parts = target.tts.s3gen.flow.decoder, target.undo, target.s3gen_parts
    assert parts.estimator is not None
    assert parts.encoder is not None
    bucket_tokens = flow_graphs.BUCKET_TOKENS if option == "bucket" else 1
    solve = flow_graphs.GraphedSolve(decoder, parts.estimator, bucket_tokens)
    encode = flow_graphs.GraphedEncoder(parts.encoder, bucket_tokens)
    flow_solve.install(undo, decoder, solve)
    undo.replace(parts.encoder, "run", encode)
    undo.replace(parts, "graphed_solve", solve)
    undo.replace(parts, "graphed_encoder", encode)


def attest(target: Target, option: str) -> Evidence:
    """By what was captured and how often it was replayed; nothing captured, or no replay, is an error."""
    solve, encode = target.s3gen_parts.graphed_solve, target.s3gen_parts.graphed_encoder
    ran = [graphed for graphed in (solve, encode) if graphed is not None and graphed.graphs.replays]
    if len(ran) != (0 if option == "off" else 2):
        raise CellError(f"s3gen_graph: {option} was asked for, and {len(ran)} of 2 parts were replayed")
    if solve is None or encode is None:
        return {"captured": 0}
    return {
        "solve": solve.graphs.evidence(),
        "flow_encoder": encode.graphs.evidence(),
        "estimator_calls_in_the_last_solve": solve.estimator_calls,
    }


SLOT = Slot(
    "s3gen_graph",
    "CUDA graphs of S3Gen's flow: the encoder, and the whole Euler solve",
    (
        Option("off", "every operation launched by itself"),
        Option("exact", "one graph for each length", needs_cuda=True, eager="off", rules=(OUR_PASSES,)),
        Option(
            "bucket",
            "one graph for lengths within 2.56 s of each other, the rest masked",
            needs_cuda=True,
            eager="off",
            rules=(OUR_PASSES,),
        ),
    ),
    apply=apply,
    attest=attest,
)
