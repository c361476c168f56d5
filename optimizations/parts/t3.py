"""T3's two architectures as our own loops see them: how a prompt is built, a token embedded, an answer ended."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from chatterbox.models.s3gen.const import S3GEN_SIL
from chatterbox.models.s3tokenizer import SPEECH_VOCAB_SIZE

from ttsbench.model.guidance import guided


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, whichever parameters the family knows."""

    temperature: float
    repetition_penalty: float
    top_p: float
    min_p: float = 0.0
    top_k: int = 0


def sampling_of(arguments: dict[str, Any]) -> Sampling:
    """From the arguments of the package's method, by upstream's names and with upstream's meanings."""
    return Sampling(**{field.name: arguments[field.name] for field in fields(Sampling) if field.name in arguments})


@dataclass(frozen=True)
class Request:
    """One utterance, as the package's `generate` asks for it."""

    sampling: Sampling
    limit: int
    cfg_weight: float = 0.0


@dataclass(frozen=True)
class Prompt:
    """What the backbone reads before the first draw; the span is where the text stands in it."""

    embeds: torch.Tensor
    text_span: tuple[int, int]


class Model(Protocol):
    """What differs between the families."""

    t3: Any
    # Llama's penalty always counts the start token; GPT-2's counts it at the first draw only.
    penalizes_start: bool

    def request(self, arguments: dict[str, Any]) -> Request:
        """From the arguments of the package's method."""

    def prompt(self, t3_cond: Any, text_tokens: torch.Tensor, cfg_weight: float) -> Prompt:
        """Condition, text and start of speech."""

    def embed(self, token: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """The embedding of the token that was drawn last, (rows, 1, width), for each row's draw of that number."""

    def guided(self, logits: torch.Tensor, cfg_weight: float | torch.Tensor) -> torch.Tensor:
        """What is drawn from: one row for each utterance."""

    def stops(self, token: int, step: int) -> bool:
        """Whether the utterance ends with this draw."""

    def returned(self, drawn: torch.Tensor, stopped: bool) -> torch.Tensor:
        """What the package's method would return."""

    def for_s3gen(self, tokens: torch.Tensor) -> torch.Tensor:
        """Of one row of that, what the package's `generate` hands to S3Gen."""


class Llama:
    """As in `T3.inference`: two rows with guidance, the start of speech fed twice, positions that are learned."""

    penalizes_start = True

    def __init__(self, t3: Any) -> None:
        self.t3 = t3

    def request(self, arguments: dict[str, Any]) -> Request:
        return Request(sampling_of(arguments), arguments["max_new_tokens"], float(arguments["cfg_weight"]))

    def prompt(self, t3_cond: Any, text_tokens: torch.Tensor, cfg_weight: float) -> Prompt:
        """Upstream feeds the start of speech twice; the model was trained so."""
        text_tokens = text_tokens.to(self.t3.device, torch.long)
        start = text_tokens.new_full((text_tokens.size(0), 1), self.t3.hp.start_speech_token)
        embeds, text_start = self.t3.prepare_input_embeds(
            t3_cond=t3_cond, text_tokens=text_tokens, speech_tokens=start, cfg_weight=cfg_weight
        )
        again = self.t3.speech_emb(start) + self.t3.speech_pos_emb.emb.weight[0]
        return Prompt(torch.cat([embeds, again], dim=1), (text_start, text_start + text_tokens.size(1)))

    def embed(self, token: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        embedded = self.t3.speech_emb(token) + self.t3.speech_pos_emb.emb.weight.index_select(0, step)[:, None]
        assert isinstance(embedded, torch.Tensor)
        return embedded

    def guided(self, logits: torch.Tensor, cfg_weight: float | torch.Tensor) -> torch.Tensor:
        """A single row is that of an utterance with `cfg_weight` 0."""
        return logits if logits.size(0) == 1 else guided(logits, cfg_weight)

    def stops(self, token: int, step: int) -> bool:
        return bool(token == self.t3.hp.stop_speech_token)

    def returned(self, drawn: torch.Tensor, stopped: bool) -> torch.Tensor:
        """Upstream hands the stop token on."""
        return drawn

    def for_s3gen(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[tokens < SPEECH_VOCAB_SIZE]


class Gpt2:
    """As in `T3.inference_turbo`: one row, no guidance, the backbone's own positions."""

    penalizes_start = False

    def __init__(self, t3: Any) -> None:
        self.t3 = t3

    def request(self, arguments: dict[str, Any]) -> Request:
        """The first draw is not counted by `max_gen_len`."""
        return Request(sampling_of(arguments), arguments.get("max_gen_len", 1000) + 1)

    def prompt(self, t3_cond: Any, text_tokens: torch.Tensor, cfg_weight: float) -> Prompt:
        start = torch.full_like(text_tokens[:, :1], self.t3.hp.start_speech_token)
        embeds, text_start = self.t3.prepare_input_embeds(
            t3_cond=t3_cond, text_tokens=text_tokens, speech_tokens=start, cfg_weight=0.0
        )
        return Prompt(embeds, (text_start, text_start + text_tokens.size(1)))

    def embed(self, token: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """The token; GPT-2 adds its positions itself."""
        embedded = self.t3.speech_emb(token)
        assert isinstance(embedded, torch.Tensor)
        return embedded

    def guided(self, logits: torch.Tensor, cfg_weight: float | torch.Tensor) -> torch.Tensor:
        return logits

    def stops(self, token: int, step: int) -> bool:
        """At the stop token, which upstream does not look for at the first draw."""
        return step > 0 and bool(token == self.t3.hp.stop_speech_token)

    def returned(self, drawn: torch.Tensor, stopped: bool) -> torch.Tensor:
        return drawn[:, :-1] if stopped else drawn

    def for_s3gen(self, tokens: torch.Tensor) -> torch.Tensor:
        """Speech tokens, and three of silence after them."""
        return torch.cat([tokens[tokens < SPEECH_VOCAB_SIZE], tokens.new_full((3,), S3GEN_SIL)])


def model_of(t3: Any) -> Model:
    return Gpt2(t3) if t3.is_gpt else Llama(t3)
