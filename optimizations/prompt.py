"""Slot `prompt`: how T3 reads what comes before the first token: conditions, text, start of speech.

Read eagerly, a prompt costs a thousand launches, and the host takes five times as long over them as the device.
Captured once for each bucket of lengths, it is one. In a batch it is read beside the slots, and moved to its own.

A prompt is filled up to its bucket behind its end, where causal attention does not look; what those positions leave in
the cache is written over by the steps before any of them attends to it.
"""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.cache import WritingBackbone
from ttsbench.optimizations.parts.graphs import Graphs
from ttsbench.serving.loop import BatchLoop

# Divides the cache's span, so that a bucket always fits. The work grows with it, the number of captures shrinks.
BUCKET = 64


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts the replay in the place of the layers' calls."""
    if option == "cuda_graph":
        pipeline.loop.backbone.read = replayed = ReplayedPrompt(pipeline.loop.backbone)
        pipeline.before_layers_are_recorded.append(replayed.graphs.forget)
        if isinstance(pipeline.loop, BatchLoop):
            pipeline.loop.decoder.stage_prompts()


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many lengths were captured, and how often a prompt was a replay."""
    read = getattr(getattr(pipeline.loop, "backbone", None), "read", None)
    replayed = read if isinstance(read, ReplayedPrompt) else None
    if (replayed is not None) != (option == "cuda_graph"):
        raise CellError(f"prompt: {option} was asked for, and {type(read).__name__} is what ran")
    if replayed is None:
        return {"captured": 0}
    if not replayed.graphs.replays:
        raise CellError(f"prompt: {option} was asked for, and no prompt was replayed")
    return replayed.graphs.evidence()


class ReplayedPrompt:
    """The layers over a whole prompt, from graphs."""

    def __init__(self, backbone: WritingBackbone) -> None:
        self._backbone = backbone
        self._allocation = 0
        self.graphs = Graphs()

    def __call__(self, embeds: torch.Tensor) -> torch.Tensor:
        """Hidden states of the prompt's positions, whose keys and values are in the cache."""
        if self._allocation != self._backbone.allocations:  # graphs write where it was when they were captured
            self._allocation = self._backbone.allocations
            self.graphs.forget()
        rows, prompt, width = embeds.shape
        bucket = -(-prompt // BUCKET) * BUCKET
        filled = embeds.new_zeros(rows, bucket, width)
        filled[:, :prompt] = embeds
        return self.graphs((rows, bucket), self._backbone.read_eagerly, filled)[:, :prompt]
