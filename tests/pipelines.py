"""The real modules at tiny size, and pipelines of them with a stack applied as a cell applies it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ttsbench.pipeline import Length, Pipeline
    from ttsbench.streaming.schedule import Streaming
    from ttsbench.voice import Reference


def load(family: str = "chatterbox", device: str = "cpu", size: str = "tiny") -> Any:
    from ttsbench import checkpoint

    return checkpoint.load(checkpoint.ensure(family, size, "fp32", 0), family, device)


@pytest.fixture(scope="session")
def load_tiny() -> Callable[..., Any]:
    """The real modules at tiny size, fresh each time: options change the live object."""
    return load


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[..., Pipeline]:
    """A pipeline of fresh modules, or of those that are given, ready to speak; what is not a parameter is a slot."""
    from ttsbench import bench
    from ttsbench.pipeline import Pipeline

    def make(
        family: str = "chatterbox",
        *,
        texts: Sequence[str],
        length: Length,
        sampling: dict[str, float] | None = None,
        streaming: Streaming | None = None,
        reference: Reference | None = None,
        device: str = "cpu",
        size: str = "tiny",
        tts: Any = None,
        **slots: str,
    ) -> Pipeline:
        pipeline = Pipeline(
            tts or load(family, device, size), texts=texts, length=length, sampling=sampling or {}, language=None,
            slots=slots, streaming=streaming, reference=reference,
        )  # fmt: skip
        bench.apply(pipeline, pipeline.slots)
        pipeline.control_length()
        return pipeline

    return make
