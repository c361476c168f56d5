"""Llama's attention in parts that slots exchange: projecting, turning, and a step over a static cache.

Transformers calls its rotary embedding as a function of the module's file, which every Llama in the process shares; so
each attention of this one model gets a forward of its own, which is transformers' in pieces. Qwen2's is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, eager_attention_forward

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence
from ttsbench.optimizations.parts.modules import Counted, attest_calls
from ttsbench.optimizations.target import Target
from ttsbench.optimizations.undo import Undo

ATTENTIONS = AttentionInterface()  # type: ignore[no-untyped-call]
Projected = tuple[torch.Tensor, ...]


class LlamaAttention:
    """In the place of one attention's `forward`; a slot that exchanges a part puts a `Counted` there."""

    def __init__(self, attention: Any) -> None:
        self.attention = attention
        self.project: Callable[[torch.Tensor], Projected] = self._by_three_products
        self.turn: Callable[..., Projected] = apply_rotary_pos_emb
        self.step: Callable[..., torch.Tensor] | None = None

    def __call__(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        attention, weights = self.attention, None
        query, key, value = (self._as_heads(projected) for projected in self.project(hidden_states))
        if self.step is not None and hidden_states.size(1) == 1:
            attended = self.step(attention, query, key, value, past_key_values, position_embeddings)
        else:
            query, key = self.turn(query, key, *position_embeddings)
            if past_key_values is not None:
                key, value = past_key_values.update(key, value, attention.layer_idx)
            attend = ATTENTIONS.get_interface(attention.config._attn_implementation, eager_attention_forward)
            attended, weights = attend(
                attention, query, key, value, attention_mask, dropout=0.0, scaling=attention.scaling, **kwargs
            )
        return attention.o_proj(attended.reshape(*hidden_states.shape[:-1], -1).contiguous()), weights

    def _by_three_products(self, hidden_states: torch.Tensor) -> Projected:
        attention = self.attention
        return attention.q_proj(hidden_states), attention.k_proj(hidden_states), attention.v_proj(hidden_states)

    def _as_heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.view(*projected.shape[:-1], -1, self.attention.head_dim).transpose(1, 2)


class OneProduct:
    """Query, key and value from one product over all their weights, which it holds side by side."""

    def __init__(self, undo: Undo, attention: Any) -> None:
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._widths = [projection.out_features for projection in projections]
        self._weight = self._side_by_side(undo, [projection.weight for projection in projections])
        biases = [projection.bias for projection in projections]
        self._bias = None if biases[0] is None else self._side_by_side(undo, biases)
        # What slot `linear` exchanges.
        self.multiply: Callable[..., torch.Tensor] = functional.linear

    def __call__(self, hidden_states: torch.Tensor) -> Projected:
        projected = self.multiply(hidden_states, self._weight, self._bias)
        return torch.split(projected, self._widths, dim=-1)

    def _side_by_side(self, undo: Undo, parameters: list[torch.Tensor]) -> torch.Tensor:
        joined = torch.cat([parameter.data for parameter in parameters])
        for parameter, part in zip(parameters, torch.split(joined, self._widths), strict=True):
            undo.weights(partial(setattr, parameter, "data", parameter.data))
            parameter.data = part
        return joined


def in_place(target: Target) -> Iterator[LlamaAttention]:
    """Each layer's, put there by the first slot that asks."""
    for layer in target.tts.t3.tfmr.layers:
        if not isinstance(layer.self_attn.forward, LlamaAttention):
            target.undo.replace(layer.self_attn, "forward", LlamaAttention(layer.self_attn))
        yield layer.self_attn.forward


def attest_part(target: Target, slot: str, option: str, part: str) -> Evidence:
    forwards = [getattr(layer.self_attn, "forward", None) for layer in getattr(target.tts.t3.tfmr, "layers", ())]
    parts = [getattr(forward, part) for forward in forwards if isinstance(forward, LlamaAttention)]
    ours = [exchanged for exchanged in parts if isinstance(exchanged, Counted)]
    if ours and len(ours) != len(forwards):
        raise CellError(f"{slot}: {option} was asked for, and {len(ours)} of {len(forwards)} layers were changed")
    return attest_calls(slot, option, [exchanged.calls for exchanged in ours])
