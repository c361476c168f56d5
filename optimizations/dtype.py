"""Slot `dtype`: the arithmetic of T3.

`stored` keeps what the checkpoint holds, half precision included. A native cast changes T3's parameters and the
floating fields of the voice; buffers stay, since a rotary frequency in half precision would shift every position, and
token ids are never cast. `amp_*` leaves the weights and lets autocast pick the precision of each operation. `tf32`
lets fp32 matrix products round their inputs to 10 bits of mantissa, while T3 runs and not elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ttsbench.errors import CellError
from ttsbench.optimizations.options import AMPERE, ANY_FORWARD, Evidence, Option, Slot, half_precisions, needs

if TYPE_CHECKING:
    import torch

    from ttsbench.optimizations.target import Context, Target

HALF = ("fp16", "bf16")
AMP = ("amp_fp16", "amp_bf16")
NATIVE = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
AUTOCAST = {"amp_fp16": "float16", "amp_bf16": "bfloat16"}


def apply(target: Target, option: str) -> None:
    import torch

    from ttsbench.instruments.tf32 import tf32
    from ttsbench.model import checkpoint, voice
    from ttsbench.optimizations.parts.modules import cast

    if option in NATIVE:
        cast(target.undo, target.tts.t3, getattr(torch, NATIVE[option]))
        if target.tts.conds is not None:  # forwards of the backbone alone have no voice
            target.undo.replace(target.tts, "conds", voice.copied(target.tts.conds))
        checkpoint.fit_conditionals(target.tts)
        return
    context: Context = tf32
    if option in AUTOCAST:
        context = partial(torch.autocast, target.device.type, dtype=getattr(torch, AUTOCAST[option]))
    target.undo.replace(target.t3_parts, "contexts", [*target.t3_parts.contexts, context])


def attest(target: Target, option: str) -> Evidence:
    """By the dtypes of parameters, and of what came out of layers on a warm call; ids must still be integers."""
    warm_call, conditionals = target.warm_call, target.tts.conds
    parameters = {short(p.dtype) for p in target.tts.t3.parameters()}
    activations = {short(dtype) for dtype in warm_call.activation_dtypes}
    ids = None if conditionals is None else conditionals.t3.cond_prompt_speech_tokens
    if ids is not None and ids.dtype.is_floating_point:
        raise CellError(f"dtype: the voice's token ids were cast to {short(ids.dtype)}, which garbles them")
    expected = NATIVE.get(option) or AUTOCAST.get(option)
    if expected is not None and expected not in activations:
        raise CellError(f"dtype: {option} was asked for, and the layers worked in {', '.join(sorted(activations))}")
    if option in NATIVE and parameters != {NATIVE[option]}:
        raise CellError(f"dtype: {option} was asked for, and parameters are {', '.join(sorted(parameters))}")
    if option in (*AUTOCAST, "tf32") and parameters != {"float32"}:
        raise CellError(f"dtype: {option} works on fp32 weights, and these are {', '.join(sorted(parameters))}")
    if option == "tf32" and not warm_call.tf32_allowed:
        raise CellError("dtype: tf32 was asked for, and T3 ran without it")
    return {"parameters": sorted(parameters), "activations": sorted(activations), "tf32": warm_call.tf32_allowed}


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


GROWING = needs("cache", "dynamic", because="under autocast keys and values change their type on the way")
SLOT = Slot(
    "dtype",
    "the arithmetic of T3",
    (
        Option("stored", "as the checkpoint holds it; upstream's own is fp32"),
        Option("fp32", "single precision"),
        Option(
            "tf32",
            "fp32 whose matrix products round their inputs to 10 bits",
            needs_cuda=True,
            needs_capability=AMPERE,
        ),
        *half_precisions(),
        Option("amp_fp16", "fp32 weights, autocast to half precision", needs_cuda=True, rules=(GROWING,)),
        Option("amp_bf16", "fp32 weights, autocast to bfloat16", rules=(GROWING,)),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
