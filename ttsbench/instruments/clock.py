"""Where the time of one utterance goes, stage by stage, without a single added synchronization.

A stage ends where the next begins, so stages and residual add up to the wall time by construction. Host times come
from the monotonic clock, device times from events recorded on the stream at the same marks; where both differ, the
device waited for the host or ran behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.instruments.swapping import swapped, wrapped
from ttsbench.records.measurements import RESIDUAL, STAGES, StageTime


class Timeline:
    """The marks of one utterance. On a GPU a mark costs one event record, about 5 µs; there are about ten."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, int, torch.cuda.Event | None]] = []
        self.prompt_rows = 0
        self.prompt_length = 0
        # Of a stream: the marks of another thread, which works on a CUDA stream of its own at the same time.
        self.concurrent: Timeline | None = None

    def start(self) -> None:
        """Begins an utterance; whatever was recorded before is forgotten."""
        self._marks = []
        self.concurrent = None
        self.enter("text")

    def start_concurrent(self) -> Timeline:
        """Begins a stream, and returns the timeline for its other thread."""
        self.start()
        self.concurrent = Timeline(self._device)
        return self.concurrent

    def enter(self, stage: str) -> None:
        event = None
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
        self._marks.append((stage, time.perf_counter_ns(), event))

    def stop(self) -> float:
        """Ends the utterance and returns its wall seconds."""
        self.enter("end")
        return (self._marks[-1][1] - self._marks[0][1]) * 1e-9

    def stages(self) -> dict[str, StageTime]:
        """Seconds per stage, every stage present; call it after the timed region, since it waits for the device.

        Of a stream, stages that ran side by side add up to more than the wall time; the residual is when none ran.
        """
        host = dict.fromkeys((*STAGES, RESIDUAL), 0.0)
        device = dict(host)
        if self._on_cuda:
            torch.cuda.synchronize()
        spans = [*self._spans(), *(self.concurrent._spans() if self.concurrent else ())]
        for span in spans:
            host[span.stage] += span.host_seconds
            device[span.stage] += span.device_seconds
        if self.concurrent is None:
            return {name: StageTime(host[name], device[name] if self._on_cuda else None) for name in host}
        host[RESIDUAL] = self._idle_seconds(spans)
        on_device = {name: seconds if self._on_cuda else None for name, seconds in device.items()} | {RESIDUAL: None}
        return {name: StageTime(host[name], on_device[name]) for name in host}

    def _spans(self) -> Iterator[_Span]:
        for (stage, began, first), (_, ended, second) in zip(self._marks, self._marks[1:], strict=False):
            device_seconds = 0.0 if first is None or second is None else first.elapsed_time(second) * 1e-3
            yield _Span(stage, began * 1e-9, ended * 1e-9, device_seconds)

    def _idle_seconds(self, spans: Sequence[_Span]) -> float:
        """By the host's clock, how long no thread was at any stage."""
        idle, until = 0.0, self._marks[0][1] * 1e-9
        for span in sorted((span for span in spans if span.stage != RESIDUAL), key=lambda span: span.began):
            idle += max(0.0, span.began - until)
            until = max(until, span.ended)
        return idle + max(0.0, self._marks[-1][1] * 1e-9 - until)


@dataclass(frozen=True)
class _Span:
    """One stage from its mark to the next, in seconds of the host's clock."""

    stage: str
    began: float
    ended: float
    device_seconds: float

    @property
    def host_seconds(self) -> float:
        return self.ended - self.began


@contextmanager
def staged(tts: Any, timeline: Timeline, backbone: Any = None) -> Iterator[None]:
    """Marks the stages of `tts.generate` by wrapping the methods that it calls; takes all wrappers off again."""
    with (
        staged_t3(tts, timeline, backbone),
        staged_s3gen(tts, timeline, "copy_to_host"),
        wrapped(tts.watermarker, "apply_watermark", _marking(timeline, "watermark", RESIDUAL)),
    ):
        yield


@contextmanager
def staged_t3(tts: Any, timeline: Timeline, backbone: Any = None) -> Iterator[None]:
    """Marks the stages up to the tokens.

    A loop of our own has a `backbone` whose `prefill` ends that stage; upstream's is the first forward of its own.
    """
    infer = "inference_turbo" if tts.t3.is_gpt else "inference"
    with ExitStack() as wrappers:
        for owner, method, entering, leaving in (
            (tts, "prepare_conditionals", "voice", "text"),
            (tts.t3, infer, "prefill", RESIDUAL),
        ):
            wrappers.enter_context(wrapped(owner, method, _marking(timeline, entering, leaving)))
        if backbone is None:
            wrappers.enter_context(wrapped(tts.t3, infer, _marking_the_first_forward(timeline, tts.t3.tfmr)))
        else:
            wrappers.enter_context(wrapped(backbone, "prefill", _marking_prefill(timeline)))
        yield


@contextmanager
def staged_s3gen(tts: Any, timeline: Timeline, following: str) -> Iterator[None]:
    """Marks the stages from tokens to the wave, and what follows them.

    The decoder is marked by hooks, since a stream exchanges its `forward` for each window.
    """
    decoder = tts.s3gen.flow.decoder
    with ExitStack() as marks:
        for method, leaving in (("inference", following), ("flow_inference", "vocoder")):
            marks.enter_context(wrapped(tts.s3gen, method, _marking(timeline, "flow_encoder", leaving)))
        for hook in (
            decoder.register_forward_pre_hook(lambda *_: timeline.enter("cfm")),
            decoder.register_forward_hook(lambda *_: timeline.enter("flow_encoder")),
        ):
            marks.callback(hook.remove)
        yield


Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


def _marking(timeline: Timeline, entering: str, leaving: str) -> Wrapper:
    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*args: Any, **kwargs: Any) -> Any:
            timeline.enter(entering)
            result = call(*args, **kwargs)
            timeline.enter(leaving)
            return result

        return marked

    return wrap


def _marking_prefill(timeline: Timeline) -> Wrapper:
    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(embeds: Any, limit: int) -> Any:
            result = call(embeds, limit)
            timeline.enter("decode")
            timeline.prompt_rows, timeline.prompt_length = embeds.shape[:2]
            return result

        return marked

    return wrap


def _marking_the_first_forward(timeline: Timeline, backbone: Any) -> Wrapper:
    """Prefill ends when the backbone's first forward returns; the wrapper then leaves, so that no step pays for it."""

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def with_first_forward_marked(*args: Any, **kwargs: Any) -> Any:
            forward = backbone.forward
            with ExitStack() as wrapper:

                def first_forward(*inner: Any, **named: Any) -> Any:
                    wrapper.close()
                    result = forward(*inner, **named)
                    timeline.enter("decode")
                    timeline.prompt_rows, timeline.prompt_length = named["inputs_embeds"].shape[:2]
                    return result

                wrapper.enter_context(swapped(backbone, "forward", first_forward))
                return call(*args, **kwargs)

        return with_first_forward_marked

    return wrap
