"""Slot `dtype`: the arithmetic of T3.

`stored` keeps what the checkpoint holds, half precision included. A native cast changes T3's parameters and the
floating fields of the voice; buffers stay, since a rotary frequency in half precision would shift every position, and
token ids are never cast. `amp_*` leaves the weights and lets autocast pick the precision of each operation. `tf32`
lets fp32 matrix products round their inputs to 10 bits of mantissa, while T3 runs and not elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.tf32 import tf32
from ttsbench.model import checkpoint
from ttsbench.model.pipeline import Pipeline

NATIVE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
AUTOCAST = {"amp_fp16": torch.float16, "amp_bf16": torch.bfloat16}


def apply(pipeline: Pipeline, option: str) -> None:
    """Casts T3, or has its loop run in a context."""
    if option in NATIVE:
        for parameter in pipeline.tts.t3.parameters():
            parameter.data = parameter.data.to(NATIVE[option])
        checkpoint.fit_conditionals(pipeline.tts)
    elif option in AUTOCAST:
        pipeline.around_t3.append(lambda: _autocast(pipeline, option))
    elif option == "tf32":
        pipeline.around_t3.append(tf32)


def _autocast(pipeline: Pipeline, option: str) -> AbstractContextManager[Any]:
    return torch.autocast(pipeline.device.type, dtype=AUTOCAST[option])


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """The dtypes of parameters and of what came out of layers on a warm call; ids must still be integers."""
    t3, warm_call = pipeline.tts.t3, pipeline.warm_call
    parameters = {_short(p.dtype) for p in t3.parameters()}
    activations = {_short(dtype) for dtype in warm_call.activation_dtypes}
    conditionals = pipeline.tts.conds
    ids = None if conditionals is None else conditionals.t3.cond_prompt_speech_tokens
    if ids is not None and ids.dtype.is_floating_point:
        raise CellError(f"dtype: the voice's token ids were cast to {_short(ids.dtype)}, which garbles them")
    wanted = NATIVE.get(option) or AUTOCAST.get(option)
    if wanted is not None and _short(wanted) not in activations:
        raise CellError(f"dtype: {option} was asked for, and the layers worked in {', '.join(sorted(activations))}")
    if option in NATIVE and parameters != {_short(NATIVE[option])}:
        raise CellError(f"dtype: {option} was asked for, and parameters are {', '.join(sorted(parameters))}")
    if option in (*AUTOCAST, "tf32") and parameters != {"float32"}:
        raise CellError(f"dtype: {option} works on fp32 weights, and these are {', '.join(sorted(parameters))}")
    if option == "tf32" and not warm_call.tf32_allowed:
        raise CellError("dtype: tf32 was asked for, and T3 ran without it")
    return {"parameters": sorted(parameters), "activations": sorted(activations), "tf32": warm_call.tf32_allowed}


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
