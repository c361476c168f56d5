"""Slot `stream`: how an utterance is made of its tokens while T3 is still drawing them.

`oneshot` is upstream's `generate`: S3Gen begins when T3 has ended. `revocode` does what public forks do: all tokens so
far are made into sound anew for each chunk. `windowed` makes each chunk from a window of tokens, with the noise of
each frame fixed, so that windows agree. `ttsbench.streaming` holds the work; the workload says how chunks are cut.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.options import Evidence, Option, Slot
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Puts a streamer in the place of the package's `generate`."""
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.streaming.designs import DESIGNS
    from ttsbench.streaming.streamer import Streamer

    assert isinstance(target, Pipeline)
    target.undo.replace(target, "generator", Streamer(target, option, DESIGNS[option]))


def attest(target: Target, option: str) -> Evidence:
    """By which design spoke, in how many chunks, and whether T3 decoded on meanwhile; no chunk is an error."""
    from ttsbench.streaming.streamer import Streamer

    streamer = target.generator if isinstance(target.generator, Streamer) else None
    ran = streamer.design if streamer is not None and streamer.chunks else SLOT.default
    if ran != option:
        raise CellError(f"stream: {option} was asked for, and {ran} is what ran")
    if streamer is None:
        return {"design": SLOT.default}
    together = f"in turn, since {streamer.in_turn}" if streamer.in_turn else "T3 decodes on while S3Gen works"
    return {
        "design": ran,
        "utterances": streamer.utterances,
        "chunks": streamer.chunks,
        "together": together,
        "steps": streamer.synthesis.steps,
    }


SLOT = Slot(
    "stream",
    "how sound is made while tokens are still being drawn",
    (
        Option("oneshot", "as the package does: all at once, at the end"),
        Option(
            "revocode",
            "everything so far anew for each chunk, as public forks do",
            changes_output="each chunk is made from other noise, and without what follows it",
            fits=Family.speaks,
        ),
        Option(
            "windowed",
            "each chunk from a window of tokens, with one noise for all windows",
            changes_output="each chunk is made from a window, and not from the whole utterance",
            fits=Family.speaks,
        ),
    ),
    apply=apply,
    attest=attest,
)
