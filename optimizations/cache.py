"""Slot `cache`: where the backbone keeps keys and values.

`dynamic` is transformers' cache, which grows by concatenation: two copies of everything so far, in every layer of every
step. `static` writes into memory that is there already, at a position that lives on the device, so that every step has
the same shapes and can be compiled or captured. It calls the backbone's own layers, with whatever other slots made of
them. Alone it saves nothing: a step then attends to a whole span, masked, and not only to what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from ttsbench.errors import CellError
from ttsbench.pipeline import Pipeline

# Spans double as buckets: one compiled or captured step for each. 512 positions hold a prompt and about 10 s.
SPAN = 512


class Backbone(Protocol):
    """The transformer between embeddings and hidden states; `positions` counts what it has read."""

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """Reads a prompt, with room for as many positions more."""

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        """Reads one position more."""


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives the loop its backbone."""
    if option == "static":
        pipeline.loop.backbone = StaticBackbone(pipeline.tts.t3.tfmr)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which cache was written, and how large it is."""
    backbone = getattr(pipeline.loop, "backbone", None)
    if isinstance(backbone, StaticBackbone) != (option == "static"):
        raise CellError(f"cache: {option} was asked for, and {type(backbone).__name__} is what ran")
    if not isinstance(backbone, StaticBackbone):
        return {"cache": DynamicCache.__name__}
    written = sum(bool(keys.any()) for keys in backbone.keys)
    if not written or written < len(backbone.keys):
        raise CellError(f"cache: static was asked for, and {written} of {len(backbone.keys)} layers wrote into it")
    return {"cache": StaticBackbone.__name__, "layers": written, "shape": list(backbone.keys[0].shape)}


class GrowingBackbone:
    """The package's own forward over a cache that grows; positions are given, so that they need not be counted."""

    def __init__(self, tfmr: Any) -> None:
        self._tfmr = tfmr

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """A new cache."""
        self._cache = DynamicCache(config=self._tfmr.config)
        self._positions = torch.arange(embeds.size(1) + limit, device=embeds.device)[None]
        self._read = 0
        return self.step(embeds)

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        """The last hidden states."""
        first, self._read = self._read, self._read + embed.size(1)
        output = self._tfmr(
            inputs_embeds=embed,
            position_ids=self._positions[:, first : self._read],
            past_key_values=self._cache,
            use_cache=True,
        )
        assert isinstance(output.last_hidden_state, torch.Tensor)
        return output.last_hidden_state


class _Written:
    """In a cache's place for one forward: each layer's keys and values go to their positions."""

    def __init__(
        self, keys: list[torch.Tensor], values: list[torch.Tensor], positions: torch.Tensor, span: int
    ) -> None:
        self.keys, self.values, self.positions, self._span = keys, values, positions, span

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole span of that layer; positions beyond the present one are for the mask to hide."""
        kept = self.keys[layer], self.values[layer]
        for memory, new in zip(kept, (key, value), strict=True):
            memory.index_copy_(2, self.positions, new)
        return kept[0][:, :, : self._span], kept[1][:, :, : self._span]


class StaticBackbone:
    """The backbone's layers over keys and values that stay in place."""

    def __init__(self, tfmr: Any) -> None:
        self._tfmr = tfmr
        self._is_llama = hasattr(tfmr, "rotary_emb")
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.position = torch.zeros(1, dtype=torch.long, device=tfmr.device)
        self._read = 0
        # Slots that capture or compile put their own in these places.
        self.read: Callable[[torch.Tensor], torch.Tensor] = self.read_eagerly
        self.forward_one: Callable[..., torch.Tensor] = self._forward_one
        self.on_new_memory: Callable[[list[torch.Tensor]], None] = lambda memory: None

    @property
    def span(self) -> int:
        """How many positions the next step attends to, those after it masked."""
        return -(-(self._read + 1) // SPAN) * SPAN

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """Reads a prompt into the first positions."""
        rows, prompt = embeds.shape[:2]
        self._reserve(rows, prompt + limit, embeds.dtype)
        self._read = prompt
        self.position.fill_(prompt)
        return self.read(embeds)

    def read_eagerly(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden states of so many first positions."""
        prompt = embeds.size(1)
        return self._layers(embeds, torch.arange(prompt, device=embeds.device), prompt)

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        """Reads one position and moves on."""
        hidden = self.forward_one(embed, self.position, self.span)
        self.advance()
        self.position += 1
        return hidden

    def advance(self) -> None:
        """The host's count of what was read; the device keeps its own in `position`."""
        self._read += 1

    def _reserve(self, rows: int, positions: int, dtype: torch.dtype) -> None:
        """Memory for that many, unless there is enough; what was captured over the old one is then void."""
        config = self._tfmr.config
        have = self.keys[0].shape if self.keys else (0, 0, 0)
        if have[0] == rows and have[2] >= positions:
            return
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (rows, heads, -(-positions // SPAN) * SPAN, head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, dtype=dtype, device=self._tfmr.device) for _ in layers]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.on_new_memory([*self.keys, *self.values])

    def _forward_one(self, embed: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        return self._layers(embed, position, span)

    def _layers(self, hidden: torch.Tensor, positions: torch.Tensor, span: int) -> torch.Tensor:
        tfmr = self._tfmr
        arguments: dict[str, Any] = {
            "past_key_values": _Written(self.keys, self.values, positions, span),
            **self._visible(hidden, positions, span),
        }
        if self._is_llama:
            arguments["position_embeddings"] = tfmr.rotary_emb(hidden, position_ids=positions[None])
            layers, norm = tfmr.layers, tfmr.norm
        else:
            hidden = hidden + tfmr.wpe(positions)[None]
            layers, norm = tfmr.h, tfmr.ln_f
        for layer in layers:
            hidden = layer(hidden, **arguments)
        normed = norm(hidden)
        assert isinstance(normed, torch.Tensor)
        return normed

    def _visible(self, hidden: torch.Tensor, positions: torch.Tensor, span: int) -> dict[str, Any]:
        """What each position may attend to, in the form that the attention in use understands."""
        implementation = self._tfmr.config._attn_implementation
        if implementation == FLASH_STATIC:
            return {"attention_mask": None, "lengths": (positions[-1:] + 1).to(torch.int32).repeat(hidden.size(0))}
        if implementation == TRITON_STEP or (hidden.size(1) > 1 and implementation != "eager"):
            return {"attention_mask": None}  # a prompt alone: causal by flag, so that flash can be chosen
        mask = torch.arange(span, device=positions.device) <= positions[:, None]
        if implementation == "eager":
            lowest = torch.finfo(hidden.dtype).min
            mask = torch.zeros(mask.shape, dtype=hidden.dtype, device=mask.device).masked_fill(~mask, lowest)
        return {"attention_mask": mask[None, None]}


# Under these names `attention` registers what reads a static cache as far as there is text, and needs no mask.
FLASH_STATIC = "ttsbench_fa2_static"
TRITON_STEP = "ttsbench_triton_step"
