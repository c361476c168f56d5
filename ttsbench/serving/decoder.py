"""T3 for several utterances at once: they join and leave between steps, and one step draws a token for each.

Each utterance has its own rows of the cache and their position, tokens seen so far, temperature and guidance, limit and
random stream. So it draws the tokens that it would draw alone, whatever else is in the step; only the rounding of
products may differ, since a library sums another number of rows in another order. Slots are filled from the first one
on; a step computes a bucket of them, and each bucket has a CUDA graph of its own. Noise is drawn outside of it, row by
row, each from its own stream.

On a GPU the host reads tokens one step behind the device, so that the device never waits; a draw that was made beyond
the stop is taken back from the utterance's stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch

from ttsbench.optimizations.parts.backbones import SPAN, spanned
from ttsbench.optimizations.parts.host_copy import HostCopy
from ttsbench.optimizations.parts.next_token import NOT_FORCED, LogitsTaker, next_tokens
from ttsbench.optimizations.parts.samplers import LeanSampler
from ttsbench.optimizations.parts.step_graphs import StepGraphs
from ttsbench.optimizations.parts.t3 import Model, Request
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
        """Whether the host knows all of its tokens."""
        return self.stopped or len(self.drawn) == self.request.limit

    @property
    def positions(self) -> int:
        """How many its next draw, or the present one, attends to."""
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
        self._noise = torch.ones(slots, head.out_features, device=device)
        self._logits = torch.zeros(slots * self.rows_per_slot, head.out_features, device=device)
        if self.graphs is not None:
            self.graphs.forget()

    def stage_prompts(self) -> None:
        """Gives prompts that are captured a place of their own."""
        self.backbone.staging_rows = self.rows_per_slot
        self.reserve(self.slots, self.backbone.positions)

    def bytes_of(self, slots: int, positions: int) -> int:
        """Of keys and values."""
        dtype = self.model.t3.speech_head.weight.dtype
        return self.backbone.bytes_of(slots * self.rows_per_slot, positions, dtype)

    @property
    def slots(self) -> int:
        """How many utterances there is memory for."""
        return self._token.size(0)

    @property
    def idle(self) -> bool:
        """No utterance is under way, and `step` has returned all that ended."""
        return not (self.active or self._unread or self._ended)

    @torch.inference_mode()
    def warm_up(self, request: Request, prompts: Iterable[torch.Tensor]) -> None:
        """Compiles and captures all that steps and these prompts may need."""
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
        utterance = self.active[slot] = ActiveUtterance(request, random, embeds.size(1), slot)
        self.joined += 1
        self._set_up(utterance, forced)
        self.backbone.first_row = slot * self.rows_per_slot
        hidden = self.backbone.prefill(embeds.expand(self.rows_per_slot, -1, -1), request.limit)
        on_logits, only = self.on_logits, slice(slot, slot + 1)
        random.draw_first(self._noise[only])
        self._token[only] = token = next_tokens(
            self.model,
            self.sampler.at(slot),
            hidden,
            self._cfg_weight[only],
            on_logits=None if on_logits is None else lambda logits: on_logits(logits[: embeds.size(0)]),
            noise=self._noise[only],
            forced=self._forced[only, :1],
            first=True,
        )
        self._launched([(utterance, 0)], token)
        return utterance

    def _set_up(self, utterance: ActiveUtterance, forced: Sequence[int]) -> None:
        slot, request = utterance.slot, utterance.request
        self.sampler.begin(request.sampling, request.limit, slot)
        self._cfg_weight[slot] = request.cfg_weight
        self._step[slot], self._position[slot], self._going[slot] = 1, utterance.prompt_length, 1
        self._forced[slot] = NOT_FORCED
        tokens = torch.tensor(forced[: request.limit], dtype=torch.long, device=self._device)
        self._forced[slot, : tokens.numel()] = tokens

    @torch.inference_mode()
    def step(self) -> list[ActiveUtterance]:
        """One token for each utterance. Returns those that are known to have ended since the last call."""
        self._compact()
        utterances = list(self.active.values())
        if utterances:
            for utterance in utterances:
                utterance.random.draw(self._noise[utterance.slot])
                utterance.launched += 1
            bucket = self._bucket(max(self.active) + 1)
            self._run(bucket, spanned(max(utterance.positions for utterance in utterances)))
            self.steps += 1
            self.tokens += len(utterances)
            self.most_at_once = max(self.most_at_once, len(utterances))
            self._launched([(utterance, utterance.slot) for utterance in utterances], self._token[:bucket])
        else:
            self._read(0)
        ended, self._ended = self._ended, []
        return ended

    def abandon(self) -> None:
        """Drops all utterances."""
        for utterance in list(self.active.values()):
            self._free_slot(utterance)
        self._read(0)
        self._ended = []

    def _launched(self, places: list[tuple[ActiveUtterance, int]], tokens: torch.Tensor) -> None:
        """Draws are under way: an utterance without more to come frees its slot, and tokens that are there are read."""
        self._unread.append((places, HostCopy(tokens)))
        for utterance, _ in places:
            if utterance.launched == utterance.request.limit:
                self._free_slot(utterance)
        self._read(self._lag)

    def _read(self, lag: int) -> None:
        """Reads all draws but the last `lag`."""
        while len(self._unread) > lag:
            places, copy = self._unread.popleft()
            tokens = copy.read()
            for utterance, place in places:
                if utterance.ended:  # drawn beyond the stop
                    continue
                utterance.stopped = self.model.stops(tokens[place], len(utterance.drawn))
                utterance.drawn.append(tokens[place])
                if utterance.ended:
                    utterance.random.rewind(len(utterance.drawn))
                    self._free_slot(utterance)
                    self._ended.append(utterance)

    def _free_slot(self, utterance: ActiveUtterance) -> None:
        if self.active.get(utterance.slot) is utterance:
            del self.active[utterance.slot]
            self._going[utterance.slot] = 0

    def _bucket(self, slots: int) -> int:
        """The next power of two, as far as there are slots."""
        return min(1 << (slots - 1).bit_length(), self.slots)

    def _compact(self) -> None:
        """Moves an utterance from a high slot to a free low one, where the step becomes smaller by it."""
        while self.active and self._bucket(len(self.active)) < self._bucket(max(self.active) + 1):
            self._move(self.active.pop(max(self.active)))

    def _move(self, utterance: ActiveUtterance) -> None:
        source = utterance.slot
        target = utterance.slot = next(slot for slot in range(self.slots) if slot not in self.active)
        self.active[target] = utterance
        self.moves += 1
        old, new = (slice(slot * self.rows_per_slot, (slot + 1) * self.rows_per_slot) for slot in (source, target))
        self.backbone.move(old, new, utterance.positions)
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
        """From each utterance's last token to the next one, on the device alone."""
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
            noise=self._noise[:slots],
            forced=self._forced[:slots].gather(1, step[:, None]),
        )
        self._token[:slots].copy_(tokens)
        step += going
        position += going

    def _state(self) -> tuple[torch.Tensor, ...]:
        return (self._token, self._step, self._position, *self.sampler.state)
