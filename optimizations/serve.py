"""Slot `serve`: how requests that come at once are answered.

`in_turn` is upstream's: one utterance after the other, whatever the rest of the stack is. `batched` decodes several
utterances together, each in a slot of one static cache, and has S3Gen make the sound of several at once.
`ttsbench.serving` holds the work. A single utterance is then a batch of one.
"""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.serving.loop import BatchLoop

SLOT = "serve"


def apply(pipeline: Pipeline, option: str) -> None:
    """Puts the batch in the place of a loop for one utterance; what compiles comes after it."""
    if option == "batched":
        pipeline.loop = BatchLoop(pipeline.tts.t3, captured=pipeline.slots["decode"] == "cuda_graph")


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many utterances the batch held at once; one that was never joined is an error."""
    loop = pipeline.loop
    decoder = loop.decoder if isinstance(loop, BatchLoop) else None
    ran = "batched" if decoder is not None and decoder.joined else "in_turn"
    if ran != option:
        raise CellError(f"{SLOT}: {option} was asked for, and {ran} is what ran")
    if decoder is None:
        return {"batch": None}
    return {
        "slots": decoder.slots,
        "joined": decoder.joined,
        "steps": decoder.steps,
        "most_at_once": decoder.most_at_once,
        "tokens_per_step": round(decoder.tokens / max(1, decoder.steps), 2),
        "moves": decoder.moves,
    }
