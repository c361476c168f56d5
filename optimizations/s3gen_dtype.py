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

from ttsbench.errors import CellError
from ttsbench.optimizations.dtype import HALF, NATIVE, short
from ttsbench.optimizations.options import AMPERE, Evidence, Option, Slot, half_precisions
from ttsbench.optimizations.target import Target

IN_HALF = {NATIVE[option] for option in HALF}


def apply(target: Target, option: str) -> None:
    import torch

    from ttsbench.optimizations.parts import flow_solve
    from ttsbench.optimizations.parts.in_tf32 import InTf32
    from ttsbench.optimizations.parts.modules import cast

    s3gen, undo = target.tts.s3gen, target.undo
    if option == "tf32":
        halves = InTf32(s3gen.flow_inference), InTf32(s3gen.hift_inference)
        undo.replace(s3gen, "flow_inference", halves[0])
        undo.replace(s3gen, "hift_inference", halves[1])
        undo.replace(target.s3gen_parts, "halves_in_tf32", halves)
        return
    cast(undo, s3gen.flow.decoder.estimator, getattr(torch, NATIVE[option]))
    if option in HALF:
        flow_solve.keep_time_exact(undo, s3gen.flow.decoder)


def attest(target: Target, option: str) -> Evidence:
    """By the dtypes of all of S3Gen's parts and of the reference's token ids, which must still be exact."""
    s3gen = target.tts.s3gen
    parts = {
        "estimator": s3gen.flow.decoder.estimator,
        "flow_encoder": s3gen.flow.encoder,
        "vocoder": s3gen.mel2wav,
        "speech_tokenizer": s3gen.tokenizer,
        "speaker_encoder": s3gen.speaker_encoder,
    }
    dtypes = {name: {short(parameter.dtype) for parameter in part.parameters()} for name, part in parts.items()}
    _refuse_garbled_ids(target)
    if half := sorted(name for name in dtypes if name != "estimator" and dtypes[name] & IN_HALF):
        raise CellError(f"s3gen_dtype: only the estimator may be in half precision, and so are {', '.join(half)}")
    expected = "float32" if option == "tf32" else NATIVE.get(option)
    if expected is not None and dtypes["estimator"] != {expected}:
        raise CellError(f"s3gen_dtype: {option} was asked for, and the estimator is in {_named(dtypes['estimator'])}")
    halves = target.s3gen_parts.halves_in_tf32
    in_tf32 = bool(halves) and all(half.calls and half.was_allowed for half in halves)
    if in_tf32 != (option == "tf32"):
        raise CellError(f"s3gen_dtype: {option} was asked for, and S3Gen ran with{'' if in_tf32 else 'out'} TF32")
    return {name: _named(names) for name, names in dtypes.items()} | {
        "reference_is_cast_to": short(s3gen.dtype),
        "prompt_token": short(target.tts.conds.gen["prompt_token"].dtype),
        "tf32": in_tf32,
        "times": "float32" if "solve_euler" in vars(s3gen.flow.decoder) else _named(dtypes["estimator"]),
    }


def _refuse_garbled_ids(target: Target) -> None:
    """Upstream itself turns the ids into fp32 numbers, which hold them exactly; half precision does not."""
    casts = {short(target.tts.conds.gen["prompt_token"].dtype), short(target.tts.s3gen.dtype)}
    if garbled := casts & IN_HALF:
        raise CellError(f"s3gen_dtype: the reference's token ids are cast to {_named(garbled)}, which garbles them")


def _named(dtypes: set[str]) -> str:
    return ", ".join(sorted(dtypes))


SLOT = Slot(
    "s3gen_dtype",
    "the arithmetic of S3Gen's flow estimator; everything around it stays in fp32",
    (
        Option("stored", "as the checkpoint holds it; upstream's own is fp32"),
        Option("fp32", "single precision"),
        Option(
            "tf32",
            "fp32 in all of S3Gen, whose products round their inputs to 10 bits",
            needs_cuda=True,
            needs_capability=AMPERE,
        ),
        *half_precisions(),
    ),
    apply=apply,
    attest=attest,
)
