"""Samplers of our own loops: upstream's chain, the same arithmetic on the device alone, and the same in one kernel."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol, cast

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ttsbench.optimizations.kernels import sampler as kernel
from ttsbench.optimizations.parts.t3 import Model, Sampling

# The list calls itself typed for LongTensor alone, which no tensor is to a type checker.
Warpers = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Sampler(Protocol):
    """Draws tokens and remembers which; `draws` counts."""

    draws: int

    def begin(self, sampling: Sampling, limit: int) -> None:
        """A new utterance."""

    def draw(self, logits: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """The next token of each row, (rows, 1); nothing is remembered yet. Without `noise` it is drawn here."""

    def observe(self, token: torch.Tensor) -> None:
        """The token that was taken in the end, drawn or given."""

    def forget_start(self) -> None:
        """The start of speech is penalized no longer."""


class UpstreamSampler:
    """Transformers' logits processors, as upstream puts them together."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.draws = 0

    def begin(self, sampling: Sampling, limit: int) -> None:
        t3 = self._model.t3
        self._warpers = gpt2_warpers(sampling) if t3.is_gpt else llama_warpers(sampling)
        self._drawn = torch.full((1, limit + 1), t3.hp.start_speech_token, dtype=torch.long, device=t3.device)
        self._first, self._count = 0, 1

    def draw(self, logits: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        assert noise is None
        self.draws += 1
        ids = self._drawn[:, self._first : self._count]
        return torch.multinomial(torch.softmax(self._warpers(ids, logits), dim=-1), num_samples=1)

    def observe(self, token: torch.Tensor) -> None:
        self._drawn[:, self._count] = token[0]
        self._count += 1

    def forget_start(self) -> None:
        """From now on only what was drawn is penalized."""
        self._first = 1


def llama_warpers(sampling: Sampling) -> Warpers:
    """Penalty, temperature, min-p, top-p."""
    warpers: list[LogitsProcessor] = [RepetitionPenaltyLogitsProcessor(penalty=sampling.repetition_penalty)]
    if sampling.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    warpers.append(MinPLogitsWarper(min_p=sampling.min_p))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p=sampling.top_p))
    return cast(Warpers, LogitsProcessorList(warpers))


def gpt2_warpers(sampling: Sampling) -> Warpers:
    """The penalty comes last, as upstream has it."""
    warpers: list[LogitsProcessor] = []
    if sampling.temperature > 0 and sampling.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.repetition_penalty != 1.0:
        warpers.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    return cast(Warpers, LogitsProcessorList(warpers))


class LeanSampler:
    """The same arithmetic on the device alone: parameters in tensors, tokens seen as a mask, nothing waits.

    It serves one utterance, or a row for each of several.
    """

    def __init__(self, model: Model, rows: int = 1) -> None:
        t3 = model.t3
        self._start = t3.hp.start_speech_token
        self._is_gpt2 = t3.is_gpt
        self._tokens = t3.speech_head.out_features
        self._seen = torch.zeros(rows, self._tokens, dtype=torch.bool, device=t3.device)
        # Temperature, penalty, min-p, 1 - top-p, and the reciprocals of the first two.
        self._parameters = torch.ones(rows, 6, device=t3.device)
        self._last_kept = torch.zeros(rows, 1, dtype=torch.long, device=t3.device)
        self._structures: dict[int, tuple[bool, int]] = {}
        self._multiplies = t3.device.type == "cuda"
        self.structure: tuple[Any, ...] = ()
        self.draws = 0

    @property
    def state(self) -> tuple[torch.Tensor, ...]:
        return (self._seen,)

    def begin(self, sampling: Sampling, limit: int, row: int = 0) -> None:
        """New values in the old places; what changes the sequence of kernels is the `structure`, of all rows alike."""
        divisors = torch.tensor([sampling.temperature or 1.0, sampling.repetition_penalty])
        others = torch.tensor([sampling.min_p, 1 - sampling.top_p])
        self._parameters[row].copy_(torch.cat([divisors, others, 1.0 / divisors]))
        kept = min(sampling.top_k or self._tokens, self._tokens)
        self._last_kept[row] = kept - 1
        self._structures[row] = (sampling.top_p < 1.0, kept if sampling.top_k else 0)
        sorts, top_ks = zip(*self._structures.values(), strict=True)
        self.structure = (any(sorts), max(top_ks) if all(top_ks) else self._tokens * any(top_ks))
        self._seen[row].zero_()
        self._seen[row, self._start] = True

    def draw(self, logits: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """The winner of the same race that `torch.multinomial` runs; where each row has its own stream, it is given."""
        self.draws += 1
        warped = self._warped_as_gpt2(logits) if self._is_gpt2 else self._warped_as_llama(logits)
        probabilities = torch.softmax(warped, dim=-1)
        noise = torch.empty_like(probabilities).exponential_(1.0) if noise is None else noise
        return torch.argmax(probabilities.div_(noise), dim=-1, keepdim=True)

    def observe(self, token: torch.Tensor) -> None:
        self._seen[: token.size(0)].scatter_(1, token, True)

    def forget_start(self, row: int = 0) -> None:
        """From now on only what was drawn is penalized."""
        self._seen[row, self._start] = False

    def at(self, row: int) -> LeanSampler:
        only, rows = copy.copy(self), slice(row, row + 1)
        only._seen, only._parameters = self._seen[rows], self._parameters[rows]
        only._last_kept = self._last_kept[rows]
        return only

    def move(self, source: int, target: int) -> None:
        for held in (self._seen, self._parameters, self._last_kept):
            held[target] = held[source]
        self._structures[target] = self._structures[source]

    def _warped_as_llama(self, logits: torch.Tensor) -> torch.Tensor:
        return self._only_likely(self._tempered(self._penalized(logits)))

    def _warped_as_gpt2(self, logits: torch.Tensor) -> torch.Tensor:
        return self._penalized(self._only_likely(self._tempered(logits)))

    def _penalized(self, logits: torch.Tensor) -> torch.Tensor:
        milder = torch.where(logits < 0, logits * self._parameter(1, logits), self._divided(logits, 1))
        return torch.where(self._seen[: logits.size(0)], milder, logits)

    def _tempered(self, logits: torch.Tensor) -> torch.Tensor:
        return self._divided(logits, 0)

    def _divided(self, logits: torch.Tensor, which: int) -> torch.Tensor:
        """As upstream's division by a number of the host: a CPU divides, a GPU multiplies by the reciprocal."""
        if self._multiplies:
            return logits * self._parameter(which + 4, logits)
        return logits / self._parameter(which, logits)

    def _parameter(self, which: int, logits: torch.Tensor) -> torch.Tensor:
        return self._parameters[: logits.size(0), which : which + 1]

    def _only_likely(self, logits: torch.Tensor) -> torch.Tensor:
        """Min-p for Llama, top-k for GPT-2, then top-p for both."""
        sorts, top_k = self.structure
        if top_k:
            least = torch.topk(logits, top_k)[0].gather(1, self._last_kept[: logits.size(0)])
            logits = logits.masked_fill(logits < least, -torch.inf)
        else:
            probabilities = torch.softmax(logits, dim=-1)
            likeliest = probabilities.amax(dim=-1, keepdim=True)
            unlikely = (probabilities < self._parameter(2, logits) * likeliest) & (probabilities < likeliest)
            logits = logits.masked_fill(unlikely, -torch.inf)
        return self._top_p(logits) if sorts else logits

    def _top_p(self, logits: torch.Tensor) -> torch.Tensor:
        ascending, places = torch.sort(logits, descending=False)
        in_tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= self._parameter(3, logits)
        in_tail[:, -1] = False
        return logits.masked_fill(in_tail.scatter(1, places, in_tail), -torch.inf)


class TritonSampler(LeanSampler):
    """The whole chain in one kernel; only the noise is drawn by PyTorch."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._order = "gpt2" if model.t3.is_gpt else "llama"
        self._settings = kernel.settings(model.t3.device)

    def begin(self, sampling: Sampling, limit: int, row: int = 0) -> None:
        """Every parameter is read by the kernel, so none changes what is launched."""
        super().begin(sampling, limit, row)
        self.structure = ()
        self._settings.copy_(kernel.settings(self._settings.device, **asdict(sampling)))

    def draw(self, logits: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        self.draws += 1
        noise = torch.empty_like(logits, dtype=torch.float32).exponential_(1.0) if noise is None else noise
        token = torch.empty((1, 1), dtype=torch.long, device=logits.device)
        return kernel.sample(logits, self._seen, self._settings, noise, token, order=self._order)


SAMPLERS: dict[str, Callable[[Model], Sampler]] = {
    "upstream": UpstreamSampler,
    "lean": LeanSampler,
    "triton": TritonSampler,
}
