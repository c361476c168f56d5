"""Slot `qkv`: query, key and value of a Llama layer by three products, or by one over all their weights.

The weights are laid side by side once, and the layer's own parameters become views of that: no memory is added, and
whatever else reads them reads the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.llama_attention import Projected, attest_part, in_place
from ttsbench.optimizations.parts.modules import Counted


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives each attention one product in the place of three."""
    if option == "fused":
        for attending in in_place(pipeline.tts.t3.tfmr):
            attending.project = Counted(OneProduct(attending.attention))


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """In how many layers there is one product, and how often it was called."""
    return attest_part(pipeline, "qkv", option, "project", wanted=option == "fused")


class OneProduct:
    """Holds the weights side by side."""

    def __init__(self, attention: Any) -> None:
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._widths = [projection.out_features for projection in projections]
        self._weight = self._side_by_side([projection.weight for projection in projections])
        biases = [projection.bias for projection in projections]
        self._bias = None if biases[0] is None else self._side_by_side(biases)
        # What slot `linear` exchanges.
        self.multiply: Callable[..., torch.Tensor] = functional.linear

    def __call__(self, hidden_states: torch.Tensor) -> Projected:
        """Query, key and value."""
        projected = self.multiply(hidden_states, self._weight, self._bias)
        return torch.split(projected, self._widths, dim=-1)

    def _side_by_side(self, parameters: list[torch.Tensor]) -> torch.Tensor:
        joined = torch.cat([parameter.data for parameter in parameters])
        for parameter, part in zip(parameters, torch.split(joined, self._widths), strict=True):
            parameter.data = part
        return joined
