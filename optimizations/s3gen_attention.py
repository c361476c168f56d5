"""Slot `s3gen_attention`: the attention of S3Gen's estimator and of its flow encoder.

Both options replace upstream's dense bias of zeros and its wait for the host in every block. In the estimator `sdpa`
is PyTorch's attention without a bias, and `flash_attention_2` the flash-attn package's kernels. In the flow encoder
both are PyTorch's attention with the relative positions as a bias; `flow_encoder` says why FlashAttention-2 cannot run
there.
"""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts import flow_attention
from ttsbench.optimizations.parts.flow_encoder import LeanEncoder
from ttsbench.optimizations.parts.flow_estimator import LeanEstimator
from ttsbench.optimizations.parts.s3gen import installed

SLOT = "s3gen_attention"


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts our passes over the same modules in the place of upstream's."""
    if option == "upstream":
        return
    flow = pipeline.tts.s3gen.flow
    estimator = LeanEstimator(flow.decoder.estimator, flow_attention.BY_NAME[option]())
    encoder = LeanEncoder(flow.encoder)
    flow.decoder.estimator.forward, flow.encoder.forward = estimator, encoder
    installed(pipeline)[SLOT] = (estimator, encoder)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many attention modules run what, and how often their owners were called from Python.

    A captured graph replays without Python: then the calls are those of warm-up and capture.
    """
    estimator, encoder = installed(pipeline).get(SLOT, (None, None))
    ran = estimator.attention.name if estimator is not None and estimator.calls and encoder.calls else "upstream"
    if ran != option:
        raise CellError(f"{SLOT}: {option} was asked for, and {ran} is what ran")
    if option == "flash_attention_2" and pipeline.device.type == "cuda":
        kernels = [name for name in pipeline.warm_call.s3gen.device if "flash_fwd" in name]
        if not any("pytorch_flash" not in name for name in kernels):
            raise CellError(f"{SLOT}: {option} was asked for, and none of the package's kernels ran")
    if estimator is None:
        return {"estimator": "upstream", "flow_encoder": "upstream"}
    return {
        "estimator": ran,
        "estimator_modules": len(estimator.blocks),
        "flow_encoder": "sdpa, relative positions as a bias",
        "flow_encoder_modules": len(encoder.layers),
        "estimator_calls": estimator.calls,
        "flow_encoder_calls": encoder.calls,
    }
