"""Slot `attention`: which kernel T3's attention runs.

`sdpa` is upstream's: PyTorch picks. The `sdpa_*` options allow one of its backends and no other, so that a silent
fallback is an error. `flash_attention_2` is the flash-attn package: through transformers' own integration over the
growing cache, and through its key-value-cache kernel over the static one, which reads no further than there is text.
`triton` is our own kernel for the steps over a static cache, with rotary embedding and both writes in it; a prompt goes
as with `sdpa`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.cache import FLASH_STATIC, TRITON_STEP
from ttsbench.optimizations.kernels.step_attention import step_attention
from ttsbench.optimizations.parts.llama_attention import in_place
from ttsbench.optimizations.parts.modules import Counted

BACKENDS = {
    "sdpa_math": SDPBackend.MATH,
    "sdpa_flash": SDPBackend.FLASH_ATTENTION,
    "sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
}
# Transformers takes every name with "flash" in it for a package that it has to import.
NAMES = {option: f"ttsbench_{option.replace('flash', 'fa2')}" for option in BACKENDS}
# What a profiler shows when the option took effect: kernels on a GPU, operators everywhere.
KERNEL_MARKS = {
    "sdpa_flash": ("pytorch_flash", "flash_fwd"),
    "sdpa_efficient": ("fmha_cutlass", "mem_eff", "AttentionKernel"),
    "sdpa_cudnn": ("cudnn",),
    "flash_attention_2": ("flash_fwd", "flash_fwd_splitkv"),
}
STEP_KERNEL = "step_attention"
OPERATOR_MARKS = {
    "sdpa_math": ("_scaled_dot_product_attention_math", "aten::scaled_dot_product_attention"),
    "sdpa_flash": ("_scaled_dot_product_flash_attention",),
    "sdpa_efficient": ("_scaled_dot_product_efficient_attention",),
    "sdpa_cudnn": ("_scaled_dot_product_cudnn_attention",),
}
# Operators on the host, and kernels on a GPU: of a replayed graph only kernels are seen.
FUSED = ("_flash_attention", "_efficient_attention", "_cudnn_attention", "flash_fwd", "flash_fprop", "fmha")


def apply(pipeline: Pipeline, option: str) -> None:
    """Names the implementation in the backbone's configuration, where its layers look it up at every call."""
    if option == "sdpa":
        return
    name = option
    if option in BACKENDS:
        name = NAMES[option]
        AttentionInterface.register(name, _only(BACKENDS[option]))
        AttentionMaskInterface.register(name, sdpa_mask)
    elif option == "flash_attention_2" and pipeline.slots.get("cache") == "static":
        name = FLASH_STATIC
        AttentionInterface.register(name, flash_static_attention)
    elif option == "triton":
        name = TRITON_STEP
        AttentionInterface.register(name, sdpa_attention_forward)
        _give_steps(pipeline.tts.t3.tfmr)
    pipeline.tts.t3.tfmr.config._attn_implementation = name


def _give_steps(tfmr: Any) -> None:
    if hasattr(tfmr, "layers"):
        for attending in in_place(tfmr):
            attending.step = Counted(_step)
        return
    for block in tfmr.h:
        block.attn.forward = Gpt2Attending(block.attn)


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


class Gpt2Attending:
    """In the place of the forward of GPT-2's attention: a prompt goes through that one, a step through our kernel."""

    def __init__(self, attention: Any) -> None:
        self._attention, self._forward = attention, attention.forward
        self.step = Counted(_step)

    def __call__(
        self, hidden_states: torch.Tensor, past_key_values: Any = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Transformers' signature."""
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


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which attention kernels or operators a warm call ran, in the prompt and in the steps."""
    warm_call = pipeline.warm_call
    configured = pipeline.tts.t3.tfmr.config._attn_implementation
    evidence = {
        "configured": configured,
        "prefill": sorted(name for name in warm_call.prefill.names if _is_attention(name)),
        "decode": sorted(name for name in warm_call.decode.names if _is_attention(name)),
    }
    for part in ("prefill", "decode"):
        _refuse_other(option, part, evidence[part], on_gpu=pipeline.device.type == "cuda")
    return evidence | _attest_steps(pipeline, wanted=option == "triton")


def _attest_steps(pipeline: Pipeline, *, wanted: bool) -> dict[str, Any]:
    """Our kernel by its calls; where a compiler or a graph calls it unseen, by its name among what a step ran."""
    layers = [module for module in pipeline.tts.t3.tfmr.modules() if hasattr(module, "forward")]
    steps = [step for module in layers if isinstance(step := getattr(module.forward, "step", None), Counted)]
    calls = sum(step.calls for step in steps)
    kernels = sum(count for name, count in pipeline.warm_call.decode.device.items() if STEP_KERNEL in name)
    whole = pipeline.tts.t3.tfmr.config.num_hidden_layers if wanted else 0
    ran = kernels >= whole * pipeline.warm_call.steps if pipeline.device.type == "cuda" else calls >= whole
    if len(steps) != whole or not ran or bool(kernels) > wanted:
        asked, where = "was asked for" if wanted else "was not asked for", f"{len(steps)} layers"
        raise CellError(f"attention: triton {asked}, and its kernel ran {kernels} times, called {calls}, in {where}")
    return {"steps": {"layers": len(steps), "calls": calls, "kernels": kernels}} if wanted else {}


def _is_attention(name: str) -> bool:
    lower = name.lower()
    return any(mark in lower for mark in ("attention", "flash", "fmha")) and "mask" not in lower


def _refuse_other(option: str, part: str, names: list[str], *, on_gpu: bool) -> None:
    text = " ".join(names)
    fused = any(mark in text for mark in FUSED)
    if option == "eager":
        wrong = "scaled_dot_product_attention" in text or fused
    elif option == "sdpa_math":
        wrong = fused or (bool(names) and "scaled_dot_product_attention" not in text)
    elif option == "flash_attention_2":
        # PyTorch's copy of the kernel carries its namespace; the package's own does not.
        wrong = not any("flash_fwd" in name and "pytorch_flash" not in name for name in names)
    elif option in BACKENDS:
        marks = KERNEL_MARKS[option] if on_gpu else OPERATOR_MARKS[option]
        wrong = not any(mark in text for mark in (*marks, *OPERATOR_MARKS[option]))
    else:
        wrong = False  # PyTorch may pick what it likes, and the multilingual analyzer asks for maps that only eager has
    if wrong:
        raise CellError(f"attention: {option} was asked for, and in {part} what ran is: {', '.join(names) or 'none'}")
