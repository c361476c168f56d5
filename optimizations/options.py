"""What an option and a slot declare. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ttsbench.model.families import Family
from ttsbench.optimizations.target import Target

AMPERE, ADA, HOPPER = (8, 0), (8, 9), (9, 0)

# Which forwards of the backbone alone have a slot.
NO_FORWARD, WITH_STEPS, ANY_FORWARD = "no forward", "with steps", "any forward"

Evidence = dict[str, Any]
# Both take the option's name. `attest` raises a `CellError` where the option did not take effect.
Apply = Callable[[Target, str], None]
Attest = Callable[[Target, str], Evidence]


NEEDS, EXCLUDES, HAS_NO_PART_IN = "needs", "does not run with", "has no part in"


@dataclass(frozen=True)
class Rule:
    """An option of one slot runs only with some options of another, or with all but some."""

    verb: str
    slot: str
    options: tuple[str, ...]
    because: str
    # The rule holds for these families (all of them without), and where other slots have one of these options.
    fits: Callable[[Family], bool] | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def is_broken(self, stack: Mapping[str, str], family: Family) -> bool:
        fits = self.fits is None or self.fits(family)
        if not fits or any(stack[slot] not in options for slot, options in self.where.items()):
            return False
        return (stack[self.slot] in self.options) == (self.verb != NEEDS)

    def message(self, stack: Mapping[str, str]) -> str:
        """What follows `slot: option`."""
        options = " or ".join(self.options) if self.verb == NEEDS else stack[self.slot]
        others = "".join(f"with {slot}: {stack[slot]} " for slot in self.where)
        return f"{others}{self.verb} {self.slot}: {options}; {self.because}"


def needs(slot: str, *options: str, because: str, where: Mapping[str, tuple[str, ...]] | None = None) -> Rule:
    return Rule(NEEDS, slot, options, because, where=where or {})


def excludes(slot: str, *options: str, because: str, where: Mapping[str, tuple[str, ...]] | None = None) -> Rule:
    return Rule(EXCLUDES, slot, options, because, where=where or {})


def has_no_part_in(slot: str, *options: str, because: str) -> Rule:
    """The other option does the work of this one itself."""
    return Rule(HAS_NO_PART_IN, slot, options, because)


@dataclass(frozen=True)
class Option:
    """One way to fill a slot, and what it takes."""

    name: str
    summary: str
    changes_output: str = ""
    # Which families it is for; all of them without.
    fits: Callable[[Family], bool] | None = None
    needs_cuda: bool = False
    needs_package: str = ""
    needs_capability: tuple[int, int] = (0, 0)
    how_to_get: str = ""
    # Where it captures or compiles: the option that does the same work eagerly, and whether Inductor is at work.
    eager: str = ""
    inductor: bool = False
    # Compiled by Triton, whose cache a second start finds.
    triton: bool = False
    rules: tuple[Rule, ...] = ()
    # Why it needs an utterance, where its slot is one that a forward has.
    not_in_forward: str = ""
    # Used instead of the slot's `apply` and `attest`.
    apply: Apply | None = None
    attest: Attest | None = None
    # Where it belongs, if it is declared outside of its slot's file.
    slot: str = ""


@dataclass(frozen=True)
class Slot:
    """One decision about the pipeline. The first option is upstream's own behaviour and the default."""

    name: str
    summary: str
    options: tuple[Option, ...]
    # For every option but the first, with which the pipeline stays as it is.
    apply: Apply
    attest: Attest
    forward: str = NO_FORWARD
    # False if planning decides it; it is not part of the pipeline, so ablation skips it.
    is_part: bool = True

    @property
    def default(self) -> str:
        return self.options[0].name

    def option(self, name: str) -> Option:
        return next(option for option in self.options if option.name == name)

    def is_in_forward(self, steps: int) -> bool:
        return self.forward == ANY_FORWARD or (self.forward == WITH_STEPS and steps > 0)


def flash_attention_2(summary: str, rules: tuple[Rule, ...] = ()) -> Option:
    """The flash-attn package's."""
    return Option(
        "flash_attention_2",
        summary,
        needs_cuda=True,
        needs_package="flash-attn",
        needs_capability=AMPERE,
        how_to_get="pip install 'ttsbench[flash-attn]' (or a wheel for your torch and CUDA from its releases page)",
        rules=rules,
    )


def layer_kernel(name: str, summary: str, rules: tuple[Rule, ...] = ()) -> Option:
    """A Triton kernel in the layers of Llama and its like."""
    return Option(name, summary, fits=Family.llama_layers, needs_cuda=True, triton=True, rules=rules)


def inductor(
    name: str, summary: str, *, eager: str = "off", needs_cuda: bool = False, rules: tuple[Rule, ...] = ()
) -> Option:
    """torch.compile's."""
    return Option(name, summary, needs_cuda=needs_cuda, eager=eager, inductor=True, rules=rules)


def half_precisions() -> tuple[Option, Option]:
    return (
        Option("fp16", "weights and activations in half precision"),
        Option("bf16", "weights and activations in bfloat16"),
    )
