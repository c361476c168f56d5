"""Which options make no sense together, with the reason: the rules that the options declare, and those of a forward."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ttsbench.model.families import FAMILIES, names
from ttsbench.optimizations.registry import BY_NAME
from ttsbench.optimizations.stacks import complete


def conflict(
    slots: Mapping[str, str], *, family: str, cfg_weight: float | None, forward_steps: int | None = None
) -> str:
    """Why this combination makes no sense for this model, or for forwards of so many steps; empty when it does."""
    stack = complete(slots)
    return next(_conflicts(stack, family, cfg_weight, forward_steps), "")


def _conflicts(
    stack: Mapping[str, str], family: str, cfg_weight: float | None, forward_steps: int | None
) -> Iterator[str]:
    for slot, option in stack.items():
        fits = BY_NAME[slot].option(option).fits
        if fits is not None and not fits(FAMILIES[family]):
            yield f"{slot}: {option} is for {', '.join(names(fits))}, not for {family}"
    if forward_steps is not None:
        yield from _unused_by_a_forward(stack, forward_steps)
        stack = {**stack, **{name: slot.default for name, slot in BY_NAME.items() if not slot.is_in_forward(1)}}
    elif cfg_weight == 0 and FAMILIES[family].guided() and stack["decode"] == BY_NAME["decode"].default:
        yield "the package's own loop crashes at cfg_weight 0; decode: lean runs it"
    for slot, option in stack.items():
        if forward_steps is not None and not BY_NAME[slot].is_in_forward(1):
            continue
        for rule in BY_NAME[slot].option(option).rules:
            if rule.is_broken(stack, FAMILIES[family]):
                yield f"{slot}: {option} {rule.message(stack)}"


def _unused_by_a_forward(stack: Mapping[str, str], steps: int) -> Iterator[str]:
    for name, option in stack.items():
        slot = BY_NAME[name]
        if option == slot.default:
            continue
        if reason := slot.option(option).not_in_forward if slot.is_in_forward(1) else "has no part in this":
            yield f"{name}: {option} {reason}; workload.forward runs the backbone alone"
        elif not slot.is_in_forward(steps):
            yield f"{name}: {option}: workload.forward.steps is 0: there is one forward, and no step after it"
