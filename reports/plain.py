"""Text that came from elsewhere, made harmless for where it is to stand."""

from __future__ import annotations

from typing import Any

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def in_cell(value: Any) -> Any:
    """A value of a CSV; a text that a spreadsheet would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
