"""Slot `rope`: Llama's rotary embedding of queries and keys in one kernel instead of eight operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ttsbench.optimizations.options import ANY_FORWARD, Evidence, Option, Slot, has_no_part_in, layer_kernel
from ttsbench.optimizations.target import Target

if TYPE_CHECKING:
    from ttsbench.optimizations.parts.llama_attention import Projected


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.llama_attention import in_place
    from ttsbench.optimizations.parts.modules import Counted

    turn = TURNS[option]()
    for attention in in_place(target):
        attention.turn = Counted(turn)


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.llama_attention import attest_part

    return attest_part(target, "rope", option, "turn")


def _liger() -> Callable[..., Projected]:
    from liger_kernel.ops.rope import LigerRopeFunction

    turn: Callable[..., Projected] = LigerRopeFunction.apply
    return turn


def _triton() -> Callable[..., Projected]:
    from ttsbench.optimizations.kernels.rope import rope

    return rope


TURNS: dict[str, Callable[[], Callable[..., Projected]]] = {"liger": _liger, "triton": _triton}
NOT_TWICE = has_no_part_in("attention", "triton", because="it turns queries and keys itself")
SLOT = Slot(
    "rope",
    "Llama's rotary embedding",
    (
        Option("eager", "as transformers writes it"),
        layer_kernel("liger", "Liger's kernel", rules=(NOT_TWICE,)),
        layer_kernel("triton", "our kernel", rules=(NOT_TWICE,)),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
