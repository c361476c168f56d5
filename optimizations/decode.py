"""Slot `decode`: the loop that turns text tokens into speech tokens.

`lean` is our own loop over T3 (`parts/lean_loop.py`): the same tokens as upstream's, without what does not change them.
`cuda_graph` (`parts/graph_loop.py`) is the same loop with each step captured once and replayed. `persistent`
(`parts/persistent.py`) makes many tokens in one launch of one kernel.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.dtype import HALF
from ttsbench.optimizations.options import HOPPER, WITH_STEPS, Evidence, Option, Slot, needs
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.graph_loop import GraphLoop
    from ttsbench.optimizations.parts.lean_loop import LeanLoop
    from ttsbench.optimizations.parts.persistent import PersistentLoop

    target.use_loop({"lean": LeanLoop, "cuda_graph": GraphLoop, "persistent": PersistentLoop}[option])


def attest(target: Target, option: str) -> Evidence:
    from ttsbench.optimizations.target import Loop

    loop = target.loop
    ran = loop.option if isinstance(loop, Loop) else "upstream"
    if ran != option or (isinstance(loop, Loop) and not loop.calls):
        raise CellError(f"decode: {option} was asked for, and {type(loop).__qualname__} is what ran")
    if isinstance(loop, Loop):
        return loop.evidence()
    return {"loop": f"{loop.__module__}.{getattr(loop, '__qualname__', loop)}"}


SLOT = Slot(
    "decode",
    "the loop that turns text tokens into speech tokens",
    (
        Option("upstream", "the package's own loop"),
        Option("lean", "our loop over the same backbone: no progress bar, no hidden states, one backend"),
        Option(
            "cuda_graph",
            "our loop, each step captured once and replayed",
            needs_cuda=True,
            eager="lean",
            not_in_forward="captures the draw of a token too",
            rules=(
                needs("cache", "static", because="a cache that grows cannot be captured"),
                needs("sampler", "lean", "triton", because="the package's waits for the host at every step"),
            ),
        ),
        Option(
            "persistent",
            "our loop, many tokens in one launch of a kernel that is the whole of T3",
            fits=Family.guided,
            needs_cuda=True,
            needs_capability=HOPPER,
            needs_package="cuda-bindings",
            how_to_get="decode: cuda_graph is the nearest that runs elsewhere",
            not_in_forward="draws tokens too",
            rules=(
                needs("dtype", *HALF, because="its products are of half precision"),
                needs("cache", "static", because="it reads and writes keys and values in place"),
                needs("sampler", "triton", because="it draws with that sampler's arithmetic"),
            ),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=WITH_STEPS,
)
OUR_LOOPS = tuple(option.name for option in SLOT.options[1:])
