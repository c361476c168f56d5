"""Utterances as streams: T3 decodes in the caller's thread, and S3Gen makes chunks of what is there.

On a GPU S3Gen does so beside T3, in a thread and on a CUDA stream of its own; both threads' time is spent in PyTorch,
which lets the other run meanwhile. On a CPU they take turns. T3 stays in the caller's thread, because compilers and
their graphs are bound to threads. S3Gen draws nothing from the process's random stream, so that T3 draws the tokens
that it would draw alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ttsbench.instruments.clock import Timeline, staged_s3gen, staged_t3
from ttsbench.instruments.swapping import swapped
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SAMPLE_RATE_HZ, Speech
from ttsbench.model.voice import copied
from ttsbench.optimizations.parts.graphs import RANDOM_STREAM_LOCK
from ttsbench.records import measurements
from ttsbench.records.measurements import RESIDUAL
from ttsbench.streaming.designs import Design, MakeDesign
from ttsbench.streaming.executor import ChunkSink, ExecutorSink, InTurnSink, S3GenExecutor, why_in_turn
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.stream import Stream
from ttsbench.streaming.synthesis import Conditions, Synthesis
from ttsbench.streaming.watermark import StreamWatermark


def streamer_of(pipeline: Pipeline) -> Streamer | None:
    """Of a stack that streams."""
    return pipeline.generator if isinstance(pipeline.generator, Streamer) else None


class Streamer:
    """Generates utterances in chunks."""

    def __init__(self, pipeline: Pipeline, design: str, make: MakeDesign) -> None:
        self._pipeline = pipeline
        self._make = make
        self.design = design
        self.synthesis = Synthesis(pipeline.tts.s3gen)
        # Empty where S3Gen works beside T3.
        self.in_turn = why_in_turn(pipeline)
        self.executor = S3GenExecutor(pipeline.device)
        # T3 speaks one utterance at a time: its loop, its cache and the process's random stream are one of each.
        self._t3 = threading.Lock()
        self.utterances = self.chunks = 0

    def new_design(self, voice: Conditions, seed: int) -> Design:
        return self._make(self.synthesis, voice, seed, self._pipeline.streaming)

    def new_stream(self, voice: Conditions, seed: int, listener: Listener) -> Stream:
        tts = self._pipeline.tts
        design = self.new_design(voice, seed)
        return Stream(design, self._pipeline.streaming, listener, StreamWatermark(tts.watermarker), tts.t3)

    def speak(
        self, text_index: int, seed: int, limit: int, *, listener: Listener | None = None, voice: Any = None
    ) -> Speech:
        """The whole utterance, once its last chunk was delivered; several threads may call at once."""
        return self._speak(text_index, seed, limit, listener or Listener(), voice)

    def speak_timed(self, text_index: int, seed: int, limit: int, timeline: Timeline) -> tuple[Speech, float]:
        """With the stages of both threads marked; the wall seconds end with the last chunk."""
        listener = Listener()
        marks = timeline.start_concurrent()
        tts = self._pipeline.tts
        with staged_t3(tts, timeline, self._pipeline.backbone), staged_s3gen(tts, marks, RESIDUAL):
            speech = self._speak(text_index, seed, limit, listener, None, timeline)
            timeline.stop()
        assert speech.streamed is not None
        return speech, speech.streamed.chunks[-1].arrived_seconds

    def _speak(
        self,
        text_index: int,
        seed: int,
        limit: int,
        listener: Listener,
        voice: Any,
        timeline: Timeline | None = None,
    ) -> Speech:
        pipeline = self._pipeline
        listener.begin()
        with self._t3, self._speaking_as(voice) as own:
            voice_seconds = listener.now()
            stream = self.new_stream(own.gen, seed, listener)
            stream.marks = timeline and timeline.concurrent
            sink = self._sink(stream)
            decode_began = listener.now()
            with RANDOM_STREAM_LOCK.held():
                arguments, tokens = pipeline.decode(text_index, seed, limit, sink.take)
            decode_ended = listener.now()
        sink.finish(arguments["speech_tokens"])
        pipeline.remember_s3gen_arguments(arguments)
        self.utterances += 1
        self.chunks += len(stream.chunks)
        streamed = measurements.Streamed(
            design=self.design,
            sample_rate_hz=SAMPLE_RATE_HZ,
            at_once=not self.in_turn,
            decode_began_seconds=decode_began,
            decode_ended_seconds=decode_ended,
            consumer_seconds=listener.own_seconds,
            voice_seconds=voice_seconds,
            chunks=tuple(stream.chunks),
            token_seconds=tuple(stream.token_seconds),
            token_counts=tuple(stream.token_counts),
            rest_began_seconds=sink.rested[0],
            rest_ended_seconds=sink.rested[1],
        )
        return Speech(listener.wave, tokens, streamed, listener.first_audio())

    def _sink(self, stream: Stream) -> ChunkSink:
        return InTurnSink(self._pipeline.device, stream) if self.in_turn else ExecutorSink(self.executor, stream)

    @contextmanager
    def _speaking_as(self, voice: Any) -> Iterator[Any]:
        """The model with this utterance's own conditionals, whatever other streams are under way."""
        pipeline = self._pipeline
        own = copied(voice or pipeline.present_voice())
        with swapped(pipeline.tts, "conds", own):
            pipeline.fit_voice()
            yield own
