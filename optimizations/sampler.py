"""Slot `sampler`: from logits to a token.

`upstream` runs the package's logits processors, in the package's order; what cannot change a token (a sort for top-p 1)
is left out. `lean` does the same arithmetic with every parameter in device memory and without a word to the host, so
that it can be part of a captured graph; `triton` does it in one kernel. All draw as `torch.multinomial` does for one
sample: each probability is divided by exponential noise, and the largest wins; so all of them take the same token from
the same random stream.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.decode import OUR_LOOPS
from ttsbench.optimizations.options import Evidence, Option, Slot, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.lean_loop import own_loop
    from ttsbench.optimizations.parts.samplers import SAMPLERS

    loop = own_loop(target)
    target.undo.replace(loop, "sampler", SAMPLERS[option](loop.model))


def attest(target: Target, option: str) -> Evidence:
    """By the sampler that the loop holds, and its draws; a captured graph draws without calling it."""
    from ttsbench.optimizations.parts.lean_loop import LeanLoop
    from ttsbench.optimizations.parts.samplers import SAMPLERS

    sampler = target.loop.sampler if isinstance(target.loop, LeanLoop) else None
    if option == "upstream" and sampler is None:
        return {"sampler": "the package's loop"}
    if sampler is None or type(sampler) is not SAMPLERS[option] or (option != "upstream" and sampler.draws == 0):
        raise CellError(f"sampler: {option} was asked for, and {type(sampler).__name__} is what ran")
    evidence: Evidence = {"sampler": type(sampler).__name__}
    return evidence if option == "upstream" else evidence | {"draws": sampler.draws}


OWN_LOOP = needs("decode", *OUR_LOOPS, because="the package's own loop draws by itself")
SLOT = Slot(
    "sampler",
    "from logits to a token",
    (
        Option("upstream", "the package's chain of logits processors"),
        Option("lean", "the same arithmetic on the device alone", rules=(OWN_LOOP,)),
        Option("triton", "the same in one kernel", needs_cuda=True, triton=True, rules=(OWN_LOOP,)),
    ),
    apply=apply,
    attest=attest,
)
