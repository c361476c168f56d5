"""Slot `decode`: the loop that turns text tokens into speech tokens.

`lean` is our own loop over `t3.tfmr`. In fp32 it draws the same tokens as upstream's from the same random stream,
and leaves out what does not change them: the progress bar, the hidden states of all layers, a new backend object and
its hooks on every call, position embeddings looked up through a freshly built index, logits of the whole prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from transformers import DynamicCache
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ttsbench.errors import CellError
from ttsbench.pipeline import Pipeline


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts the loop in the place of the package's own."""
    if option == "lean":
        t3 = pipeline.tts.t3
        pipeline.loop = LeanGpt2Loop(t3) if t3.is_gpt else LeanLlamaLoop(t3)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which loop ran, and how often; refused when the one asked for did not."""
    loop = pipeline.loop
    lean = isinstance(loop, LeanLlamaLoop | LeanGpt2Loop)
    if lean != (option == "lean") or (lean and loop.calls == 0):
        raise CellError(f"decode: {option} was asked for, and {type(loop).__qualname__} is what ran")
    if not lean:
        return {"loop": f"{loop.__module__}.{getattr(loop, '__qualname__', loop)}"}
    return {"loop": f"{type(loop).__module__}.{type(loop).__name__}", "calls": loop.calls, "steps": loop.steps}


# The list calls itself typed for LongTensor alone, which no tensor is to a type checker.
Warpers = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class LeanLlamaLoop:
    """Upstream's `T3.inference` for Llama backbones, with classifier-free guidance and without."""

    def __init__(self, t3: Any) -> None:
        self._t3 = t3
        self.analyzer = bool(t3.hp.is_multilingual)
        self.calls = 0
        self.steps = 0

    @torch.inference_mode()
    def __call__(
        self,
        *,
        t3_cond: Any,
        text_tokens: torch.Tensor,
        max_new_tokens: int,
        temperature: float,
        cfg_weight: float,
        repetition_penalty: float,
        min_p: float,
        top_p: float,
    ) -> torch.Tensor:
        """The speech tokens, one row, the stop token included where one was drawn."""
        t3 = self._t3
        self.calls += 1
        text_tokens = text_tokens.to(t3.device, torch.long)
        rows = text_tokens.size(0)
        start = text_tokens.new_full((rows, 1), t3.hp.start_speech_token)
        embeds, prompt_start = t3.prepare_input_embeds(
            t3_cond=t3_cond, text_tokens=text_tokens, speech_tokens=start, cfg_weight=cfg_weight
        )
        # Upstream feeds the start of speech twice; the model was trained so.
        position_embeddings = t3.speech_pos_emb.emb.weight
        embeds = torch.cat([embeds, (t3.speech_emb(start) + position_embeddings[0])], dim=1)

        warpers = llama_warpers(temperature, repetition_penalty, min_p, top_p)
        drawn = text_tokens.new_empty((1, max_new_tokens + 1))
        drawn[:, 0] = t3.hp.start_speech_token
        prompt = embeds.size(1)
        positions = torch.arange(prompt + max_new_tokens, device=embeds.device)[None]
        cache = DynamicCache(config=t3.tfmr.config)
        text_span = (prompt_start, prompt_start + text_tokens.size(1))
        with self._watching(text_span) as analyzer:
            hidden = _forward(t3, embeds, positions[:, :prompt], cache)
            for step in range(max_new_tokens):
                logits = t3.speech_head(hidden[:, -1])
                if rows > 1:
                    guidance = torch.as_tensor(cfg_weight, device=logits.device, dtype=logits.dtype)
                    logits = logits[:1] + guidance * (logits[:1] - logits[1:])
                ids = drawn[:, : step + 1]
                if analyzer is not None:
                    logits = analyzer.step(logits, next_token=int(ids[0, -1]))
                token = torch.multinomial(torch.softmax(warpers(ids, logits), dim=-1), num_samples=1)
                drawn[:, step + 1] = token[0]
                self.steps += 1
                if int(token) == t3.hp.stop_speech_token or step + 1 == max_new_tokens:
                    break
                embed = t3.speech_emb(token) + position_embeddings[step + 1]
                hidden = _forward(
                    t3, embed.expand(rows, -1, -1), positions[:, prompt + step : prompt + step + 1], cache
                )
        return drawn[:, 1 : step + 2]

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

        backbone = self._t3.tfmr
        layers = [backbone.layers[layer].self_attn for layer, _ in LLAMA_ALIGNED_HEADS]
        before = [set(layer._forward_hooks) for layer in layers]
        attention, outputs = backbone.config._attn_implementation, backbone.config.output_attentions
        try:
            yield AlignmentStreamAnalyzer(backbone, None, text_span, eos_idx=self._t3.hp.stop_speech_token)
        finally:
            for layer, known in zip(layers, before, strict=True):
                for handle in set(layer._forward_hooks) - known:
                    del layer._forward_hooks[handle]
            backbone.config._attn_implementation = attention
            backbone.config.output_attentions = outputs


class LeanGpt2Loop:
    """Upstream's `T3.inference_turbo`: a GPT-2 backbone, one row, no guidance."""

    def __init__(self, t3: Any) -> None:
        self._t3 = t3
        self.calls = 0
        self.steps = 0

    @torch.inference_mode()
    def __call__(
        self,
        *,
        t3_cond: Any,
        text_tokens: torch.Tensor,
        temperature: float,
        top_k: int,
        top_p: float,
        repetition_penalty: float,
        max_gen_len: int = 1000,
    ) -> torch.Tensor:
        """The speech tokens, one row, without the stop token."""
        t3 = self._t3
        self.calls += 1
        start = torch.full_like(text_tokens[:, :1], t3.hp.start_speech_token)
        embeds, _ = t3.prepare_input_embeds(
            t3_cond=t3_cond, text_tokens=text_tokens, speech_tokens=start, cfg_weight=0.0
        )
        warpers = gpt2_warpers(temperature, top_k, top_p, repetition_penalty)
        drawn = start.new_empty((1, max_gen_len + 1), dtype=torch.long)
        prompt = embeds.size(1)
        positions = torch.arange(prompt + max_gen_len, device=embeds.device)[None]
        cache = DynamicCache(config=t3.tfmr.config)

        hidden = _forward(t3, embeds, positions[:, :prompt], cache)
        # The penalty of the first draw looks at the start token, later ones only at what was drawn.
        ids = start
        for step in range(max_gen_len + 1):
            logits = t3.speech_head(hidden[:, -1])
            token = torch.multinomial(torch.softmax(warpers(ids, logits), dim=-1), num_samples=1)
            drawn[:, step] = token[0]
            ids = drawn[:, : step + 1]
            self.steps += 1
            if int(token) == t3.hp.stop_speech_token:
                return drawn[:, :step]
            if step < max_gen_len:
                hidden = _forward(t3, t3.speech_emb(token), positions[:, prompt + step : prompt + step + 1], cache)
        return drawn


def _forward(t3: Any, embeds: torch.Tensor, positions: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """The backbone's last hidden states; positions are given, so that they need not be counted again."""
    output = t3.tfmr(inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True)
    assert isinstance(output.last_hidden_state, torch.Tensor)
    return output.last_hidden_state


def llama_warpers(temperature: float, repetition_penalty: float, min_p: float, top_p: float) -> Warpers:
    """Upstream's logits processors in upstream's order; top-p 1 keeps everything, so its full sort is left out."""
    warpers: list[LogitsProcessor] = [RepetitionPenaltyLogitsProcessor(penalty=float(repetition_penalty))]
    if temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    warpers.append(MinPLogitsWarper(min_p=min_p))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p=top_p))
    return cast(Warpers, LogitsProcessorList(warpers))


def gpt2_warpers(temperature: float, top_k: int, top_p: float, repetition_penalty: float) -> Warpers:
    """Turbo's: the penalty comes last, as upstream has it."""
    warpers: list[LogitsProcessor] = []
    if temperature > 0 and temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k > 0:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    if repetition_penalty != 1.0:
        warpers.append(RepetitionPenaltyLogitsProcessor(repetition_penalty))
    return cast(Warpers, LogitsProcessorList(warpers))
