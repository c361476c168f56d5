"""Slot `on_missing`: what becomes of a stack with an option that cannot run here. Planning decides it (`plan.make`)."""

from __future__ import annotations

from typing import Any


def apply(pipeline: Any, option: str) -> None:
    """Nothing is left to do once a cell runs."""


def attest(pipeline: Any, option: str) -> dict[str, Any]:
    """What was asked for; what a row fell back to stands in the row itself."""
    return {"rule": option}
