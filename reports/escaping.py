"""Text that came from elsewhere, made harmless for where it is to stand."""

from __future__ import annotations

import re
from typing import Any

# What moves a terminal's cursor, colours it, rings its bell or turns the direction of reading; lines end where we say.
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    """With control characters spelled out, so that a terminal shows them and obeys none."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def in_cell(value: Any) -> Any:
    """A value of a CSV; a text that a spreadsheet would compute begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value
