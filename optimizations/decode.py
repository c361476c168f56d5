"""Slot `decode`: the loop that turns text tokens into speech tokens.

`lean` is our own loop over T3. In fp32 it draws the same tokens as upstream's from the same random stream, and leaves
out what does not change them: the progress bar, the hidden states of all layers, a new backend object and its hooks on
every call, position embeddings looked up through a freshly built index, logits of the whole prompt. `cuda_graph` is the
same loop with each step captured once and replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline, TokenTaker
from ttsbench.optimizations.cache import Backbone, GrowingBackbone
from ttsbench.optimizations.parts.t3 import Request, model_of
from ttsbench.optimizations.sampler import Sampler, UpstreamSampler

LogitsTaker = Callable[[torch.Tensor], None]


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts the loop in the place of the package's own."""
    from ttsbench.optimizations.parts.cuda_graph import GraphLoop

    if option != "upstream":
        pipeline.loop = {"lean": LeanLoop, "cuda_graph": GraphLoop}[option](pipeline.tts.t3)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which loop ran, and how often; refused when the one asked for did not."""
    loop = pipeline.loop
    ran = loop.option if isinstance(loop, LeanLoop) else "upstream"
    if ran != option or (ran != "upstream" and loop.calls == 0):
        raise CellError(f"decode: {option} was asked for, and {type(loop).__qualname__} is what ran")
    if not isinstance(loop, LeanLoop):
        return {"loop": f"{loop.__module__}.{getattr(loop, '__qualname__', loop)}"}
    return {"loop": type(loop).__name__, "calls": loop.calls, "steps": loop.steps, **loop.evidence()}


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
        """What else it can show for itself."""
        return {}

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
        return self.model.spoken(drawn, stopped)

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
            logits = self._guided(self._logits(hidden), request.cfg_weight)
            if analyzer is not None:
                logits = analyzer.step(logits, next_token=last)
            drawn[:, step] = self._take(logits, step)[0]
            if self.on_tokens is not None:
                self.on_tokens(drawn[:, step : step + 1])
            last = int(drawn[0, step])
            if self.model.stops(last, step):
                return drawn[:, : step + 1], True
        return drawn, False

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.t3.speech_head(hidden[:, -1])
        if self.on_logits is not None:
            self.on_logits(logits)
        return logits

    def _guided(self, logits: torch.Tensor, weight: float | torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance, where there are two rows."""
        if logits.size(0) == 1:
            return logits
        weight = torch.as_tensor(weight, device=logits.device, dtype=logits.dtype)
        return logits[:1] + weight * (logits[:1] - logits[1:])

    def _take(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Draws, and remembers what was drawn or is to be spoken instead."""
        token = self.sampler.draw(logits)
        if step < len(self.forced):
            token = torch.full_like(token, self.forced[step])
        if step == 0 and not self.model.penalizes_start:
            self.sampler.forget_start()
        self.sampler.observe(token)
        return token

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
