"""What follows from the options of a stack. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench.optimizations.dtype import AMP, HALF
from ttsbench.optimizations.registry import SLOTS, option_of


def complete(slots: Mapping[str, str]) -> dict[str, str]:
    """The stack with every slot named, in the order of application."""
    return {slot.name: slots.get(slot.name, slot.default) for slot in SLOTS}


def changes_output(slots: Mapping[str, str]) -> tuple[str, ...]:
    """Why this stack's output differs from upstream's by design; empty when it should not."""
    marks = (option_of(name, option).changes_output for name, option in complete(slots).items())
    return tuple(mark for mark in marks if mark)


def compiles(slots: Mapping[str, str]) -> bool:
    """Whether anything of this stack is put through a compiler, whose cache a second start finds."""
    options = (option_of(name, option) for name, option in complete(slots).items())
    return any(option.triton or option.inductor for option in options)


def by_inductor(slots: Mapping[str, str]) -> tuple[str, ...]:
    """The slots whose option is torch.compile's work."""
    return tuple(name for name, option in complete(slots).items() if option_of(name, option).inductor)


def eager_twin(slots: Mapping[str, str]) -> dict[str, str] | None:
    """The same stack without graphs and compilers; None where it has none."""
    chosen = complete(slots)
    eager = {name: option_of(name, option).eager or option for name, option in chosen.items()}
    return None if eager == chosen else eager


def precision(slots: Mapping[str, str], stored: str) -> str:
    """Which limits of quality hold: `exact`, `half` or `quantized`."""
    chosen = complete(slots)
    if chosen["quantize"] != "off":
        return "quantized"
    reduced = {"tf32", *HALF, *AMP}
    dtypes = {stored if chosen[slot] == "stored" else chosen[slot] for slot in ("dtype", "s3gen_dtype")}
    return "half" if reduced & dtypes else "exact"
