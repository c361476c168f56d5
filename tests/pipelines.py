"""The real modules at tiny size, and pipelines of them with a stack applied as a cell applies it."""

from __future__ import annotations

import copy
import functools
import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ttsbench.model.length_control import Length
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.model.voice import Reference
    from ttsbench.records.chunk_schedule import Streaming

TEXTS = ("Two words, and then some more.", "A second text.")


def load(family: str = "chatterbox", device: str = "cpu", size: str = "tiny") -> Any:
    """Modules as they were loaded, whatever was done to others since."""
    from torch.nn.utils import parametrize

    if size != "tiny":
        return _loaded(family, device, size)
    pristine = _kept(family, device)
    # Only read, by any stack; the rest is copied in a quarter of the time that reading it from files takes.
    shared = (pristine.tokenizer, pristine.ve)
    tts = copy.deepcopy(pristine, {id(part): part for part in shared})
    for module in tts.s3gen.mel2wav.modules():
        if parametrize.is_parametrized(module):  # its weight is a property of a class that copies share
            kind = type(module)
            module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
    return tts


@functools.cache
def _kept(family: str, device: str) -> Any:
    tts = _loaded(family, device, "tiny")
    gc.freeze()  # the collector would look through all that was imported and loaded, for 0.4 s each time
    return tts


def _loaded(family: str, device: str, size: str) -> Any:
    from ttsbench.model import checkpoint

    return checkpoint.load(checkpoint.ensure(family, size, "fp32", 0), family, device)


@pytest.fixture(scope="session")
def load_tiny() -> Callable[..., Any]:
    """The real modules at tiny size, fresh each time: options change the live object."""
    return load


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[..., Pipeline]:
    """A pipeline of fresh modules, or of those that are given, ready to speak; what is not a parameter is a slot."""
    from ttsbench.model.length_control import Length
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.running.cells import common

    def make(
        family: str = "chatterbox",
        *,
        texts: Sequence[str] = TEXTS,
        length: Length | None = None,
        sampling: dict[str, float] | None = None,
        streaming: Streaming | None = None,
        reference: Reference | None = None,
        device: str = "cpu",
        size: str = "tiny",
        tts: Any = None,
        **slots: str,
    ) -> Pipeline:
        pipeline = Pipeline(
            tts or load(family, device, size), texts=texts, length=length or Length(fixed=24),
            sampling=sampling or {}, language=None, slots=slots, streaming=streaming, reference=reference,
        )  # fmt: skip
        common.apply(pipeline, pipeline.slots)
        pipeline.control_length()
        return pipeline

    return make


@pytest.fixture(scope="session")
def tokens_of() -> Callable[..., list[int]]:
    """What a single run draws for a text."""

    def draw(pipeline: Pipeline, text: int = 0, seed: int = 3, limit: int = 24) -> list[int]:
        pipeline.decode_only(text, seed, limit)
        return [int(token) for token in pipeline._tokens.flatten()]

    return draw


class CalledEveryTime:
    """Where nothing can be captured, a graph that runs the step itself when it is replayed."""

    def __init__(self, step: Callable[[], None]) -> None:
        self.replay = step


@pytest.fixture
def graphs_without_a_gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The loop around the graphs is the same; only capturing is not there. A step holds what it was captured with."""
    import torch

    from ttsbench.optimizations.parts import step_graphs

    if torch.cuda.is_available():
        return
    request.getfixturevalue("late")
    monkeypatch.setattr(step_graphs.StepGraphs, "_capture", lambda self, step: CalledEveryTime(step))
