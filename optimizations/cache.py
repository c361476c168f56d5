"""Slot `cache`: where the backbone keeps keys and values.

`dynamic` is transformers' cache, which grows by concatenation: two copies of everything so far, in every layer of every
step. `static` writes into memory that is there already, at a position that lives on the device, so that every step has
the same shapes and can be compiled or captured. Alone it saves nothing: a step then attends to a whole span, masked,
and not only to what is there.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.decode import OUR_LOOPS
from ttsbench.optimizations.options import WITH_STEPS, Evidence, Option, Slot, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.backbones import StaticBackbone

    target.undo.replace(target, "backbone", StaticBackbone(target.tts.t3.tfmr))


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.parts.backbones import WritingBackbone

    backbone = target.backbone
    if isinstance(backbone, WritingBackbone) != (option == "static"):
        raise CellError(f"cache: {option} was asked for, and {type(backbone).__name__} is what ran")
    if not isinstance(backbone, WritingBackbone):
        return {"cache": "DynamicCache"}
    written = sum(bool(keys.any()) for keys in backbone.keys)
    if not written or written < len(backbone.keys):
        raise CellError(f"cache: static was asked for, and {written} of {len(backbone.keys)} layers wrote into it")
    return {"cache": type(backbone).__name__, "layers": written, "shape": list(backbone.keys[0].shape)}


SLOT = Slot(
    "cache",
    "where T3 keeps keys and values",
    (
        Option("dynamic", "grows by concatenation"),
        Option(
            "static",
            "written in place, so that every step has the same shapes",
            rules=(needs("decode", *OUR_LOOPS, because="the package's own loop refuses it"),),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=WITH_STEPS,
)
