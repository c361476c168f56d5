"""Slot `rope`: Llama's rotary embedding of queries and keys in one kernel instead of eight operations.

Transformers calls it as a function of the module's file, which every Llama in the process shares; so each attention of
this one model gets a forward of its own, which is transformers' with the one call exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import eager_attention_forward

from ttsbench.optimizations.parts.modules import attest_replaced, replace_forward
from ttsbench.pipeline import Pipeline

ATTENTIONS = AttentionInterface()  # type: ignore[no-untyped-call]
Turn = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each attention of the backbone another forward."""
    if option != "eager":
        turn = TURNS[option]()
        attentions = (layer.self_attn for layer in pipeline.tts.t3.tfmr.layers)
        replace_forward("rope", attentions, lambda attention: _attending(attention, turn))


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many attentions were replaced and called."""
    return attest_replaced(pipeline, "rope", option)


def _attending(attention: Any, turn: Turn) -> Callable[..., Any]:
    def forward(
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = (*hidden_states.shape[:-1], -1, attention.head_dim)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        query, key, value = (project(hidden_states).view(shape).transpose(1, 2) for project in projections)
        query, key = turn(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, attention.layer_idx)
        attend = ATTENTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
        attended, weights = attend(
            attention, query, key, value, attention_mask, dropout=0.0, scaling=attention.scaling, **kwargs
        )
        return attention.o_proj(attended.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights

    return forward


def _liger() -> Turn:
    from liger_kernel.ops.rope import LigerRopeFunction

    turn: Turn = LigerRopeFunction.apply
    return turn


def _triton() -> Turn:
    from ttsbench.optimizations.kernels.rope import rope

    return rope


TURNS: dict[str, Callable[[], Turn]] = {"liger": _liger, "triton": _triton}
