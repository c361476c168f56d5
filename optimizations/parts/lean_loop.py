"""Our own loop over T3.

In fp32 it draws the same tokens as upstream's from the same random stream, and leaves out what does not change them:
the progress bar, the hidden states of all layers, a new backend object and its hooks on every call, position embeddings
looked up through a freshly built index, logits of the whole prompt.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ttsbench.model.pipeline import TokenTaker
from ttsbench.optimizations.parts.backbones import Backbone, GrowingBackbone
from ttsbench.optimizations.parts.next_token import NOT_FORCED, LogitsEdit, LogitsTaker, next_tokens
from ttsbench.optimizations.parts.samplers import Sampler, UpstreamSampler
from ttsbench.optimizations.parts.t3 import Request, model_of
from ttsbench.optimizations.target import Target


def own_loop(target: Target) -> LeanLoop:
    """What slots that work inside a loop are for; the rules keep them from the package's own."""
    assert isinstance(target.loop, LeanLoop)
    return target.loop


class LeanLoop:
    """Upstream's `T3.inference` and `T3.inference_turbo`, with guidance and without."""

    option = "lean"

    def __init__(self, t3: Any) -> None:
        self.model = model_of(t3)
        self.backbone: Backbone = GrowingBackbone(t3.tfmr)
        self.sampler: Sampler = UpstreamSampler(self.model)
        self.analyzer = bool(t3.hp.is_multilingual)
        # Tokens to take instead of those drawn, which are drawn all the same.
        self.forced: tuple[int, ...] = ()
        # Is shown the logits of all rows before each draw.
        self.on_logits: LogitsTaker | None = None
        # Is handed the tokens as they are taken, on the device.
        self.on_tokens: TokenTaker | None = None
        self.calls = 0
        self.steps = 0

    def evidence(self) -> dict[str, Any]:
        return {"loop": type(self).__name__, "calls": self.calls, "steps": self.steps}

    def prompts_are_captured(self) -> None:
        """Slot `prompt` reads them by replay from now on."""

    @torch.inference_mode()
    def __call__(self, *, t3_cond: Any, text_tokens: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """The speech tokens, one row, as upstream returns them."""
        self.calls += 1
        request = self.model.request(arguments)
        prompt = self.model.prompt(t3_cond, text_tokens, request.cfg_weight)
        self.sampler.begin(request.sampling, request.limit)
        with self._watching(prompt.text_span) as analyzer:
            drawn, stopped = self._speak(prompt.embeds, request, analyzer)
        self.steps += drawn.size(1)
        return self.model.returned(drawn, stopped)

    def _speak(self, embeds: torch.Tensor, request: Request, analyzer: Any) -> tuple[torch.Tensor, bool]:
        """All tokens that were drawn, and whether the last one is the stop token."""
        steps = torch.arange(request.limit + 1, device=embeds.device)
        drawn = steps[None, : request.limit].clone()
        last = self.model.t3.hp.start_speech_token
        hidden = self.backbone.prefill(embeds, request.limit)
        for step in range(request.limit):
            if step:
                embed = self.model.embed(drawn[:, step - 1 : step], steps[step : step + 1])
                hidden = self.backbone.step(embed.expand(embeds.size(0), -1, -1))
            edit = None if analyzer is None else functools.partial(analyzer.step, next_token=last)
            drawn[:, step] = self._next_token(hidden, request.cfg_weight, step, edit)[0]
            if self.on_tokens is not None:
                self.on_tokens(drawn[:, step : step + 1])
            last = int(drawn[0, step])
            if self.model.stops(last, step):
                return drawn[:, : step + 1], True
        return drawn, False

    def _next_token(
        self, hidden: torch.Tensor, cfg_weight: float | torch.Tensor, step: int, edit: LogitsEdit | None = None
    ) -> torch.Tensor:
        forced = self.forced[step] if step < len(self.forced) else NOT_FORCED
        return next_tokens(
            self.model,
            self.sampler,
            hidden,
            cfg_weight,
            on_logits=self.on_logits,
            edit=edit,
            forced=None if forced == NOT_FORCED else torch.full((1, 1), forced, device=hidden.device),
            first=step == 0,
        )

    @contextmanager
    def _watching(self, text_span: tuple[int, int]) -> Iterator[Any]:
        """The package's alignment analyzer for one call; its hooks and its change of configuration end with it."""
        if not self.analyzer:
            yield None
            return
        from chatterbox.models.t3.inference.alignment_stream_analyzer import (
            LLAMA_ALIGNED_HEADS,
            AlignmentStreamAnalyzer,
        )

        backbone = self.model.t3.tfmr
        layers = [backbone.layers[layer].self_attn for layer, _ in LLAMA_ALIGNED_HEADS]
        before = [set(layer._forward_hooks) for layer in layers]
        attention, outputs = backbone.config._attn_implementation, backbone.config.output_attentions
        try:
            yield AlignmentStreamAnalyzer(backbone, None, text_span, eos_idx=self.model.t3.hp.stop_speech_token)
        finally:
            for layer, known in zip(layers, before, strict=True):
                for handle in set(layer._forward_hooks) - known:
                    del layer._forward_hooks[handle]
            backbone.config._attn_implementation = attention
            backbone.config.output_attentions = outputs
