"""Where S3Gen works while T3 decodes: beside it, in a thread and on a CUDA stream of its own, or in turn with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ttsbench.instruments.swapping import swapped
from ttsbench.optimizations.parts.compiled import CAPTURES
from ttsbench.optimizations.parts.graphs import RANDOM_STREAM, urgent_stream
from ttsbench.streaming.stream import Stream

if TYPE_CHECKING:
    from ttsbench.model.pipeline import Pipeline


class Hand(Protocol):
    """Passes one stream its tokens."""

    # From when until when T3 waited for the first chunk.
    rested: tuple[float, float]

    def take(self, drawn: torch.Tensor) -> None:
        """As T3 draws them; called by T3's thread, which does not wait for the device here."""

    def finish(self, tokens: torch.Tensor) -> None:
        """All that are to be spoken; returns when the last chunk was heard."""


class Desk(Protocol):
    """Where streams are worked on."""

    def open(self, stream: Stream) -> Hand:
        """For one more stream."""


def desk(pipeline: Pipeline) -> tuple[Desk, str]:
    """The one that this stack allows, and why it is not the one beside T3; empty where it is."""
    reason = _why_in_turn(pipeline)
    return (InTurn(pipeline.device) if reason else Beside(pipeline.device)), reason


def _why_in_turn(pipeline: Pipeline) -> str:
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


class InTurn:
    """T3 waits while a chunk is made. S3Gen runs outside T3's autocast and settings, as it does after T3."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def open(self, stream: Stream) -> _InTurnHand:
        """For one more stream."""
        return _InTurnHand(self._device, stream)


class _InTurnHand:
    def __init__(self, device: torch.device, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self.rested = (0.0, 0.0)
        self._places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
        self._allowed = [place.allow_tf32 for place in self._places]

    def take(self, drawn: torch.Tensor) -> None:
        with self._outside_of_t3():
            self._stream.receive(drawn, self._stream.now())

    def finish(self, tokens: torch.Tensor) -> None:
        self._stream.finish(tokens.tolist())

    @contextmanager
    def _outside_of_t3(self) -> Iterator[None]:
        matmul, cudnn = self._places
        with (
            torch.autocast(self._device.type, enabled=False),
            swapped(matmul, "allow_tf32", self._allowed[0]),
            swapped(cudnn, "allow_tf32", self._allowed[1]),
        ):
            yield


class Beside:
    """One thread for all streams, so that chunks of several take turns and S3Gen's graphs are never run twice at once.

    Tokens are read back by that thread on its own CUDA stream, once an event says that they are there. What T3 hands
    over is held until it was copied, and what S3Gen makes is copied before it is let go, so that no memory is taken
    for something else while the other stream still needs it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda_stream = urgent_stream(device) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="s3gen")

    def open(self, stream: Stream) -> _BesideHand:
        """For one more stream; S3Gen begins when what T3's thread has started by now is done."""
        return _BesideHand(self, stream)

    def begin(self, work: Callable[[], None]) -> Future[None]:
        """Has the thread do it, once the device has reached the present point of the caller's CUDA stream."""
        reached = None
        if self._cuda_stream is not None:
            reached = torch.cuda.Event()  # type: ignore[no-untyped-call]
            reached.record()
        return self._thread.submit(self._do, work, reached)

    def _do(self, work: Callable[[], None], reached: torch.cuda.Event | None) -> None:
        if self._cuda_stream is None or reached is None:
            work()
            return
        # The current device and stream are each thread's own.
        torch.cuda.set_device(self._device)
        with torch.cuda.stream(self._cuda_stream):
            self._cuda_stream.wait_event(reached)
            work()

    def ended(self) -> None:
        """The caller's CUDA stream goes on after what S3Gen has started."""
        if self._cuda_stream is not None:
            torch.cuda.current_stream().wait_stream(self._cuda_stream)


class _BesideHand:
    def __init__(self, desk: Beside, stream: Stream) -> None:
        self._desk, self._stream = desk, stream
        self._begun: list[Future[None]] = []
        self._handed = 0
        self.rested = (0.0, 0.0)

    def take(self, drawn: torch.Tensor) -> None:
        seconds = self._stream.now()
        self._begun.append(self._desk.begin(lambda: self._stream.receive(drawn, seconds)))
        self._handed += drawn.numel()
        if self._stream.first_alone and not self._stream.chunks and self._handed >= self._stream.tokens_for_the_first:
            self._rest()
        RANDOM_STREAM.let_pass()  # S3Gen, where it has something to capture

    def _rest(self) -> None:
        """While the first chunk is made, since T3's next tokens are for later ones. Where some of those handed over are
        no speech it is not due yet, and the next hand-over rests again.
        """
        began = self._stream.now()
        with RANDOM_STREAM.aside():
            self._begun[-1].result()
        if self._stream.chunks:
            self.rested = began, self._stream.now()

    def finish(self, tokens: torch.Tensor) -> None:
        self._begun.append(self._desk.begin(lambda: self._stream.finish(tokens.tolist())))
        for begun in self._begun:
            begun.result()
        self._desk.ended()
