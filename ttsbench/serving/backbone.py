"""T3's backbone with a static cache whose rows are at positions of their own."""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.instruments.swapping import swapped
from ttsbench.optimizations.parts.backbones import AllRows, EachRow, WritingBackbone, WrittenCache


class BatchedBackbone(WritingBackbone):
    """A prompt goes into the rows of one utterance, and a step reads one position of each row."""

    def __init__(self, tfmr: Any) -> None:
        super().__init__(tfmr)
        # Where the next prompt goes.
        self.first_row = 0
        # Rows behind all others: a captured prompt is always read into those, and moved from there.
        self.staging_rows = 0

    @property
    def rows(self) -> int:
        """That there is memory for."""
        return self.keys[0].size(0) - self.staging_rows if self.keys else 0

    @property
    def positions(self) -> int:
        return self.keys[0].size(2) if self.keys else 0

    def reserve(self, rows: int, positions: int, dtype: torch.dtype) -> None:
        """New memory; what was there is gone."""
        self._allocate(rows + self.staging_rows, positions, dtype)

    def bytes_of(self, rows: int, positions: int, dtype: torch.dtype) -> int:
        return super().bytes_of(rows + self.staging_rows, positions, dtype)

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """Reads a prompt into the first positions of its rows, for which `reserve` made room."""
        rows, prompt = embeds.shape[:2]
        if not self.staging_rows:
            return self.read(embeds)
        own, staged = (slice(first, first + rows) for first in (self.first_row, self.rows))
        with swapped(self, "first_row", staged.start):
            hidden = self.read(embeds)
        self.move(staged, own, prompt)
        return hidden

    def read_eagerly(self, embeds: torch.Tensor) -> torch.Tensor:
        rows, prompt = embeds.shape[:2]
        own = slice(self.first_row, self.first_row + rows)
        keys, values = ([layer[own] for layer in memory] for memory in (self.keys, self.values))
        positions = AllRows(torch.arange(prompt, device=embeds.device))
        return self._layers(embeds, WrittenCache(keys, values, positions, prompt))

    def move(self, source: slice, target: slice, positions: int) -> None:
        """Copies rows over others, as far as they were read."""
        for layer in (*self.keys, *self.values):
            layer[target, :, :positions] = layer[source, :, :positions]

    def _forward_one(self, embed: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
        rows = embed.size(0)
        keys, values = ([layer[:rows] for layer in memory] for memory in (self.keys, self.values))
        return self._layers(embed, WrittenCache(keys, values, EachRow(position), span))
