"""A prompt read by replay.

It is filled up to its bucket behind its end, where causal attention does not look; what those positions leave in the
cache is written over by the steps before any of them attends to it.
"""

from __future__ import annotations

import torch

from ttsbench.optimizations.parts.backbones import Backbone, WritingBackbone
from ttsbench.optimizations.parts.buckets import round_up
from ttsbench.optimizations.parts.graphs import Graphs

# Divides the cache's span, so that a bucket always fits. The work grows with it, the number of captures shrinks.
BUCKET = 64


class ReplayedPrompt:
    def __init__(self, backbone: Backbone) -> None:
        assert isinstance(backbone, WritingBackbone)
        self._backbone = backbone
        self._allocation = 0
        self.graphs = Graphs()

    def __call__(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden states of the prompt's positions, whose keys and values are in the cache."""
        if self._allocation != self._backbone.allocations:  # graphs write where it was when they were captured
            self._allocation = self._backbone.allocations
            self.graphs.forget()
        rows, prompt, width = embeds.shape
        bucket = round_up(prompt, BUCKET)
        filled = embeds.new_zeros(rows, bucket, width)
        filled[:, :prompt] = embeds
        return self.graphs((rows, bucket), self._backbone.read_eagerly, filled)[:, :prompt]
