"""T3 for several utterances at once: they join and leave between steps, and one step draws a token for each.

Everything that belongs to an utterance is its own: its rows of the cache and their position, the tokens seen so far,
temperature and guidance, the limit, the random stream. So it draws the tokens that it would draw alone, whoever shares
the step with it; only the rounding of products may differ, since a library sums another number of rows in another
order. Slots are filled from the first one on; a step computes a bucket of them, and each bucket has a CUDA graph of its
own. Noise is drawn outside of it, row by row, each from its own stream.

On a GPU the host reads tokens one step behind the device, so that the device never waits; a draw that was made beyond
the stop is taken back from the utterance's stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from ttsbench.optimizations.cache import SPAN, spanned
from ttsbench.optimizations.parts.host_copy import HostCopy
from ttsbench.optimizations.parts.next_token import NOT_FORCED, LogitsTaker, next_tokens
from ttsbench.optimizations.parts.step_graphs import StepGraphs
from ttsbench.optimizations.parts.t3 import Model, Request
from ttsbench.optimizations.sampler import LeanSampler
from ttsbench.serving.backbone import BatchedBackbone
from ttsbench.serving.randomness import RandomStream

GUIDED_ROWS = 2


@dataclass(eq=False)
class ActiveUtterance:
    """One utterance while it is decoded; `drawn` are the tokens that the host knows."""

    request: Request
    random: RandomStream
    prompt_length: int
    slot: int
    drawn: list[int] = field(default_factory=list)
    # Draws that were started, on the device perhaps not done yet.
    launched: int = 1
    stopped: bool = False

    @property
    def ended(self) -> bool:
        """Whether all of its tokens are known."""
        return self.stopped or len(self.drawn) == self.request.limit

    @property
    def positions(self) -> int:
        """That its next draw, or the present one, attends to."""
        return self.prompt_length + self.launched - 1


class Decoder:
    """The slots and all that lives in them. Slot n has rows n·k to n·k+k-1, k being two with guidance."""

    def __init__(self, model: Model, *, captured: bool) -> None:
        t3 = model.t3
        self.model = model
        self.backbone = BatchedBackbone(t3.tfmr)
        self.rows_per_slot = 1 if t3.is_gpt else GUIDED_ROWS
        self.graphs = StepGraphs(self._state) if captured else None
        self.active: dict[int, ActiveUtterance] = {}
        self.joined = self.steps = self.tokens = self.moves = self.most_at_once = 0
        self.on_logits: LogitsTaker | None = None
        self._device = t3.device
        self._lag = 1 if self._device.type == "cuda" else 0
        self._unread: deque[tuple[list[tuple[ActiveUtterance, int]], HostCopy]] = deque()
        self._ended: list[ActiveUtterance] = []
        self.reserve(1, 1)

    def reserve(self, slots: int, positions: int) -> None:
        """New memory for so many utterances of so many positions; none may be under way."""
        assert self.idle
        head, device = self.model.t3.speech_head, self._device
        self.backbone.reserve(slots * self.rows_per_slot, positions, head.weight.dtype)
        self.sampler = LeanSampler(self.model, slots)
        self._token = torch.zeros(slots, 1, dtype=torch.long, device=device)
        self._forced = torch.full((slots, spanned(positions)), NOT_FORCED, device=device)
        self._step, self._position, self._going = torch.zeros(3, slots, dtype=torch.long, device=device).unbind()
        self._cfg_weight = torch.zeros(slots, 1, dtype=head.weight.dtype, device=device)
        self._race = torch.ones(slots, head.out_features, device=device)
        self._logits = torch.zeros(slots * self.rows_per_slot, head.out_features, device=device)
        if self.graphs is not None:
            self.graphs.forget()

    def stage_prompts(self) -> None:
        """Gives prompts that are captured a place of their own."""
        self.backbone.staging_rows = self.rows_per_slot
        self.reserve(self.slots, self.backbone.positions)

    def bytes_of(self, slots: int, positions: int) -> int:
        """What keys and values of so many take."""
        dtype = self.model.t3.speech_head.weight.dtype
        return self.backbone.bytes_of(slots * self.rows_per_slot, positions, dtype)

    @property
    def slots(self) -> int:
        """How many utterances there is memory for."""
        return self._token.size(0)

    @property
    def idle(self) -> bool:
        """Whether nobody speaks, and everybody who has ended was told of."""
        return not (self.active or self._unread or self._ended)

    @torch.inference_mode()
    def warm_up(self, request: Request, prompts: Iterable[torch.Tensor]) -> None:
        """Compiles and captures all that a step or a prompt may need, so that nobody has to wait for it later."""
        assert self.idle
        for embeds in prompts:
            self.backbone.prefill(embeds.expand(self.rows_per_slot, -1, -1), request.limit)
        self.sampler.begin(request.sampling, request.limit)
        for bucket in sorted({self._bucket(slots) for slots in range(1, self.slots + 1)}):
            for span in range(SPAN, self.backbone.positions + 1, SPAN):
                self._run(bucket, span)

    @torch.inference_mode()
    def join(
        self, request: Request, embeds: torch.Tensor, random: RandomStream, forced: Sequence[int] = ()
    ) -> ActiveUtterance:
        """Reads a prompt into the first free slot, and draws its first token."""
        slot = next(slot for slot in range(self.slots) if slot not in self.active)
        speaking = self.active[slot] = ActiveUtterance(request, random, embeds.size(1), slot)
        self.joined += 1
        self._set_up(speaking, forced)
        self.backbone.first_row = slot * self.rows_per_slot
        hidden = self.backbone.prefill(embeds.expand(self.rows_per_slot, -1, -1), request.limit)
        on_logits, only = self.on_logits, slice(slot, slot + 1)
        random.draw_first(self._race[only])
        self._token[only] = token = next_tokens(
            self.model,
            self.sampler.at(slot),
            hidden,
            self._cfg_weight[only],
            on_logits=None if on_logits is None else lambda logits: on_logits(logits[: embeds.size(0)]),
            noise=self._race[only],
            forced=self._forced[only, :1],
            first=True,
        )
        self._launched([(speaking, 0)], token)
        return speaking

    def _set_up(self, speaking: ActiveUtterance, forced: Sequence[int]) -> None:
        """Everything of its own in its slot."""
        slot, request = speaking.slot, speaking.request
        self.sampler.begin(request.sampling, request.limit, slot)
        self._cfg_weight[slot] = request.cfg_weight
        self._step[slot], self._position[slot], self._going[slot] = 1, speaking.prompt_length, 1
        self._forced[slot] = NOT_FORCED
        tokens = torch.tensor(forced[: request.limit], dtype=torch.long, device=self._device)
        self._forced[slot, : tokens.numel()] = tokens

    @torch.inference_mode()
    def step(self) -> list[ActiveUtterance]:
        """One token for everybody. Returns who is known to have ended since the last call."""
        self._close_ranks()
        speaking = list(self.active.values())
        if speaking:
            for one in speaking:
                one.random.draw(self._race[one.slot])
                one.launched += 1
            bucket = self._bucket(max(self.active) + 1)
            self._run(bucket, spanned(max(one.positions for one in speaking)))
            self.steps += 1
            self.tokens += len(speaking)
            self.most_at_once = max(self.most_at_once, len(speaking))
            self._launched([(one, one.slot) for one in speaking], self._token[:bucket])
        else:
            self._read(0)
        ended, self._ended = self._ended, []
        return ended

    def abandon(self) -> None:
        """Everybody leaves, whatever is left to say."""
        for speaking in list(self.active.values()):
            self._leave(speaking)
        self._read(0)
        self._ended = []

    def _launched(self, places: list[tuple[ActiveUtterance, int]], tokens: torch.Tensor) -> None:
        """Draws are under way; who has no more to come makes room, and tokens that are there by now are read."""
        self._unread.append((places, HostCopy(tokens)))
        for one, _ in places:
            if one.launched == one.request.limit:
                self._leave(one)
        self._read(self._lag)

    def _read(self, lag: int) -> None:
        """All but the last few."""
        while len(self._unread) > lag:
            places, copy = self._unread.popleft()
            tokens = copy.read()
            for speaking, place in places:
                if speaking.ended:  # drawn beyond the stop
                    continue
                speaking.stopped = self.model.stops(tokens[place], len(speaking.drawn))
                speaking.drawn.append(tokens[place])
                if speaking.ended:
                    speaking.random.rewind(len(speaking.drawn))
                    self._leave(speaking)
                    self._ended.append(speaking)

    def _leave(self, speaking: ActiveUtterance) -> None:
        if self.active.get(speaking.slot) is speaking:
            del self.active[speaking.slot]
            self._going[speaking.slot] = 0

    def _bucket(self, slots: int) -> int:
        """The next power of two, as far as there are slots."""
        return min(1 << (slots - 1).bit_length(), self.slots)

    def _close_ranks(self) -> None:
        """Who speaks in a high slot moves to a free low one, where the step becomes smaller by it."""
        while self.active and self._bucket(len(self.active)) < self._bucket(max(self.active) + 1):
            self._move(self.active.pop(max(self.active)))

    def _move(self, speaking: ActiveUtterance) -> None:
        source = speaking.slot
        target = speaking.slot = next(slot for slot in range(self.slots) if slot not in self.active)
        self.active[target] = speaking
        self.moves += 1
        old, new = (slice(slot * self.rows_per_slot, (slot + 1) * self.rows_per_slot) for slot in (source, target))
        self.backbone.move(old, new, speaking.positions)
        self.sampler.move(source, target)
        for held in (self._token, self._forced, self._step, self._position, self._going, self._cfg_weight):
            held[target] = held[source]
        self._going[source] = 0

    def _run(self, bucket: int, span: int) -> None:
        if self.graphs is None:
            self._one_step(bucket, span)
        else:
            key = (bucket, span, self.sampler.structure, self.on_logits is not None)
            self.graphs(key, lambda: self._one_step(bucket, span))
        if self.on_logits is not None:
            self.on_logits(self._logits[: bucket * self.rows_per_slot])

    def _one_step(self, slots: int, span: int) -> None:
        """From everybody's last token to the next one, on the device alone."""
        step, position, going = self._step[:slots], self._position[:slots], self._going[:slots]
        embed = self.model.embed(self._token[:slots], step)
        hidden = self.backbone.forward_one(
            embed.repeat_interleave(self.rows_per_slot, dim=0), position.repeat_interleave(self.rows_per_slot), span
        )
        tokens = next_tokens(
            self.model,
            self.sampler,
            hidden,
            self._cfg_weight[:slots],
            on_logits=None if self.on_logits is None else self._logits[: hidden.size(0)].copy_,
            noise=self._race[:slots],
            forced=self._forced[:slots].gather(1, step[:, None]),
        )
        self._token[:slots].copy_(tokens)
        step += going
        position += going

    def _state(self) -> tuple[torch.Tensor, ...]:
        return (self._token, self._step, self._position, *self.sampler.state)
