"""Where S3Gen works while T3 decodes: in a thread and on a CUDA stream of its own, or in turn with T3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import torch

from ttsbench.instruments.tf32 import tf32, tf32_setting
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.compiled import CAPTURES
from ttsbench.optimizations.parts.graphs import RANDOM_STREAM_LOCK, urgent_stream
from ttsbench.streaming.stream import Stream


def why_in_turn(pipeline: Pipeline) -> str:
    """Why S3Gen cannot work beside T3 in this stack; empty where it can."""
    slots = pipeline.slots
    if not pipeline.streaming.overlap:
        return "the workload asks for it"
    if "tf32" in (slots["dtype"], slots["s3gen_dtype"]):
        return "TF32 is allowed for the whole process, and would be for T3 and S3Gen alike"
    if slots["attention"].startswith("sdpa_"):
        return "PyTorch's attention backends are chosen for the whole process, and would be for S3Gen too"
    if slots["s3gen_compile"] in CAPTURES and slots["s3gen_graph"] == "off":
        return "the graphs that Inductor captures belong to the thread that made them"
    if pipeline.device.type == "cpu":
        # At tiny size on two cores: first sound after 0.27 s in turn, after 0.72 s beside T3, and the end no sooner.
        return "on a CPU both share the cores, and a chunk would only come later"
    return ""


class S3GenExecutor:
    """One thread for all of S3Gen's work, so that chunks of several streams take turns and its graphs never run twice
    at once. On a GPU it has a CUDA stream of its own, whose kernels go first.

    What the caller hands over is held until it was copied, and what S3Gen makes is copied before it is let go, so that
    no memory is taken for something else while the other CUDA stream still needs it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda_stream = urgent_stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="s3gen")

    def submit(self, work: Callable[[], None], *, after: torch.cuda.Event | None = None) -> Future[None]:
        """In the order of the calls; on the device, after that event."""
        return self._thread.submit(self._do, work, after)

    def reached(self) -> torch.cuda.Event | None:
        """The present point of the caller's CUDA stream."""
        if self._cuda_stream is None:
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _do(self, work: Callable[[], None], after: torch.cuda.Event | None) -> None:
        if self._cuda_stream is None:
            work()
            return
        # The current device and stream are each thread's own.
        torch.cuda.set_device(self._device)
        with torch.cuda.stream(self._cuda_stream):
            if after is not None:
                self._cuda_stream.wait_event(after)
            work()

    def join(self) -> None:
        """The caller's CUDA stream goes on after what S3Gen has started."""
        if self._cuda_stream is not None:
            torch.cuda.current_stream().wait_stream(self._cuda_stream)


class ChunkSink(Protocol):
    """Passes one stream its tokens."""

    # From when until when T3 waited for the first chunk.
    rested: tuple[float, float]

    def take(self, drawn: torch.Tensor) -> None:
        """As T3 draws them; called by T3's thread, which does not wait for the device here."""

    def finish(self, tokens: torch.Tensor) -> None:
        """All that S3Gen is to make sound of; returns when the last chunk was delivered."""


class InTurnSink:
    """T3 waits while a chunk is made. S3Gen runs outside T3's autocast and settings, as it does after T3."""

    def __init__(self, device: torch.device, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self.rested = (0.0, 0.0)
        self._tf32 = tf32_setting()

    def take(self, drawn: torch.Tensor) -> None:
        with self._outside_of_t3():
            self._stream.receive(drawn, self._stream.now())

    def finish(self, tokens: torch.Tensor) -> None:
        self._stream.finish(tokens.tolist())

    @contextmanager
    def _outside_of_t3(self) -> Iterator[None]:
        with torch.autocast(self._device.type, enabled=False), tf32(self._tf32):
            yield


class ExecutorSink:
    """S3Gen makes chunks in its thread. It reads tokens back on its own CUDA stream, once an event says that they are
    there."""

    def __init__(self, executor: S3GenExecutor, stream: Stream) -> None:
        self._executor, self._stream = executor, stream
        self._begun: list[Future[None]] = []
        self._handed = 0
        self.rested = (0.0, 0.0)

    def take(self, drawn: torch.Tensor) -> None:
        seconds = self._stream.now()
        self._begin(lambda: self._stream.receive(drawn, seconds))
        self._handed += drawn.numel()
        if (
            self._stream.pause_for_first_chunk
            and not self._stream.chunks
            and self._handed >= self._stream.tokens_for_the_first
        ):
            self._rest()
        RANDOM_STREAM_LOCK.let_others_in()  # S3Gen, where it has something to capture

    def finish(self, tokens: torch.Tensor) -> None:
        self._begin(lambda: self._stream.finish(tokens.tolist()))
        for begun in self._begun:
            begun.result()
        self._executor.join()

    def _begin(self, work: Callable[[], None]) -> None:
        self._begun.append(self._executor.submit(work, after=self._executor.reached()))

    def _rest(self) -> None:
        """While the first chunk is made, since T3's next tokens are for later ones. Where some of those handed over are
        no speech the chunk cannot be made yet, and the next hand-over rests again.
        """
        began = self._stream.now()
        with RANDOM_STREAM_LOCK.released():
            self._begun[-1].result()
        if self._stream.chunks:
            self.rested = began, self._stream.now()
