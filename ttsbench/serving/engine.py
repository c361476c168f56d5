"""What answers requests: the pipeline as it is, one after the other, or a batch that they join and leave.

The batch is fair in that nobody is overtaken: requests are taken up in the order of their moments, the next one as soon
as a slot is free, and S3Gen takes what is ready in the order in which it became so. Between two steps one request joins
at most, so that the others wait for one prompt and no longer.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.swapping import within
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SAMPLE_RATE_HZ, tokens_sha256
from ttsbench.optimizations.parts.t3 import Prompt, Request
from ttsbench.records.jobs import LoadJob
from ttsbench.serving.calls import Call
from ttsbench.serving.decoder import ActiveUtterance
from ttsbench.serving.loop import BatchLoop
from ttsbench.serving.randomness import RandomStream
from ttsbench.serving.synthesis_queue import SynthesisQueue
from ttsbench.serving.synthesizers import ChunkSynthesizer, DrawnTokens, WholeSynthesizer
from ttsbench.streaming.executor import S3GenExecutor
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


class _ClockedEngine:
    """The clock and the queues of every real engine; `load.Engine` says what each method is for."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._waiting: deque[Call] = deque()
        self._answered: deque[Call] = deque()

    def begin(self) -> None:
        self._began = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self._began

    def submit(self, call: Call) -> None:
        self._waiting.append(call)

    def answered(self) -> list[Call]:
        return [self._answered.popleft() for _ in range(len(self._answered))]

    def hold(self, call: Call, audio_seconds: float) -> None:
        call.hold(self.now(), audio_seconds)

    def finish(self, call: Call) -> None:
        """Its last piece was its end; an answer without any ends now."""
        call.finished = call.pieces[-1][0] if call.pieces else self.now()
        self._answered.append(call)


class SequentialEngine(_ClockedEngine):
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
        if not self._waiting:
            return False
        call, pipeline = self._waiting.popleft(), self._pipeline
        call.started = self.now()
        if self._streamer is not None:
            listener = Listener(lambda samples: self.hold(call, samples.numel() / SAMPLE_RATE_HZ))
            limit = pipeline.length.limit(call.text_index)
            speech = self._streamer.speak(call.text_index, call.seed, limit, listener=listener)
        else:
            speech = pipeline.speak(call.text_index, call.seed)
            self.hold(call, speech.audio_seconds)
        call.tokens, call.tokens_sha256 = speech.tokens.numel(), tokens_sha256(speech.tokens)
        self.finish(call)
        return True

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def abandon(self) -> None:
        self._waiting.clear()
        self._answered.clear()

    def evidence(self) -> dict[str, Any]:
        return {"engine": "one request after the other"}


@dataclass
class _Decoding:
    """A call that is being decoded, and how many of its tokens S3Gen was given."""

    call: Call
    handed: int = 0


class BatchEngine(_ClockedEngine):
    """T3's steps in the caller's thread, for all utterances under way; S3Gen beside it."""

    def __init__(self, pipeline: Pipeline, loop: BatchLoop, load: LoadJob) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._decoder, self._model = loop.decoder, loop.model
        self._decoding: dict[ActiveUtterance, _Decoding] = {}
        streamer = streamer_of(pipeline)
        self.streams = streamer is not None
        synthesizer = (
            ChunkSynthesizer(pipeline, self, load.ttfa_seconds) if streamer else WholeSynthesizer(pipeline, self)
        )
        self._synthesis = SynthesisQueue(synthesizer, streamer.executor if streamer else S3GenExecutor(pipeline.device))
        slots = max([*load.listeners, SLOTS_FOR_RATES if load.rates else 1])
        self._positions = max(self._positions_of(text) for text in range(len(pipeline.texts)))
        self.slots = min(slots, self._slots_that_fit(load))
        self._decoder.reserve(self.slots, self._positions)

    @torch.inference_mode()
    def _positions_of(self, text_index: int) -> int:
        request, prompt = self._prompt_of(text_index)
        return prompt.embeds.size(1) + request.limit

    def _slots_that_fit(self, load: LoadJob) -> int:
        for_one, for_two = (self._decoder.bytes_of(slots, self._positions) for slots in (1, 2))
        if load.memory_gib is not None:
            allowed = int(load.memory_gib * 2**30)
        else:
            allowed = int(free_bytes(self._pipeline.device) * SHARE_FOR_KEYS_AND_VALUES)
        if allowed < for_one:
            raise CellError(
                f"serve: one utterance needs {for_one / 2**20:,.0f} MiB for keys and values, and there are "
                f"{allowed / 2**20:,.0f} MiB",
                mend="Give workload.load.memory_gib more, or shorter texts",
            )
        return 1 + (allowed - for_one) // (for_two - for_one)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Everything that steps and S3Gen may need, captured and compiled before somebody waits for it."""
        slots, prompts = self._pipeline.slots, [self._prompt_of(text) for text in range(len(self._pipeline.texts))]
        request = prompts[0][0]
        if self._decoder.graphs is not None or self._pipeline.t3_parts.compiled or slots["prompt"] != "eager":
            with within(self._pipeline.t3_parts.contexts):
                self._decoder.warm_up(request, [prompt.embeds for _, prompt in prompts])
        if slots["s3gen_graph"] != "off" or slots["s3gen_compile"] != "off" or slots["vocoder"] == "compile":
            self._synthesis.warm_up(min(request.limit, WARM_UP_TOKENS))

    def work(self) -> bool:
        """One request joins, and each utterance draws a token."""
        with within(self._pipeline.t3_parts.contexts):
            joined = self._admit()
            stepped = not self._decoder.idle
            ended = self._decoder.step() if stepped else []
        self._synthesis.put([*self._last_tokens(ended), *(self._new_tokens() if self.streams else ())])
        return joined or stepped

    def wait(self, seconds: float) -> None:
        if self._synthesis.idle():
            time.sleep(seconds)
        else:
            self._synthesis.wait(seconds)

    def abandon(self) -> None:
        self._waiting.clear()
        self._decoder.abandon()
        self._decoding.clear()
        self._synthesis.abandon()
        self._answered.clear()

    def evidence(self) -> dict[str, Any]:
        return {
            "engine": "one batch",
            "slots": self.slots,
            "positions": self._positions,
            "keys_and_values_bytes": self._decoder.bytes_of(self.slots, self._positions),
            **self._synthesis.synthesizer.evidence(),
        }

    def _prompt_of(self, text_index: int) -> tuple[Request, Prompt]:
        arguments = self._pipeline.t3_arguments(text_index)
        request = self._model.request(arguments)
        return request, self._model.prompt(arguments["t3_cond"], arguments["text_tokens"], request.cfg_weight)

    @torch.inference_mode()
    def _admit(self) -> bool:
        if not self._waiting or len(self._decoder.active) == self.slots:
            return False
        call = self._waiting.popleft()
        call.started = self.now()
        request, prompt = self._prompt_of(call.text_index)
        stream = RandomStream.seeded(call.seed, self._pipeline.device)
        forced = self._pipeline.length.tokens_of(call.text_index) or ()
        self._decoding[self._decoder.join(request, prompt.embeds, stream, forced)] = _Decoding(call)
        return True

    def _new_tokens(self) -> Iterator[DrawnTokens]:
        """Of utterances under way, as far as they are worth a message."""
        for utterance, decoding in self._decoding.items():
            new = utterance.drawn[decoding.handed :]
            if len(new) >= HAND_OVER_TOKENS:
                decoding.handed += len(new)
                yield DrawnTokens(decoding.call, utterance.random, tuple(new), last=False)

    def _last_tokens(self, ended: Sequence[ActiveUtterance]) -> Iterator[DrawnTokens]:
        """All that S3Gen is to make sound of; without any the answer ends here."""
        for utterance in ended:
            call = self._decoding.pop(utterance).call
            drawn = self._model.returned(torch.tensor([utterance.drawn]), utterance.stopped).flatten()
            call.tokens, call.tokens_sha256 = drawn.numel(), tokens_sha256(drawn)
            if tokens := tuple(self._model.for_s3gen(drawn).tolist()):
                yield DrawnTokens(call, utterance.random, tokens, last=True)
            else:
                self.finish(call)


def engine(pipeline: Pipeline, load: LoadJob) -> SequentialEngine | BatchEngine:
    loop = pipeline.loop
    return BatchEngine(pipeline, loop, load) if isinstance(loop, BatchLoop) else SequentialEngine(pipeline)


def free_bytes(device: torch.device) -> int:
    """On a GPU also what the allocator holds and nobody uses."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
