"""Every slot and every option, as one literal table. No torch: `list`, `validate` and `--help` read it.

A stack picks one option per slot, so that two attentions can never be stacked. The first option of a slot is
upstream's own behaviour and the default. `ttsbench.optimizations.<slot>` holds the code: `apply(pipeline, option)`, and
`attest(pipeline, option)`, which gives the evidence that it took effect, or raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAMILIES = ("chatterbox", "turbo", "nano", "multilingual")
LLAMA_FAMILIES = ("chatterbox", "multilingual")


@dataclass(frozen=True)
class Option:
    """One way to fill a slot, and what it takes."""

    name: str
    summary: str
    changes_output: str = ""
    families: tuple[str, ...] = FAMILIES
    needs_cuda: bool = False
    needs_package: str = ""
    how_to_get: str = ""


@dataclass(frozen=True)
class Slot:
    """One decision about the pipeline."""

    name: str
    summary: str
    options: tuple[Option, ...]

    @property
    def default(self) -> str:
        """Upstream's own behaviour."""
        return self.options[0].name

    def option(self, name: str) -> Option:
        """The option of that name."""
        return next(option for option in self.options if option.name == name)


# In the order in which they are applied.
SLOTS: tuple[Slot, ...] = (
    Slot(
        "decode",
        "the loop that turns text tokens into speech tokens",
        (
            Option("upstream", "the package's own loop"),
            Option("lean", "our loop over the same backbone: no progress bar, no hidden states, one backend"),
        ),
    ),
    Slot(
        "analyzer",
        "the multilingual model's watch over its own attention",
        (
            Option("upstream", "as the package does"),
            Option(
                "off",
                "no attention maps are copied to the host, no token is forced",
                changes_output="without the alignment analyzer other tokens may be chosen",
                families=("multilingual",),
            ),
        ),
    ),
    Slot(
        "watermark",
        "the Perth watermark, on the host",
        (
            Option("on", "as the package does"),
            Option("off", "the wave as the vocoder made it", changes_output="the audio carries no watermark"),
        ),
    ),
)

BY_NAME: Mapping[str, Slot] = {slot.name: slot for slot in SLOTS}


def complete(slots: Mapping[str, str]) -> dict[str, str]:
    """The stack with every slot named, in the order of application."""
    return {slot.name: slots.get(slot.name, slot.default) for slot in SLOTS}


def changes_output(slots: Mapping[str, str]) -> tuple[str, ...]:
    """Why this stack's output differs from upstream's by design; empty when it should not."""
    marks = (BY_NAME[name].option(option).changes_output for name, option in complete(slots).items())
    return tuple(mark for mark in marks if mark)


def conflict(slots: Mapping[str, str], *, family: str, cfg_weight: float | None) -> str:
    """Why this combination makes no sense for this model; empty when it does."""
    chosen = complete(slots)
    for name, option in chosen.items():
        if family not in BY_NAME[name].option(option).families:
            allowed = ", ".join(BY_NAME[name].option(option).families)
            return f"{name}: {option} is for {allowed}, not for {family}"
    if chosen["analyzer"] == "off" and chosen["decode"] == "upstream":
        return "analyzer: off needs decode: lean; the package's own loop cannot run without it"
    if cfg_weight == 0 and family in LLAMA_FAMILIES and chosen["decode"] == "upstream":
        return "the package's own loop crashes at cfg_weight 0; decode: lean runs it"
    return ""
