"""What installed distributions add by entry points: families of models, formats, kernels, metrics, options."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

_T = TypeVar("_T")


def declare_installed(group: str, kind: type[_T], declare: Callable[[_T], object]) -> None:
    """Declares what the group's entry points name; one that cannot be used is warned of, and the others remain."""
    for entry in entry_points(group=group):
        try:
            named = entry.load()
            if not isinstance(named, kind):
                raise TypeError(f"it is a {type(named).__name__}, not a {kind.__name__}")
            declare(named)
        except Exception as error:  # noqa: BLE001  (whatever somebody else's module raises)
            message = f"the {kind.__name__.lower()} {entry.name} ({entry.value}) cannot be used: {error}"
            warnings.warn(message, stacklevel=2)
