"""The batch as a pipeline's loop: a single utterance is a batch of one, and the service takes the decoder from it."""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.instruments.swapping import swapped
from ttsbench.optimizations.parts.lean_loop import LeanLoop
from ttsbench.optimizations.parts.t3 import Request
from ttsbench.serving.decoder import Decoder
from ttsbench.serving.randomness import RandomStream


class BatchLoop(LeanLoop):
    """In the place of a loop for one utterance; its static cache and lean sampler are the decoder's."""

    # Its rows are at positions of their own, which the decoder knows: it takes no step by itself.
    backbone: Any

    def __init__(self, t3: Any, *, captured: bool) -> None:
        super().__init__(t3)
        self.option = "cuda_graph" if captured else "lean"
        self.decoder = Decoder(self.model, captured=captured)
        self.backbone = self.decoder.backbone

    def evidence(self) -> dict[str, Any]:
        return super().evidence() | ({} if self.decoder.graphs is None else self.decoder.graphs.evidence())

    def prompts_are_captured(self) -> None:
        self.decoder.stage_prompts()

    def _speak(self, embeds: torch.Tensor, request: Request, analyzer: Any) -> tuple[torch.Tensor, bool]:
        """From the process's own random stream, as the package's loop."""
        decoder = self.decoder
        if decoder.backbone.positions < embeds.size(1) + request.limit:
            decoder.reserve(decoder.slots, embeds.size(1) + request.limit)
        self.sampler = decoder.sampler  # new memory has a new one
        handed = 0
        with swapped(decoder, "on_logits", self.on_logits):
            utterance = decoder.join(request, embeds, RandomStream.of_process(embeds.device), self.forced)
            while not decoder.idle:
                decoder.step()
                if self.on_tokens is not None and len(utterance.drawn) > handed:
                    self.on_tokens(torch.tensor([utterance.drawn[handed:]]))
                    handed = len(utterance.drawn)
        return torch.tensor([utterance.drawn], device=embeds.device), utterance.stopped
