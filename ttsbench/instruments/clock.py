"""Where the time of one utterance goes, stage by stage, without a single added synchronization.

A stage ends where the next begins, so stages and residual add up to the wall time by construction. Host times come
from the monotonic clock, device times from events recorded on the stream at the same marks; where both differ, the
device waited for the host or ran behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ttsbench.records import RESIDUAL, STAGES, StageTime
from ttsbench.swapping import swapped, wrapped


class Timeline:
    """The marks of one utterance. On a GPU a mark costs one event record, about 5 µs; there are about ten."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, int, torch.cuda.Event | None]] = []
        self.prompt_rows = 0
        self.prompt_length = 0

    def start(self) -> None:
        """Begins an utterance; whatever was recorded before is forgotten."""
        self._marks = []
        self.enter("text")

    def enter(self, stage: str) -> None:
        """The stage that runs from here on."""
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
        """Seconds per stage, every stage present; call it after the timed region, since it waits for the device."""
        host = dict.fromkeys((*STAGES, RESIDUAL), 0.0)
        device = dict(host)
        if self._on_cuda:
            torch.cuda.synchronize()
        for (stage, began, first), (_, ended, second) in zip(self._marks, self._marks[1:], strict=False):
            host[stage] += (ended - began) * 1e-9
            if first is not None and second is not None:
                device[stage] += first.elapsed_time(second) * 1e-3
        return {name: StageTime(host[name], device[name] if self._on_cuda else None) for name in host}


@contextmanager
def staged(tts: Any, timeline: Timeline, backbone: Any = None) -> Iterator[None]:
    """Marks the stages of `tts.generate` by wrapping the methods that it calls; takes all wrappers off again.

    A loop of our own has a `backbone` whose `prefill` ends that stage; upstream's is the first forward of its own.
    """
    infer = "inference_turbo" if tts.t3.is_gpt else "inference"
    with ExitStack() as wrappers:
        for owner, method, entering, leaving in (
            (tts, "prepare_conditionals", "voice", "text"),
            (tts.t3, infer, "prefill", RESIDUAL),
            (tts.s3gen, "inference", "flow_encoder", "copy_to_host"),
            (tts.s3gen, "flow_inference", "flow_encoder", "vocoder"),
            (tts.s3gen.flow.decoder, "forward", "cfm", "flow_encoder"),
            (tts.watermarker, "apply_watermark", "watermark", RESIDUAL),
        ):
            wrappers.enter_context(wrapped(owner, method, _marking(timeline, entering, leaving)))
        if backbone is None:
            wrappers.enter_context(wrapped(tts.t3, infer, _marking_the_first_forward(timeline, tts.t3.tfmr)))
        else:
            wrappers.enter_context(wrapped(backbone, "prefill", _marking_prefill(timeline)))
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
