"""What slot `attention` puts into T3: implementations that transformers looks up by name, and our kernel of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ttsbench.optimizations.kernels.step_attention import step_attention
from ttsbench.optimizations.parts.backbones import FLASH_STATIC, TRITON_STEP
from ttsbench.optimizations.parts.llama_attention import in_place
from ttsbench.optimizations.parts.modules import Counted
from ttsbench.optimizations.target import Target

BACKENDS = {
    "sdpa_math": SDPBackend.MATH,
    "sdpa_flash": SDPBackend.FLASH_ATTENTION,
    "sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
}
# Transformers takes every name with "flash" in it for a package that it has to import.
NAMES = {option: f"ttsbench_{option.replace('flash', 'fa2')}" for option in BACKENDS}


def install(target: Target, option: str, *, static_cache: bool) -> None:
    """Names the implementation in the backbone's configuration, where its layers look it up at every call."""
    name, tfmr = option, target.tts.t3.tfmr
    if option in BACKENDS:
        name = NAMES[option]
        AttentionInterface.register(name, _only(BACKENDS[option]))
        AttentionMaskInterface.register(name, sdpa_mask)
    elif option == "flash_attention_2" and static_cache:
        name = FLASH_STATIC
        AttentionInterface.register(name, flash_static_attention)
    elif option == "triton":
        name = TRITON_STEP
        AttentionInterface.register(name, sdpa_attention_forward)
        _give_steps(target)
    target.undo.replace(tfmr.config, "_attn_implementation", name)


def _give_steps(target: Target) -> None:
    tfmr = target.tts.t3.tfmr
    if hasattr(tfmr, "layers"):
        for attention in in_place(target):
            attention.step = Counted(_step)
        return
    for block in tfmr.h:
        target.undo.replace(block.attn, "forward", Gpt2Attention(block.attn))


def counted_steps(tfmr: Any) -> list[Counted]:
    """Our kernel's calls in each layer that has it."""
    forwards = (module.forward for module in tfmr.modules() if hasattr(module, "forward"))
    return [step for forward in forwards if isinstance(step := getattr(forward, "step", None), Counted)]


def _step(
    attention: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    memory: Any,
    turn: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """One position of one layer, into and over a static cache."""
    keys, values = memory.keys[attention.layer_idx], memory.values[attention.layer_idx]
    return step_attention(query, key, value, keys, values, memory.positions, turn, attention.scaling)


class Gpt2Attention:
    """In the place of the forward of GPT-2's attention: a prompt goes through that one, a step through our kernel."""

    def __init__(self, attention: Any) -> None:
        self._attention, self._forward = attention, attention.forward
        self.step = Counted(_step)

    def __call__(
        self, hidden_states: torch.Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if hidden_states.size(1) > 1:
            prompt: tuple[torch.Tensor, torch.Tensor | None] = self._forward(
                hidden_states, past_key_values=past_key_values, **kwargs
            )
            return prompt
        attention = self._attention
        projected = attention.c_attn(hidden_states).unflatten(-1, (3, -1, attention.head_dim))
        heads = (part.transpose(1, 2) for part in projected.unbind(dim=2))
        attended = self.step(attention, *heads, past_key_values)
        return attention.c_proj(attended.flatten(2)), None


def _only(backend: SDPBackend) -> Any:
    def attend(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel([backend]):
            return sdpa_attention_forward(*args, **kwargs)

    return attend


def flash_static_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    lengths: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """A prompt attends to itself; a single position attends to as much of the cache as `lengths` says."""
    from flash_attn import flash_attn_func

    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if query.size(1) > 1:
        return flash_attn_func(query, key, value, softmax_scale=scaling, causal=True), None
    return flash_with_cache(query, key, value, lengths, scaling or query.size(-1) ** -0.5), None


# An operator of its own, since the compiler cannot look into the package's extension.
@torch.library.custom_op("ttsbench::flash_with_cache", mutates_args=())
def flash_with_cache(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scaling: float
) -> torch.Tensor:
    """One position of each row against as much of its keys and values as `lengths` says."""
    from flash_attn import flash_attn_with_kvcache

    attended = flash_attn_with_kvcache(query, key, value, cache_seqlens=lengths, softmax_scale=scaling)
    assert isinstance(attended, torch.Tensor)
    return attended


@flash_with_cache.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: torch.Tensor, scaling: float
) -> torch.Tensor:
    return torch.empty_like(query)
