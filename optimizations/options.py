"""What an option and a slot are. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ttsbench.model.families import Family


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
    # Of one that captures or compiles: which option does the same work eagerly, and whether Inductor is at work.
    eager: str = ""
    inductor: bool = False


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
