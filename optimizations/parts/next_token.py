"""From T3's hidden states to the next tokens: of one utterance and of a batch, step by step and within a graph.

Nothing here waits for the device, and everything that a captured step needs is in tensors that stay in their places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ttsbench.optimizations.parts.samplers import Sampler
from ttsbench.optimizations.parts.t3 import Model

LogitsTaker = Callable[[torch.Tensor], object]
LogitsEdit = Callable[[torch.Tensor], torch.Tensor]
NOT_FORCED = -1


def next_tokens(
    model: Model,
    sampler: Sampler,
    hidden: torch.Tensor,
    cfg_weight: float | torch.Tensor,
    *,
    on_logits: LogitsTaker | None = None,
    edit: LogitsEdit | None = None,
    noise: torch.Tensor | None = None,
    forced: torch.Tensor | None = None,
    first: bool = False,
) -> torch.Tensor:
    """One token of each utterance, (utterances, 1): the one drawn, or what `forced` holds in its place.

    `on_logits` is shown the head's logits of all rows, `edit` changes the guided ones before the draw, and `noise` is
    what the sampler draws with, where each utterance has a random stream of its own.
    """
    logits = model.t3.speech_head(hidden[:, -1])
    if on_logits is not None:
        on_logits(logits)
    logits = model.guided(logits, cfg_weight)
    if edit is not None:
        logits = edit(logits)
    tokens = sampler.draw(logits, noise)
    if forced is not None:
        tokens = torch.where(forced == NOT_FORCED, tokens, forced)
    if first and not model.penalizes_start:
        sampler.forget_start()
    sampler.observe(tokens)
    return tokens
