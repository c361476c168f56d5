"""Slot `vocoder`: HiFT, which turns the mel spectrogram into a wave.

`folded` computes each of the 82 weight norms once instead of at every call, and keeps the window on the device instead
of copying it there twice a call. `compile` folds and compiles the convolutions, `graph` folds and captures them for
each length. Both leave the transforms at either end as they are, since Inductor has no complex numbers, and the source
of sound too, since upstream draws its phase on the host.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot, inductor
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Folds, and puts another way to run the convolutions in their place."""
    from ttsbench.optimizations.parts import vocoder
    from ttsbench.optimizations.parts.compiled import CompiledForAnyLength

    hift = target.tts.s3gen.mel2wav
    decode = vocoder.Decode(hift, vocoder.fold(target.undo, hift))
    target.undo.replace(hift, "decode", decode)
    target.undo.replace(target.s3gen_parts, "vocoder", decode)
    if option == "compile":
        decode.convolve = CompiledForAnyLength(decode.convolutions, "default", fullgraph=True)
    elif option == "graph":
        decode.convolve = vocoder.GraphedConvolutions(decode)


def attest(target: Target, option: str) -> Evidence:
    """By how many weight norms are left, and what ran the convolutions."""
    from ttsbench.optimizations.parts.vocoder import weight_norms

    decode = target.s3gen_parts.vocoder
    normed = len(weight_norms(target.tts.s3gen.mel2wav))
    ran = "upstream" if decode is None or not decode.calls or normed else decode.ran
    if ran != option:
        raise CellError(f"vocoder: {option} was asked for, and {ran} is what ran")
    return {"weight_norms": normed} | ({} if decode is None else decode.evidence())


SLOT = Slot(
    "vocoder",
    "HiFT, from a mel spectrogram to a wave",
    (
        Option("upstream", "82 weight norms computed at every call"),
        Option("folded", "weight norms computed once"),
        inductor("compile", "folded, and torch.compile on the convolutions", eager="folded"),
        Option(
            "graph",
            "folded, and a CUDA graph of the convolutions for each length",
            needs_cuda=True,
            eager="folded",
        ),
    ),
    apply=apply,
    attest=attest,
)
