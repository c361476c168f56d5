"""How slots change a pipeline, so that it can be taken back: two stacks can then follow each other in one process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ttsbench.instruments.swapping import replace


class Undo:
    """What was changed, to be restored in the opposite order.

    Changed weights are kept only if `keep_weights` is set: they would count among the memory that a stack takes.
    """

    def __init__(self, *, keep_weights: bool = False) -> None:
        self._changes = ExitStack()
        self._keep_weights = keep_weights
        self._weights_are_lost = False

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Another value for an attribute, or for a key of a mapping."""
        self.callback(replace(owner, name, value))

    def callback(self, restore: Callable[[], object]) -> None:
        self._changes.callback(restore)

    def weights(self, restore: Callable[[], object]) -> None:
        """`restore` holds the weights as they were; it is dropped unless they are to be kept."""
        if self._keep_weights:
            self.callback(restore)
        else:
            self._weights_are_lost = True

    def restore(self) -> None:
        """Everything is as it was before the first change."""
        if self._weights_are_lost:
            raise RuntimeError("weights were changed and not kept; make the pipeline with keep_weights=True")
        self._changes.close()
