"""Slot `prompt`: how T3 reads what comes before the first token: conditions, text, start of speech.

Read eagerly, a prompt costs a thousand launches, and the host takes five times as long over them as the device.
Captured once for each bucket of lengths, it is one. In a batch it is read beside the slots, and moved to its own.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.lean_loop import own_loop
    from ttsbench.optimizations.parts.replayed_prompt import ReplayedPrompt

    loop = own_loop(target)
    replayed = ReplayedPrompt(loop.backbone)
    target.undo.replace(loop.backbone, "read", replayed)
    target.undo.replace(target, "forget_captures", [*target.forget_captures, replayed.graphs.forget])
    loop.prompts_are_captured()


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.replayed_prompt import ReplayedPrompt

    read = getattr(target.backbone, "read", None)
    replayed = read if isinstance(read, ReplayedPrompt) else None
    if (replayed is not None) != (option == "cuda_graph"):
        raise CellError(f"prompt: {option} was asked for, and {type(read).__name__} is what ran")
    if replayed is None:
        return {"captured": 0}
    if not replayed.graphs.replays:
        raise CellError(f"prompt: {option} was asked for, and no prompt was replayed")
    return replayed.graphs.evidence()


SLOT = Slot(
    "prompt",
    "how T3 reads what comes before the first token",
    (
        Option("eager", "every operation launched by itself"),
        Option(
            "cuda_graph",
            "captured once for lengths within 64 positions of each other, the rest filled up",
            needs_cuda=True,
            eager="eager",
            rules=(needs("cache", "static", because="a cache that grows has other memory for each prompt"),),
        ),
    ),
    apply=apply,
    attest=attest,
)
