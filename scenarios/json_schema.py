"""The scenario's JSON Schema: what an editor needs to complete and check a file while it is written."""

from __future__ import annotations

from typing import Any

from ttsbench.optimizations import registry
from ttsbench.optimizations.options import Slot
from ttsbench.scenarios.cells import POINT_AXES, SLOTS
from ttsbench.scenarios.checks import STACK_PATTERN
from ttsbench.scenarios.models import Length, ScenarioFile, Voice

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, with every slot and option by name."""
    schema = ScenarioFile.model_json_schema()
    for choice in (Length, Voice):
        schema["$defs"][choice.__name__] = _word_or_key(choice.word, schema["$defs"][choice.__name__])
    properties = schema["properties"]
    properties["stacks"] |= {
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{STACK_PATTERN}$"},
        "additionalProperties": {
            "type": ["object", "null"],
            "properties": {slot.name: _options(slot) for slot in registry.SLOTS},
            "additionalProperties": False,
        },
    }
    properties["matrix"] |= {
        "minProperties": 1,
        "properties": {
            **{axis: {"type": "array", "minItems": 1} for axis in POINT_AXES},
            **{
                f"{SLOTS}{slot.name}": {"type": "array", "minItems": 1, "items": _options(slot)}
                for slot in registry.SLOTS
            },
        },
        "additionalProperties": False,
    }
    return {"$schema": DIALECT, "title": "ttsbench scenario", **{k: v for k, v in schema.items() if k != "title"}}


def _word_or_key(word: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A word, or a mapping with one of the keys; pydantic knows only the latter, and any number of them."""
    alternatives: list[dict[str, Any]] = [{"const": word}]
    for key, value in schema["properties"].items():
        present = next(kind for kind in value["anyOf"] if kind != {"type": "null"})
        alternatives.append(
            {"type": "object", "properties": {key: present}, "required": [key], "additionalProperties": False}
        )
    return {"description": schema["description"], "oneOf": alternatives}


def _options(slot: Slot) -> dict[str, Any]:
    """Quoted or not: to YAML 1.1, on and off are booleans."""
    names: list[Any] = [option.name for option in slot.options]
    booleans = [value for value, name in ((True, "on"), (False, "off")) if name in names]
    description = "; ".join(f"{option.name}: {option.summary}" for option in slot.options)
    return {"description": f"{slot.summary}. {description}", "enum": [*names, *booleans], "default": slot.default}
