"""The transformer between embeddings and hidden states, over a cache that grows or one that is written in place.

The static ones call the backbone's own layers, with whatever slots made of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from ttsbench.model import kv_cache
from ttsbench.optimizations.parts.buckets import round_up

# Spans double as buckets: one compiled or captured step for each. 512 positions hold a prompt and about 10 s.
SPAN = 512


def spanned(positions: int) -> int:
    return round_up(positions, SPAN)


class Backbone(Protocol):
    """What a loop asks of it."""

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """Hidden states of a prompt, with room for as many positions more."""
        ...

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        """The last hidden states after one position more."""
        ...


class GrowingBackbone:
    """The package's own forward over a cache that grows; positions are given, so that they need not be counted."""

    def __init__(self, tfmr: Any) -> None:
        self._tfmr = tfmr

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        self._cache = DynamicCache(config=self._tfmr.config)
        self._positions = torch.arange(embeds.size(1) + limit, device=embeds.device)[None]
        self._read = 0
        return self.step(embeds)

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        first, self._read = self._read, self._read + embed.size(1)
        output = self._tfmr(
            inputs_embeds=embed,
            position_ids=self._positions[:, first : self._read],
            past_key_values=self._cache,
            use_cache=True,
        )
        assert isinstance(output.last_hidden_state, torch.Tensor)
        return output.last_hidden_state


class AllRows:
    """Positions that all rows share: those of a prompt, or the one of a step."""

    def __init__(self, positions: torch.Tensor) -> None:
        self.positions = positions
        self.ids = positions[None]

    def write(self, memory: torch.Tensor, new: torch.Tensor) -> None:
        memory.index_copy_(2, self.positions, new)

    def mask(self, span: int) -> torch.Tensor:
        """What may be attended to, (1, 1, positions, span)."""
        return (torch.arange(span, device=self.positions.device) <= self.positions[:, None])[None, None]

    def lengths(self, rows: int) -> torch.Tensor:
        """How much of each row there is after this step."""
        return (self.positions[-1:] + 1).to(torch.int32).repeat(rows)


class EachRow:
    """One position of a step for each row."""

    def __init__(self, positions: torch.Tensor) -> None:
        self.positions = positions
        self.ids = positions[:, None]

    def write(self, memory: torch.Tensor, new: torch.Tensor) -> None:
        rows = torch.arange(self.positions.size(0), device=self.positions.device)
        memory[rows, :, self.positions] = new[:, :, 0]

    def mask(self, span: int) -> torch.Tensor:
        """What may be attended to, (rows, 1, 1, span)."""
        return (torch.arange(span, device=self.positions.device) <= self.positions[:, None])[:, None, None]

    def lengths(self, rows: int) -> torch.Tensor:
        """How much of each row there is after this step."""
        return (self.positions + 1).to(torch.int32)


class WrittenCache:
    """In a cache's place for one forward: each layer's keys and values go to their positions."""

    def __init__(
        self, keys: list[torch.Tensor], values: list[torch.Tensor], places: AllRows | EachRow, span: int
    ) -> None:
        self.keys, self.values, self.places, self.span = keys, values, places, span

    @property
    def positions(self) -> torch.Tensor:
        return self.places.positions

    def update(self, key: torch.Tensor, value: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole span of that layer; positions beyond the present one are for the mask to hide."""
        kept = self.keys[layer], self.values[layer]
        for memory, new in zip(kept, (key, value), strict=True):
            self.places.write(memory, new)
        return kept[0][:, :, : self.span], kept[1][:, :, : self.span]


class WritingBackbone(ABC):
    """The backbone's layers over keys and values that stay in place."""

    def __init__(self, tfmr: Any) -> None:
        self._tfmr = tfmr
        self._is_llama = hasattr(tfmr, "rotary_emb")
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.allocations = 0
        # A slot that compiles puts its own in these places.
        self.forward_one: Callable[..., torch.Tensor] = self._forward_one
        self.on_new_memory: Callable[[list[torch.Tensor]], None] = lambda memory: None
        # A slot that captures puts its own in this place.
        self.read: Callable[[torch.Tensor], torch.Tensor] = self.read_eagerly

    def bytes_of(self, rows: int, positions: int, dtype: torch.dtype) -> int:
        return kv_cache.bytes_of(self._tfmr.config, rows, spanned(positions), dtype.itemsize)

    def _allocate(self, rows: int, positions: int, dtype: torch.dtype) -> None:
        """New memory; what was captured over the old one is void."""
        config = self._tfmr.config
        shape, layers = kv_cache.layer_shape(config, rows, spanned(positions)), range(config.num_hidden_layers)
        self.keys, self.values = [], []  # the old one goes first
        self.allocations += 1
        self.keys = [torch.zeros(shape, dtype=dtype, device=self._tfmr.device) for _ in layers]
        self.values = [torch.zeros_like(keys) for keys in self.keys]
        self.on_new_memory([*self.keys, *self.values])

    @abstractmethod
    def read_eagerly(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden states of so many first positions."""

    @abstractmethod
    def _forward_one(self, embed: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        """Reads one position of each row."""

    def _layers(self, hidden: torch.Tensor, memory: WrittenCache) -> torch.Tensor:
        tfmr, ids = self._tfmr, memory.places.ids
        arguments: dict[str, Any] = {"past_key_values": memory, **self._visible(hidden, memory)}
        if self._is_llama:
            arguments["position_embeddings"] = tfmr.rotary_emb(hidden, position_ids=ids)
            layers, norm = tfmr.layers, tfmr.norm
        else:
            hidden = hidden + tfmr.wpe(ids)
            layers, norm = tfmr.h, tfmr.ln_f
        for layer in layers:
            hidden = layer(hidden, **arguments)
        normed = norm(hidden)
        assert isinstance(normed, torch.Tensor)
        return normed

    def _visible(self, hidden: torch.Tensor, memory: WrittenCache) -> dict[str, Any]:
        """What each position may attend to, in the form that the attention in use understands."""
        implementation = self._tfmr.config._attn_implementation
        if implementation == FLASH_STATIC:
            return {"attention_mask": None, "lengths": memory.places.lengths(hidden.size(0))}
        if implementation == TRITON_STEP or (hidden.size(1) > 1 and implementation != "eager"):
            return {"attention_mask": None}  # a prompt alone: causal by flag, so that flash can be chosen
        mask = memory.places.mask(memory.span)
        if implementation == "eager":
            lowest = torch.finfo(hidden.dtype).min
            mask = torch.zeros(mask.shape, dtype=hidden.dtype, device=mask.device).masked_fill(~mask, lowest)
        return {"attention_mask": mask}


class StaticBackbone(WritingBackbone):
    """One utterance at a time, all its rows at the same position."""

    def __init__(self, tfmr: Any) -> None:
        super().__init__(tfmr)
        self.position = torch.zeros(1, dtype=torch.long, device=tfmr.device)
        self._read = 0

    @property
    def span(self) -> int:
        """How many positions the next step attends to, those after it masked."""
        return spanned(self._read + 1)

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        rows, prompt = embeds.shape[:2]
        self._reserve(rows, prompt + limit, embeds.dtype)
        self._read = prompt
        self.position.fill_(prompt)
        return self.read(embeds)

    def read_eagerly(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden states of so many first positions."""
        prompt = embeds.size(1)
        positions = AllRows(torch.arange(prompt, device=embeds.device))
        return self._layers(embeds, WrittenCache(self.keys, self.values, positions, prompt))

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        hidden = self.forward_one(embed, self.position, self.span)
        self.advance()
        self.position += 1
        return hidden

    def advance(self) -> None:
        """The host's count of what was read; the device keeps its own in `position`."""
        self._read += 1

    def _reserve(self, rows: int, positions: int, dtype: torch.dtype) -> None:
        """Memory for that many, unless there is enough."""
        have = self.keys[0].shape if self.keys else (0, 0, 0)
        if have[0] != rows or have[2] < positions:
            self._allocate(rows, positions, dtype)

    def _forward_one(self, embed: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        return self._layers(embed, WrittenCache(self.keys, self.values, AllRows(position), span))


# Under these names `attention` registers what reads a static cache as far as there is text, and needs no mask.
FLASH_STATIC = "ttsbench_fa2_static"
TRITON_STEP = "ttsbench_triton_step"
