"""Slot `on_missing`: what becomes of a stack with an option that cannot run here. Planning decides it (`plan.make`)."""

from __future__ import annotations

from ttsbench.optimizations.options import ANY_FORWARD, Evidence, Option, Slot
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Nothing is left to do once a cell runs."""


def attest(target: Target, option: str) -> Evidence:
    """What a row fell back to stands in the row itself."""
    return {"rule": option}


SLOT = Slot(
    "on_missing",
    "what becomes of a stack with an option that cannot run here",
    (
        Option("skip", "a row that says why"),
        Option("fallback", "upstream's option in its place, and the row says so"),
        Option("fail", "the run is refused before it starts"),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
    is_part=False,
)
