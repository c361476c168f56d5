"""Slot `s3gen_attention`: the attention of S3Gen's estimator and of its flow encoder.

All options replace upstream's dense bias of zeros and its wait for the host in every block. In the estimator `sdpa`
is PyTorch's attention without a bias, `flash_attention_2` the flash-attn package's kernels, and `triton` ours. In the
flow encoder all are PyTorch's attention with the relative positions as a bias; `flow_encoder` says why
FlashAttention-2 cannot run there.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.dtype import HALF
from ttsbench.optimizations.options import AMPERE, Evidence, Option, Slot, flash_attention_2, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Puts our passes over the same modules in the place of upstream's."""
    from ttsbench.optimizations.parts import flow_attention
    from ttsbench.optimizations.parts.flow_encoder import LeanEncoder
    from ttsbench.optimizations.parts.flow_estimator import LeanEstimator

    flow, undo, parts = target.tts.s3gen.flow, target.undo, target.s3gen_parts
    estimator = LeanEstimator(flow.decoder.estimator, flow_attention.BY_NAME[option]())
    encoder = LeanEncoder(flow.encoder)
    undo.replace(flow.decoder.estimator, "forward", estimator)
    undo.replace(flow.encoder, "forward", encoder)
    undo.replace(parts, "estimator", estimator)
    undo.replace(parts, "encoder", encoder)


def attest(target: Target, option: str) -> Evidence:
    """By how many attention modules run what, and how often their owners were called from Python.

    A captured graph replays without Python: then the calls are those of warm-up and capture.
    """
    estimator, encoder = target.s3gen_parts.estimator, target.s3gen_parts.encoder
    called = estimator is not None and encoder is not None and estimator.calls and encoder.calls
    ran = estimator.attention.name if estimator is not None and called else "upstream"
    if ran != option:
        raise CellError(f"s3gen_attention: {option} was asked for, and {ran} is what ran")
    if option == "flash_attention_2" and target.device.type == "cuda":
        kernels = [name for name in target.warm_call.s3gen.device if "flash_fwd" in name]
        if not any("pytorch_flash" not in name for name in kernels):
            raise CellError(f"s3gen_attention: {option} was asked for, and none of the package's kernels ran")
    if option == "triton" and target.device.type == "cuda":
        ran_ours = any("flow_attention" in name for name in target.warm_call.s3gen.device)
        if not ran_ours:
            raise CellError(f"s3gen_attention: {option} was asked for, and its kernel did not run")
    if estimator is None or encoder is None:
        return {"estimator": "upstream", "flow_encoder": "upstream"}
    return {
        "estimator": ran,
        "estimator_modules": len(estimator.blocks),
        "flow_encoder": "sdpa, relative positions as a bias",
        "flow_encoder_modules": len(encoder.layers),
        "estimator_calls": estimator.calls,
        "flow_encoder_calls": encoder.calls,
    }


SLOT = Slot(
    "s3gen_attention",
    "the attention of S3Gen's flow estimator and encoder",
    (
        Option("upstream", "with a dense bias of zeros, and a wait for the host in every block"),
        Option("sdpa", "PyTorch's, without a bias where nothing is padded, and without waiting"),
        flash_attention_2(
            "the flash-attn package's kernels in the estimator; in the encoder they cannot run, so PyTorch's",
            rules=(needs("s3gen_dtype", *HALF, because="its kernels know nothing else"),),
        ),
        Option(
            "triton",
            "our kernel in the estimator, with lengths in the place of a bias; in the encoder PyTorch's",
            needs_cuda=True,
            needs_capability=AMPERE,
            triton=True,
            rules=(needs("s3gen_compile", "off", because="the two have not been tried together"),),
        ),
    ),
    apply=apply,
    attest=attest,
)
# What captures or compiles S3Gen works on our passes.
OUR_PASSES = needs("s3gen_attention", "sdpa", "flash_attention_2", "triton", because="upstream's waits for the host")
