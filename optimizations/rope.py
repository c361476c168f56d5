"""Slot `rope`: Llama's rotary embedding of queries and keys in one kernel instead of eight operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.llama_attention import Projected, attest_part, in_place
from ttsbench.optimizations.parts.modules import BY_DEFAULT, Counted


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each attention of the backbone another rotary embedding."""
    if option != BY_DEFAULT:
        turn = TURNS[option]()
        for attending in in_place(pipeline.tts.t3.tfmr):
            attending.turn = Counted(turn)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """In how many layers it was exchanged and called."""
    return attest_part(pipeline, "rope", option, "turn", wanted=option != BY_DEFAULT)


def _liger() -> Callable[..., Projected]:
    from liger_kernel.ops.rope import LigerRopeFunction

    turn: Callable[..., Projected] = LigerRopeFunction.apply
    return turn


def _triton() -> Callable[..., Projected]:
    from ttsbench.optimizations.kernels.rope import rope

    return rope


TURNS: dict[str, Callable[[], Callable[..., Projected]]] = {"liger": _liger, "triton": _triton}
