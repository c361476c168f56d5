"""The loop of `decode: cuda_graph`: one step of T3 captured as a graph and replayed for every token.

Everything that changes between steps lives on the device and is changed by the step itself: the token, its position,
the mask that follows from it, the tokens seen so far, the random stream. What changes between utterances (guidance,
temperature and the like) is written into the same places, so that no call needs a new capture. The host only starts
replays, and looks for the stop token a few steps behind the device.
"""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.optimizations.parts.backbones import StaticBackbone
from ttsbench.optimizations.parts.host_copy import HostCopy
from ttsbench.optimizations.parts.lean_loop import LeanLoop
from ttsbench.optimizations.parts.next_token import NOT_FORCED, next_tokens
from ttsbench.optimizations.parts.random_stream import Draws, of_process
from ttsbench.optimizations.parts.samplers import LeanSampler
from ttsbench.optimizations.parts.step_graphs import StepGraphs
from ttsbench.optimizations.parts.t3 import Request

# The host looks at every so many tokens. In the worst case twice as many steps are replayed in vain: 8 × 1.4 ms.
LOOK_EVERY = 4


class GraphLoop(LeanLoop):
    option = "cuda_graph"
    backbone: StaticBackbone
    sampler: LeanSampler

    def __init__(self, t3: Any) -> None:
        super().__init__(t3)
        device = t3.device
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._step = torch.zeros(1, dtype=torch.long, device=device)
        self._cfg_weight = torch.zeros((), dtype=t3.speech_head.weight.dtype, device=device)
        self._drawn = torch.zeros(1, 0, dtype=torch.long, device=device)
        self._forced = self._drawn.clone()
        # Where captured steps put the logits of so many rows; graphs hold the address, so it never changes.
        self._taken: dict[int, torch.Tensor] = {}
        self._memory: tuple[int, int] = (0, 0)
        self._graphs = StepGraphs(self._state, of_process(device))

    def evidence(self) -> dict[str, Any]:
        return super().evidence() | self._graphs.evidence()

    def _speak(self, embeds: torch.Tensor, request: Request, analyzer: Any) -> tuple[torch.Tensor, bool]:
        """The first draw comes from the prompt's last logits, every other one from a replay."""
        self._set_up(request)
        draws = Draws(of_process(embeds.device))
        hidden = self.backbone.prefill(embeds, request.limit)
        self._token.copy_(self._next_token(hidden, self._cfg_weight, 0))
        self._drawn[:, 0] = self._token[0]
        draws.first_is_over()
        self._forget_graphs_of_other_memory()
        watch = _StopWatch(self, request.limit)
        for step in range(1, request.limit):
            self._replay(embeds.size(0))
            if (stop := watch.look(step)) is not None:
                draws.rewind(stop + 1)
                return self._drawn[:, : stop + 1].clone(), True
        stop = watch.last_look()
        if stop is not None:
            draws.rewind(stop + 1)
        count = request.limit if stop is None else stop + 1
        return self._drawn[:, :count].clone(), stop is not None

    def _set_up(self, request: Request) -> None:
        """The utterance's parameters in their places, and room for its tokens."""
        if self._drawn.size(1) < request.limit:
            self._drawn = self._token.new_zeros(1, request.limit)
            self._forced = torch.full_like(self._drawn, NOT_FORCED)
            self._graphs.forget()
        self._cfg_weight.fill_(request.cfg_weight)
        self._step.fill_(1)
        self._forced.fill_(NOT_FORCED)
        if self.forced:
            forced = self.forced[: self._forced.size(1)]
            self._forced[0, : len(forced)] = torch.tensor(forced, device=self._forced.device)

    def _forget_graphs_of_other_memory(self) -> None:
        memory = (self.backbone.keys[0].data_ptr(), self.backbone.keys[0].size(2))
        if memory != self._memory:
            self._graphs.forget()
        self._memory = memory

    def _replay(self, rows: int) -> None:
        span, taken = self.backbone.span, None
        if self.on_logits is not None:
            if rows not in self._taken:
                self._taken[rows] = torch.empty(rows, self.model.t3.speech_head.out_features, device=self._token.device)
            taken = self._taken[rows]
        key = (rows, span, self.sampler.structure, bool(self.forced), taken is not None)
        self._graphs(key, lambda: self._one_step(rows, span, taken))
        self.backbone.advance()
        if self.on_logits is not None:
            self.on_logits(self._taken[rows])

    def _state(self) -> tuple[torch.Tensor, ...]:
        return (self._token, self._step, self.backbone.position, *self.sampler.state)

    def _one_step(self, rows: int, span: int, taken: torch.Tensor | None) -> None:
        """From the last token to the next one, on the device alone; the logits also to where they are taken."""
        embed = self.model.embed(self._token, self._step)
        token = next_tokens(
            self.model,
            self.sampler,
            self.backbone.forward_one(embed.expand(rows, -1, -1), self.backbone.position, span),
            self._cfg_weight,
            on_logits=None if taken is None else taken.copy_,
            forced=self._forced.index_select(1, self._step) if self.forced else None,
        )
        self._drawn.index_copy_(1, self._step, token)
        self._token.copy_(token)
        self._step += 1
        self.backbone.position += 1


class _StopWatch:
    """Reads tokens back without holding up the device: what is asked for at one look is read at the next."""

    def __init__(self, loop: GraphLoop, limit: int) -> None:
        self._loop, self._limit = loop, limit
        # From which draw on tokens are on their way to the host, and up to which one.
        self._first = self._last = 0
        self._copy: HostCopy | None = None

    def look(self, step: int) -> int | None:
        """The draw that stopped, if one did among those asked for last time."""
        if step % LOOK_EVERY:
            return None
        stop = self._read()
        self._ask(step + 1)
        return stop

    def last_look(self) -> int | None:
        """At all that is left; waits for the device."""
        if (stop := self._read()) is None:
            self._ask(self._limit)
            stop = self._read()
        return stop

    def _ask(self, count: int) -> None:
        new = self._loop._drawn[:, self._last : count]
        if self._loop.on_tokens is not None:
            self._loop.on_tokens(new)
        self._copy, self._first, self._last = HostCopy(new), self._last, count

    def _read(self) -> int | None:
        tokens = [] if self._copy is None else self._copy.read()
        stops = (step for step, token in enumerate(tokens, self._first) if self._loop.model.stops(token, step))
        return next(stops, None)
