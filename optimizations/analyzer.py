"""Slot `analyzer`: the multilingual model's watch over its own attention maps, three of them per step to the host."""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.decode import OUR_LOOPS
from ttsbench.optimizations.options import NEEDS, Evidence, Option, Rule, Slot, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.lean_loop import own_loop

    target.undo.replace(own_loop(target), "analyzer", value=False)


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.lean_loop import LeanLoop

    multilingual = bool(target.tts.t3.hp.is_multilingual)
    watching = target.loop.analyzer if isinstance(target.loop, LeanLoop) else multilingual
    if option == "off" and watching:
        raise CellError("analyzer: off was asked for, and the loop still watches its attention")
    return {"watching": watching, "attention": target.tts.t3.tfmr.config._attn_implementation}


EAGER_MAPS = "the analyzer reads maps of eager attention over a growing cache; others need analyzer: off"
SLOT = Slot(
    "analyzer",
    "the multilingual model's watch over its own attention",
    (
        Option(
            "upstream",
            "as the package does",
            rules=(
                Rule(NEEDS, "cache", ("dynamic",), EAGER_MAPS, fits=Family.watched),
                Rule(NEEDS, "attention", ("sdpa", "eager"), EAGER_MAPS, fits=Family.watched),
            ),
        ),
        Option(
            "off",
            "no attention maps are copied to the host, no token is forced",
            changes_output="without the alignment analyzer other tokens may be chosen",
            fits=Family.watched,
            rules=(needs("decode", *OUR_LOOPS, because="the package's own loop cannot run without it"),),
        ),
    ),
    apply=apply,
    attest=attest,
)
