"""What holds all stacks of a workload to the same length, where the model is not left to decide.

Upstream's loop runs as it is: it gets a limit, its head is kept from ending early, and its draws may be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.instruments.swapping import swapped, wrapped
from ttsbench.model.speech import SPEECH_TOKENS

UPSTREAM_TOKENS_MAX = 1000


@dataclass(frozen=True)
class Length:
    """How many speech tokens an utterance gets: a fixed number, replayed tokens, or as many as the model likes."""

    fixed: int | None = None
    replay: tuple[tuple[int, ...], ...] = ()

    @property
    def natural(self) -> bool:
        """The model decides."""
        return self.fixed is None and not self.replay

    def tokens_of(self, text_index: int) -> tuple[int, ...] | None:
        """The tokens to be forced, if any."""
        return self.replay[text_index] if self.replay else None

    def limit(self, text_index: int) -> int:
        """The most tokens that the loop may draw."""
        forced = self.tokens_of(text_index)
        return len(forced) if forced is not None else self.fixed or UPSTREAM_TOKENS_MAX


def without_special_tokens(head: Any) -> torch.nn.Parameter:
    """A bias of -1e4 on every id that is not speech: the same kernels in every stack, and nothing stops early."""
    bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias.detach().clone()
    bias[SPEECH_TOKENS:] = -1e4
    return torch.nn.Parameter(bias, requires_grad=False)


@contextmanager
def forced_draws(tokens: Sequence[int], device: torch.device) -> Iterator[None]:
    """For the package's own loop, which draws by `torch.multinomial` alone."""
    forced = iter(torch.tensor(tokens, dtype=torch.long, device=device).view(-1, 1, 1))

    def wrap(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def draw_and_replace(*args: Any, **kwargs: Any) -> torch.Tensor:
            drawn = draw(*args, **kwargs)
            return next(forced, drawn)

        return draw_and_replace

    with wrapped(torch, "multinomial", wrap):
        yield


@contextmanager
def analyzer_watches_only(t3: Any, *, active: bool) -> Iterator[None]:
    """With a fixed length the multilingual analyzer still looks at every step, but cannot force a stop."""
    if not (active and t3.hp.is_multilingual):
        yield
        return
    from chatterbox.models.t3.inference.alignment_stream_analyzer import AlignmentStreamAnalyzer

    look = AlignmentStreamAnalyzer.step

    def look_and_leave(self: Any, logits: torch.Tensor, next_token: int | None = None) -> torch.Tensor:
        look(self, logits, next_token=next_token)
        return logits

    with swapped(AlignmentStreamAnalyzer, "step", look_and_leave):
        yield
