"""S3Gen beside T3: a thread that makes sound of what T3's thread hands over, on a GPU on a CUDA stream of its own."""

from __future__ import annotations

import queue
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ttsbench.serving.voicing import Drawn, Voicing


class Beside:
    """Messages are taken in the order in which they came, as many at once as the voicing likes."""

    def __init__(self, voicing: Voicing, device: torch.device) -> None:
        self.voicing = voicing
        self._device = device
        self._inbox: queue.SimpleQueue[Drawn] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._given = self._done = 0
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, name="s3gen", daemon=True).start()

    def put(self, message: Drawn) -> None:
        """For the thread. What went wrong in it before is raised here."""
        self._refuse_failure()
        self._given += 1
        self._inbox.put(message)

    def wait(self, seconds: float) -> None:
        """Until something was done, but no longer."""
        with self._changed:
            if self._done < self._given:
                self._changed.wait(seconds)
        self._refuse_failure()

    def idle(self) -> bool:
        """Whether all that was handed over is done."""
        self._refuse_failure()
        return self._done == self._given

    def abandon(self) -> None:
        """What was not begun is left undone; returns when the thread rests."""
        while True:
            try:
                self._inbox.get_nowait()
            except queue.Empty:
                break
            with self._changed:
                self._done += 1
        while not self.idle():
            self.wait(1.0)
        self.voicing.forget()

    def _refuse_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        stream: AbstractContextManager[Any] = nullcontext()
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # which is each thread's own
            stream = torch.cuda.stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
        with stream, torch.inference_mode():
            while True:
                messages = self._some()
                try:
                    self.voicing.speak(messages)
                except BaseException as failure:  # noqa: BLE001  (it is raised where the server works)
                    self._failure = failure
                with self._changed:
                    self._done += len(messages)
                    self._changed.notify_all()

    def _some(self) -> list[Drawn]:
        """At least one, and what else is there by now."""
        messages = [self._inbox.get()]
        while len(messages) < self.voicing.together:
            try:
                messages.append(self._inbox.get_nowait())
            except queue.Empty:
                break
        return messages
