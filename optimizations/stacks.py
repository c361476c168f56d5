"""What follows from the options of a stack, looked up in the table. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench.optimizations.registry import BY_NAME, SLOTS

HALF = ("fp16", "bf16")
AMP = ("amp_fp16", "amp_bf16")
# Slots that put a kernel into each layer.
IN_LAYERS = ("mlp", "norm", "rope", "linear")


def complete(slots: Mapping[str, str]) -> dict[str, str]:
    """The stack with every slot named, in the order of application."""
    return {slot.name: slots.get(slot.name, slot.default) for slot in SLOTS}


def changes_output(slots: Mapping[str, str]) -> tuple[str, ...]:
    """Why this stack's output differs from upstream's by design; empty when it should not."""
    marks = (BY_NAME[name].option(option).changes_output for name, option in complete(slots).items())
    return tuple(mark for mark in marks if mark)


def compiles(slots: Mapping[str, str]) -> bool:
    """Whether anything of this stack is put through a compiler, whose cache a second start finds."""
    chosen = complete(slots)
    triton = any(chosen[slot] in ("triton", "triton_fused", "liger") for slot in ("attention", "sampler", *IN_LAYERS))
    return triton or bool(by_inductor(slots))


def by_inductor(slots: Mapping[str, str]) -> tuple[str, ...]:
    """The slots whose option is torch.compile's work."""
    return tuple(name for name, option in complete(slots).items() if BY_NAME[name].option(option).inductor)


def eager_twin(slots: Mapping[str, str]) -> dict[str, str] | None:
    """The same stack without graphs and compilers; None where it has none."""
    chosen = complete(slots)
    eager = {name: BY_NAME[name].option(option).eager or option for name, option in chosen.items()}
    return None if eager == chosen else eager


def precision(slots: Mapping[str, str], stored: str) -> str:
    """Which limits of quality hold: `exact`, `half` or `quantized`."""
    chosen = complete(slots)
    if chosen["quantize"] != "off":
        return "quantized"
    reduced = {"tf32", *HALF, *AMP}
    dtypes = {stored if chosen[slot] == "stored" else chosen[slot] for slot in ("dtype", "s3gen_dtype")}
    return "half" if reduced & dtypes else "exact"
