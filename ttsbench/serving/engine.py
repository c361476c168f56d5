"""What answers requests: the pipeline as it is, one after the other, or a batch that they join and leave.

The batch is fair in that nobody is overtaken: requests are taken up in the order in which they were due, the next one
as soon as a slot is free, and S3Gen takes what is ready in the order in which it became so. Between two steps one
request joins at most, so that those who speak wait for one prompt and no longer.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.spoken import SAMPLE_RATE_HZ, tokens_sha256
from ttsbench.optimizations.parts.t3 import Prompt, Request
from ttsbench.records.jobs import Load
from ttsbench.serving.beside import Beside
from ttsbench.serving.calls import Call
from ttsbench.serving.decoder import Speaking
from ttsbench.serving.loop import BatchLoop
from ttsbench.serving.randomness import RandomStream
from ttsbench.serving.voicing import Chunked, Drawn, Whole
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.streamer import streamer_of

# Of natural length, as long as most.
WARM_UP_TOKENS = 250
# A stream's tokens go to S3Gen by so many; a chunk has at least four in most schedules.
HAND_OVER_TOKENS = 4
# Of what is free once the model is there; the rest is S3Gen's, and for graphs.
SHARE_FOR_KEYS_AND_VALUES = 0.5
# For requests at a rate, whose number nobody knows; listeners have as many as they are.
SLOTS_FOR_RATES = 64


class _Clocked:
    """The clock and the answers of every real engine."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._waiting: deque[Call] = deque()
        self._answered: deque[Call] = deque()

    def begin(self) -> None:
        """A new level: the clock starts at zero."""
        self._began = time.perf_counter()

    def now(self) -> float:
        """Seconds of the level."""
        return time.perf_counter() - self._began

    def submit(self, call: Call) -> None:
        """At the end of the queue."""
        self._waiting.append(call)

    def answered(self) -> list[Call]:
        """Since the last call."""
        return [self._answered.popleft() for _ in range(len(self._answered))]

    def hold(self, call: Call, audio_seconds: float) -> None:
        """In the listener's hands, now."""
        call.hold(self.now(), audio_seconds)

    def finish(self, call: Call) -> None:
        """Its last piece was its end; an answer without any ends now."""
        call.finished = call.pieces[-1][0] if call.pieces else self.now()
        self._answered.append(call)


@dataclass
class _Asked:
    """A call that is being decoded, and how many of its tokens S3Gen was given."""

    call: Call
    handed: int = 0


class InTurn(_Clocked):
    """The pipeline, whatever its stack is."""

    slots: int | None = None

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._streamer = streamer_of(pipeline)
        self.streams = self._streamer is not None

    def warm_up(self) -> None:
        """Single utterances were spoken before."""

    def work(self) -> bool:
        """All of one request."""
        if not self._waiting:
            return False
        call, pipeline = self._waiting.popleft(), self._pipeline
        call.started = self.now()
        if self._streamer is not None:
            listener = Listener(lambda samples: self.hold(call, samples.numel() / SAMPLE_RATE_HZ))
            limit = pipeline.length.limit(call.text_index)
            spoken = self._streamer.speak(call.text_index, call.seed, limit, listener=listener)
        else:
            spoken = pipeline.speak(call.text_index, call.seed)
            self.hold(call, spoken.audio_seconds)
        call.tokens, call.tokens_sha256 = spoken.tokens.numel(), tokens_sha256(spoken.tokens)
        self.finish(call)
        return True

    def wait(self, seconds: float) -> None:
        """Nothing is done elsewhere."""
        time.sleep(seconds)

    def abandon(self) -> None:
        """The queue is empty."""
        self._waiting.clear()
        self._answered.clear()

    def evidence(self) -> dict[str, Any]:
        """For the record."""
        return {"engine": "one request after the other"}


class Batch(_Clocked):
    """T3's steps in the caller's thread, for everybody who speaks; S3Gen beside it."""

    def __init__(self, pipeline: Pipeline, loop: BatchLoop, load: Load) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._decoder, self._model = loop.decoder, loop.model
        self._asked_by: dict[Speaking, _Asked] = {}
        self._beside = Beside(self._voicing(load), pipeline.device)
        self.streams = self._beside.voicing.early
        wanted = max([*load.listeners, SLOTS_FOR_RATES if load.rates else 1])
        self._positions = max(self._positions_of(text) for text in range(len(pipeline.texts)))
        self.slots = min(wanted, self._slots_that_fit(load))
        self._decoder.reserve(self.slots, self._positions)

    def _voicing(self, load: Load) -> Whole | Chunked:
        if streamer_of(self._pipeline) is not None:
            return Chunked(self._pipeline, self, load.ttfa_seconds)
        return Whole(self._pipeline, self)

    @torch.inference_mode()
    def _positions_of(self, text_index: int) -> int:
        request, prompt = self._asked(text_index)
        return prompt.embeds.size(1) + request.limit

    def _slots_that_fit(self, load: Load) -> int:
        one, two = (self._decoder.bytes_of(slots, self._positions) for slots in (1, 2))
        if load.memory_gib is not None:
            allowed = int(load.memory_gib * 2**30)
        else:
            allowed = int(free_bytes(self._pipeline.device) * SHARE_FOR_KEYS_AND_VALUES)
        if allowed < one:
            raise CellError(
                f"serve: one utterance needs {one / 2**20:,.0f} MiB for keys and values, and there are "
                f"{allowed / 2**20:,.0f} MiB",
                mend="Give workload.load.memory_gib more, or shorter texts",
            )
        return 1 + (allowed - one) // (two - one)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Everything that steps and S3Gen may need, captured and compiled before somebody waits for it."""
        slots, asked = self._pipeline.slots, [self._asked(text) for text in range(len(self._pipeline.texts))]
        request = asked[0][0]
        if self._decoder.graphs is not None or self._pipeline.compiled or slots["prompt"] != "eager":
            with self._as_in_t3():
                self._decoder.warm_up(request, [prompt.embeds for _, prompt in asked])
        if slots["s3gen_graph"] != "off" or slots["s3gen_compile"] != "off" or slots["vocoder"] == "compile":
            self._beside.warm_up(min(request.limit, WARM_UP_TOKENS))

    def work(self) -> bool:
        """One request joins, everybody who speaks draws a token."""
        with self._as_in_t3():
            joined = self._admit()
            stepped = not self._decoder.idle
            ended = self._decoder.step() if stepped else []
        for speaking in ended:
            self._hand_over_all(speaking)
        if self._beside.voicing.early:
            for speaking, asked in self._asked_by.items():
                self._hand_over_some(speaking, asked)
        return joined or stepped

    def wait(self, seconds: float) -> None:
        """For S3Gen, or for the next request."""
        if self._beside.idle():
            time.sleep(seconds)
        else:
            self._beside.wait(seconds)

    def abandon(self) -> None:
        """All slots are free again, and the queue is empty."""
        self._waiting.clear()
        self._decoder.abandon()
        self._asked_by.clear()
        self._beside.abandon()
        self._answered.clear()

    def evidence(self) -> dict[str, Any]:
        """For the record."""
        return {
            "engine": "one batch",
            "slots": self.slots,
            "positions": self._positions,
            "keys_and_values_bytes": self._decoder.bytes_of(self.slots, self._positions),
            **self._beside.voicing.evidence(),
        }

    def _as_in_t3(self) -> ExitStack:
        contexts = ExitStack()
        for context in self._pipeline.around_t3:
            contexts.enter_context(context())
        return contexts

    def _asked(self, text_index: int) -> tuple[Request, Prompt]:
        asked = self._pipeline.asked_of_t3(text_index)
        request = self._model.request(asked)
        return request, self._model.prompt(asked["t3_cond"], asked["text_tokens"], request.cfg_weight)

    @torch.inference_mode()
    def _admit(self) -> bool:
        if not self._waiting or len(self._decoder.active) == self.slots:
            return False
        call = self._waiting.popleft()
        call.started = self.now()
        request, prompt = self._asked(call.text_index)
        stream = RandomStream.seeded(call.seed, self._pipeline.device)
        forced = self._pipeline.length.tokens_of(call.text_index) or ()
        speaking = self._decoder.join(request, prompt.embeds, stream, forced)
        self._asked_by[speaking] = _Asked(call)
        return True

    def _hand_over_some(self, speaking: Speaking, asked: _Asked) -> None:
        """What is new, if it is worth a message."""
        new = speaking.drawn[asked.handed :]
        if len(new) >= HAND_OVER_TOKENS:
            asked.handed += len(new)
            self._beside.put(Drawn(asked.call, speaking.random, tuple(new), last=False))

    def _hand_over_all(self, speaking: Speaking) -> None:
        """All that is to be spoken, for it has ended."""
        call = self._asked_by.pop(speaking).call
        spoken = self._model.spoken(torch.tensor([speaking.drawn]), speaking.stopped).flatten()
        call.tokens, call.tokens_sha256 = spoken.numel(), tokens_sha256(spoken)
        if tokens := tuple(self._model.sounded(spoken).tolist()):
            self._beside.put(Drawn(call, speaking.random, tokens, last=True))
        else:
            self.finish(call)


def engine(pipeline: Pipeline, load: Load) -> InTurn | Batch:
    """What the stack's `serve` asks for."""
    loop = pipeline.loop
    return Batch(pipeline, loop, load) if isinstance(loop, BatchLoop) else InTurn(pipeline)


def free_bytes(device: torch.device) -> int:
    """On a GPU also what the allocator holds and nobody uses."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
