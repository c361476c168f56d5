"""Slot `s3gen_dtype`: the arithmetic of S3Gen's flow estimator, which is where its time goes.

A cast changes the estimator's parameters and nothing else. Steps and times of the Euler solve stay in fp32, which
costs nothing and comes six times nearer to the reference (`flow_solve` says why). Buffers stay; the speech tokenizer,
the speaker encoder, the flow encoder and the vocoder stay in fp32 (cuFFT takes no bf16). Above all `s3gen.dtype` stays
fp32: S3Gen casts the whole reference to it, token ids included and in place, which would garble 46 % of the ids in fp16
and 87 % in bf16. fp32 holds every id exactly.

`tf32` lets fp32 products of matrices and convolutions round their inputs to 10 bits of mantissa, in all of S3Gen, while
it runs and not elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.tf32 import ALLOWED, tf32, tf32_setting
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts import flow_solve
from ttsbench.optimizations.parts.flow_solve import Solve
from ttsbench.optimizations.parts.modules import Counted
from ttsbench.optimizations.parts.s3gen import installed

SLOT = "s3gen_dtype"
NATIVE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
HALF = (torch.float16, torch.bfloat16)


def apply(pipeline: Pipeline, option: str) -> None:
    """Casts the estimator, or has S3Gen's two halves run with TF32 allowed."""
    s3gen = pipeline.tts.s3gen
    if option in NATIVE:
        for parameter in s3gen.flow.decoder.estimator.parameters():
            parameter.data = parameter.data.to(NATIVE[option])
        if NATIVE[option] in HALF:
            installed(pipeline)[SLOT] = _time_stays_exact(s3gen.flow.decoder)
    elif option == "tf32":
        halves = [InTf32(s3gen.flow_inference), InTf32(s3gen.hift_inference)]
        s3gen.flow_inference, s3gen.hift_inference = halves
        installed(pipeline)[SLOT] = halves


def _time_stays_exact(decoder: Any) -> Solve:
    """The sines of a time are taken in fp32, and rounded where the estimator's weights begin."""
    time_mlp, solve = decoder.estimator.time_mlp, Solve(decoder)
    take = time_mlp.forward
    time_mlp.forward = lambda sample: take(sample.to(decoder.estimator.dtype))
    flow_solve.install(decoder, solve)
    return solve


class InTf32(Counted):
    """A half of S3Gen that runs with TF32 allowed."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__(call)
        self.was_allowed = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The call, counted."""
        with tf32():
            self.was_allowed = tf32_setting() == ALLOWED
            return super().__call__(*args, **kwargs)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """The dtypes of all of S3Gen's parts and of the reference's token ids, which must still be exact."""
    s3gen = pipeline.tts.s3gen
    parts = {
        "estimator": s3gen.flow.decoder.estimator,
        "flow_encoder": s3gen.flow.encoder,
        "vocoder": s3gen.mel2wav,
        "speech_tokenizer": s3gen.tokenizer,
        "speaker_encoder": s3gen.speaker_encoder,
    }
    dtypes = {name: {parameter.dtype for parameter in part.parameters()} for name, part in parts.items()}
    _refuse_garbled_ids(pipeline)
    if half := sorted(name for name in dtypes if name != "estimator" and dtypes[name] & {*HALF}):
        raise CellError(f"{SLOT}: only the estimator may be in half precision, and so are {', '.join(half)}")
    if option in NATIVE and dtypes["estimator"] != {NATIVE[option]}:
        raise CellError(f"{SLOT}: {option} was asked for, and the estimator is in {_named(dtypes['estimator'])}")
    if option == "tf32" and dtypes["estimator"] != {torch.float32}:
        raise CellError(f"{SLOT}: tf32 was asked for, and the estimator is in {_named(dtypes['estimator'])}")
    put = installed(pipeline).get(SLOT)
    in_tf32 = isinstance(put, list) and all(half.calls and half.was_allowed for half in put)
    if in_tf32 != (option == "tf32"):
        raise CellError(f"{SLOT}: {option} was asked for, and S3Gen ran with{'' if in_tf32 else 'out'} TF32")
    return {name: _named(found) for name, found in dtypes.items()} | {
        "reference_is_cast_to": _named({s3gen.dtype}),
        "prompt_token": _named({pipeline.tts.conds.gen["prompt_token"].dtype}),
        "tf32": in_tf32,
        "times": "float32" if "solve_euler" in vars(s3gen.flow.decoder) else _named(dtypes["estimator"]),
    }


def _refuse_garbled_ids(pipeline: Pipeline) -> None:
    """Upstream itself turns the ids into fp32 numbers, which hold them exactly; half precision does not."""
    dtype = pipeline.tts.conds.gen["prompt_token"].dtype
    if dtype in HALF or pipeline.tts.s3gen.dtype in HALF:
        garbled = _named({dtype, pipeline.tts.s3gen.dtype} & {*HALF})
        raise CellError(f"{SLOT}: the reference's token ids are cast to {garbled}, which garbles them")


def _named(dtypes: set[torch.dtype]) -> str:
    return ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
