"""Slot `stream`: how an utterance is made of its tokens while T3 is still drawing them.

`oneshot` is upstream's `generate`: S3Gen begins when T3 has ended. `revocode` does what public forks do: all tokens so
far are made into sound anew for each chunk. `windowed` makes each chunk from a window of tokens, with the noise of
each frame fixed, so that windows agree. `ttsbench.streaming` holds the work; the workload says how chunks are cut.
"""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.streaming.designs import DESIGNS
from ttsbench.streaming.streamer import Streamer, streamer_of

SLOT = "stream"
ONESHOT = "oneshot"


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts a streamer in the place of the package's `generate`."""
    if option != ONESHOT:
        pipeline.generator = Streamer(pipeline, option, DESIGNS[option])


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """Which design spoke, in how many chunks, and whether T3 decoded on meanwhile; one that never spoke is an error."""
    streamer = streamer_of(pipeline)
    ran = streamer.design if streamer is not None and streamer.chunks else ONESHOT
    if ran != option:
        raise CellError(f"{SLOT}: {option} was asked for, and {ran} is what ran")
    if streamer is None:
        return {"design": ONESHOT}
    together = f"in turn, since {streamer.in_turn}" if streamer.in_turn else "T3 decodes on while S3Gen works"
    return {
        "design": ran,
        "utterances": streamer.utterances,
        "chunks": streamer.chunks,
        "together": together,
        "steps": streamer.synthesis.steps,
    }
