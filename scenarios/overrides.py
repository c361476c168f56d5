"""`--set key=value`: one value of a scenario, changed from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttsbench.errors import UsageError
from ttsbench.scenarios import yaml_source
from ttsbench.scenarios.cells import substitute
from ttsbench.scenarios.mistakes import MistakeCollector


def split(override: str) -> tuple[str, str]:
    """The key and the text of the value."""
    key, equals, value = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > yaml_source.DEPTH_MAX:
        raise UsageError(
            f"--set {override!r:.80} is not key=value",
            mend="Write the path of one value, such as --set measure.repeats=3",
        )
    return key.strip(), value


def apply_overrides(data: dict[str, Any], overrides: Sequence[str], mistakes: MistakeCollector) -> dict[str, Any]:
    """The data with every override in place, the last one winning; a value that is no YAML is noted."""
    for override in overrides:
        key, text = split(override)
        document = yaml_source.read(text)
        keys = path(key, document.data)
        mistakes.add_override(keys, document.faults)
        data = substitute(data, keys, document.data)
    return data


def path(key: str, value: Any) -> tuple[str, ...]:
    """Where an override points to; names of stacks and keys of the matrix may have dots in them."""
    head, *rest = key.split(".")
    if head == "matrix" and rest:
        return head, ".".join(rest)
    if head == "stacks" and len(rest) > 1:
        return (head, ".".join(rest)) if isinstance(value, dict) else (head, ".".join(rest[:-1]), rest[-1])
    return head, *rest
