"""From T3's thread to a synthesizer in S3Gen's: tokens go there, and failures come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future

import torch

from ttsbench.serving.synthesizers import DrawnTokens, Synthesizer
from ttsbench.streaming.executor import S3GenExecutor

# Work that fails while nobody waits is noticed this late at most.
LOOK_SECONDS = 1.0


class SynthesisQueue:
    """Between two of its pieces of work the synthesizer takes all that is new."""

    def __init__(self, synthesizer: Synthesizer, executor: S3GenExecutor) -> None:
        self.synthesizer = synthesizer
        self._executor = executor
        self._lock = threading.Lock()
        self._under_way: list[Future[None]] = []
        # Whether a piece of work stands in the executor's queue; S3Gen's thread alone reads and writes it.
        self._scheduled = False

    def put(self, drawn: Sequence[DrawnTokens]) -> None:
        """What went wrong in the thread before is raised here, and in `wait` and `idle`."""
        self.idle()
        if drawn:
            self._submit(lambda: self._take(drawn))

    def wait(self, seconds: float) -> None:
        """Until something was done, but no longer."""
        with self._lock:
            under_way = tuple(self._under_way)
        futures.wait(under_way, seconds, futures.FIRST_COMPLETED)
        self.idle()

    def idle(self) -> bool:
        """Whether all that was handed over is done."""
        with self._lock:
            done = {work for work in self._under_way if work.done()}
            self._under_way = [work for work in self._under_way if work not in done]
            idle = not self._under_way
        for work in done:
            work.result()
        return idle

    def warm_up(self, tokens: int) -> None:
        """By the thread itself: what is captured keeps the priority of the stream that it was captured on."""
        self._finish(lambda: self.synthesizer.warm_up(tokens))

    def abandon(self) -> None:
        """What was not begun is left undone; returns when the thread rests."""
        self._finish(self.synthesizer.forget)

    def _finish(self, work: Callable[[], None]) -> None:
        self._submit(work)
        while not self.idle():
            self.wait(LOOK_SECONDS)

    def _take(self, drawn: Sequence[DrawnTokens]) -> None:
        for tokens in drawn:
            self.synthesizer.take(tokens)
        self._schedule()

    def _work(self) -> None:
        self._scheduled = False
        if self.synthesizer.work():
            self._schedule()

    def _schedule(self) -> None:
        """Behind all tokens that were handed over by now."""
        if not self._scheduled:
            self._scheduled = True
            self._submit(self._work)

    def _submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            self._under_way.append(self._executor.submit(torch.inference_mode()(work)))
