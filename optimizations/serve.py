"""Slot `serve`: how requests that come at once are answered.

`in_turn` is upstream's: one utterance after the other, whatever the rest of the stack is. `batched` decodes several
utterances together, each in a slot of one static cache, and has S3Gen make the sound of several at once.
`ttsbench.serving` holds the work. A single utterance is then a batch of one.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.options import Evidence, Option, Slot, excludes, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """What compiles comes after it."""
    from ttsbench.serving.loop import BatchLoop

    loop = BatchLoop(target.tts.t3, captured=target.slots["decode"] == "cuda_graph")
    target.undo.replace(target, "loop", loop)


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.serving.loop import BatchLoop

    decoder = target.loop.decoder if isinstance(target.loop, BatchLoop) else None
    ran = "batched" if decoder is not None and decoder.joined else "in_turn"
    if ran != option:
        raise CellError(f"serve: {option} was asked for, and {ran} is what ran")
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


WHOLE_PROCESS = "it is chosen for a whole process, and T3 and S3Gen work at once"
SLOT = Slot(
    "serve",
    "how requests that come at once are answered",
    (
        Option("in_turn", "one after the other, each by itself"),
        Option(
            "batched",
            "in one batch, which they join and leave between steps",
            fits=Family.speaks,
            rules=(
                needs(
                    "decode",
                    "lean",
                    "cuda_graph",
                    because="the package's own loop and the persistent one speak one utterance",
                ),
                needs("cache", "static", because="utterances join and leave it in place"),
                needs("sampler", "lean", because="it draws each row from a stream of its own"),
                needs(
                    "s3gen_attention",
                    "sdpa",
                    "flash_attention_2",
                    "triton",
                    because="upstream's S3Gen lets padding into the last tokens",
                ),
                excludes("dtype", "tf32", because=WHOLE_PROCESS),
                excludes("s3gen_dtype", "tf32", because=WHOLE_PROCESS),
                excludes("attention", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", because=WHOLE_PROCESS),
                excludes(
                    "s3gen_compile",
                    "reduce-overhead",
                    "max-autotune",
                    because="it captures for one thread; use default",
                    where={"s3gen_graph": ("off",)},
                ),
                excludes("vocoder", "graph", because="it is captured for each length; use folded or compile"),
            ),
        ),
    ),
    apply=apply,
    attest=attest,
)
