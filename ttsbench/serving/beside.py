"""S3Gen beside T3: a thread that makes sound of what T3's thread hands over, on a GPU on a CUDA stream of its own."""

from __future__ import annotations

import queue
import threading
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.optimizations.parts.graphs import urgent_stream
from ttsbench.serving.voicing import Drawn, Voicing


class Beside:
    """Messages are taken as they come; between two of its pieces of work the voicing is told of all that is new."""

    def __init__(self, voicing: Voicing, device: torch.device) -> None:
        self.voicing = voicing
        self._device = device
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._given = self._taken = 0
        self._busy = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="s3gen", daemon=True).start()

    def put(self, message: Drawn) -> None:
        """For the thread. What went wrong in it before is raised here."""
        self._refuse_failure()
        self._put(message)

    def wait(self, seconds: float) -> None:
        """Until something was done, but no longer."""
        with self._changed:
            if not self._at_rest():
                self._changed.wait(seconds)
        self._refuse_failure()

    def idle(self) -> bool:
        """Whether all that was handed over is done."""
        self._refuse_failure()
        with self._changed:
            return self._at_rest()

    def warm_up(self, tokens: int) -> None:
        """By the thread itself: what is captured keeps the priority of the stream that it was captured on."""
        self._put(_WarmUp(tokens))
        self._finish()

    def abandon(self) -> None:
        """What was not begun is left undone; returns when the thread rests."""
        self._put(_Abandon())
        self._finish()

    def _put(self, message: Message) -> None:
        self._given += 1
        self._inbox.put(message)

    def _finish(self) -> None:
        while not self.idle():
            self.wait(1.0)

    def _at_rest(self) -> bool:
        return self._taken == self._given and not self._busy

    def _refuse_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        stream: AbstractContextManager[Any] = nullcontext()
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # which is each thread's own
            stream = torch.cuda.stream(urgent_stream(self._device))
        with stream, torch.inference_mode():
            while True:
                messages = self._new()
                try:
                    self._take(messages)
                    more = self.voicing.work()
                except BaseException as failure:  # noqa: BLE001  (it is raised where the server works)
                    self._failure, more = failure, False
                with self._changed:
                    self._taken += len(messages)
                    self._busy = more
                    self._changed.notify_all()

    def _new(self) -> list[Message]:
        """What is there by now; at least one message, where there is nothing else to do."""
        messages: list[Message] = [] if self._busy else [self._inbox.get()]
        with suppress(queue.Empty):
            while True:
                messages.append(self._inbox.get_nowait())
        return messages

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, _Abandon):
                self.voicing.forget()
            elif isinstance(message, _WarmUp):
                self.voicing.warm_up(message.tokens)
            else:
                self.voicing.take(message)


class _Abandon:
    """In the place of a message: all before it is void."""


@dataclass(frozen=True)
class _WarmUp:
    """In the place of a message: what utterances of so many tokens will need."""

    tokens: int


Message = Drawn | _Abandon | _WarmUp
