"""Slot `s3gen_blocks`: what the layers of S3Gen's estimator run in.

`fused` runs a transformer block in five kernels of ours and PyTorch's, and a resnet in four, over frames of channels
instead of channels of frames, so that nothing is copied between convolutions and products. Attention remains that of
`s3gen_attention`. `parts/flow_blocks.py` holds the work.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import AMPERE, Evidence, Option, Slot, has_no_part_in
from ttsbench.optimizations.s3gen_attention import OUR_PASSES
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Puts the fused estimator in the place of the lean one."""
    from ttsbench.optimizations.parts.flow_blocks import FusedEstimator

    module, undo, parts = target.tts.s3gen.flow.decoder.estimator, target.undo, target.s3gen_parts
    assert parts.estimator is not None
    fused = FusedEstimator(module, parts.estimator.attention)
    undo.replace(module, "forward", fused)
    undo.replace(parts, "estimator", fused)


def attest(target: Target, option: str) -> Evidence:
    """By the estimator that was called and, on a GPU, by the kernels that a warm call ran."""
    from ttsbench.optimizations.parts.flow_blocks import FusedEstimator

    estimator = target.s3gen_parts.estimator
    fused = isinstance(estimator, FusedEstimator) and estimator.calls > 0
    if fused != (option == "fused"):
        raise CellError(f"s3gen_blocks: {option} was asked for, and {'fused' if fused else 'upstream'} is what ran")
    if not isinstance(estimator, FusedEstimator):
        return {"transformer_blocks": 0, "resnets": 0}
    kernels = {
        kernel: sum(count for name, count in target.warm_call.s3gen.device.items() if kernel in name)
        for kernel in ("flow_linear", "flow_conv", "flow_norm")
    }
    if target.device.type == "cuda" and not all(kernels.values()):
        raise CellError(f"s3gen_blocks: {option} was asked for, and its kernels did not run: {kernels}")
    return {
        "transformer_blocks": len(estimator.blocks),
        "resnets": len(estimator.resnets),
        "estimator_calls": estimator.calls,
        "kernels": kernels,
    }


SLOT = Slot(
    "s3gen_blocks",
    "the layers of S3Gen's flow estimator",
    (
        Option("upstream", "an operation at a time"),
        Option(
            "fused",
            "five kernels for a transformer block and four for a resnet, times computed once for all steps",
            needs_cuda=True,
            needs_capability=AMPERE,
            triton=True,
            rules=(
                OUR_PASSES,
                has_no_part_in(
                    "s3gen_compile",
                    "default",
                    "reduce-overhead",
                    "max-autotune",
                    because="its blocks are kernels already",
                ),
            ),
        ),
    ),
    apply=apply,
    attest=attest,
)
