"""Points of a matrix, which readers of records ask for too: no schema of scenarios is needed for them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Point = dict[str, Any]


def value_text(value: Any) -> str:
    """A value of the matrix as it stands in names; two different ones never look alike."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w./+-]+", value) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{value_text(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def holds_at(coordinates: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    """Whether a point has these coordinates."""
    return all(axis in point and value_text(point[axis]) == value_text(value) for axis, value in coordinates.items())
