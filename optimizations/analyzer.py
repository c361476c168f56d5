"""Slot `analyzer`: the multilingual model's watch over its own attention maps, three of them per step to the host."""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.decode import LeanLoop


def apply(pipeline: Pipeline, option: str) -> None:
    """Switches it off in our own loop; the package's loop always has it."""
    if option == "off" and isinstance(pipeline.loop, LeanLoop):
        pipeline.loop.analyzer = False


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Whether the loop that ran looks at its attention, and with which attention the backbone was left."""
    multilingual = bool(pipeline.tts.t3.hp.is_multilingual)
    watching = pipeline.loop.analyzer if isinstance(pipeline.loop, LeanLoop) else multilingual
    if option == "off" and watching:
        raise CellError("analyzer: off was asked for, and the loop still watches its attention")
    return {"watching": watching, "attention": pipeline.tts.t3.tfmr.config._attn_implementation}
