from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttsbench.model.families import FAMILIES, LANGUAGES
from ttsbench.optimizations import registry
from ttsbench.records.points import holds_at
from ttsbench.scenarios.json_schema import json_schema
from ttsbench.scenarios.models import SECTIONS
from ttsbench.scenarios.schema import load
from ttsbench.scenarios.shipped import descriptions, shipped
from ttsbench.scenarios.texts import DEFAULT_LANGUAGE, DEFAULT_SET, SETS

SHIPPED = shipped()
SPEECH_CHARACTERS_PER_SECOND = 14


def complaint(value: Any, schema: dict[str, Any], defs: dict[str, Any]) -> str:
    """What a JSON Schema has against a value, as far as the keywords go that ours uses; unknown ones fail the test."""
    known = {"$schema", "$defs", "title", "description", "default", "type", "enum", "const", "anyOf", "oneOf", "$ref"}
    known |= {"properties", "additionalProperties", "propertyNames", "required", "items", "pattern"}
    known |= {"minItems", "minProperties", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"}
    assert set(schema) <= known
    if "$ref" in schema:
        return complaint(value, defs[schema["$ref"].removeprefix("#/$defs/")], defs)
    for keyword, expected in (("anyOf", range(1, 99)), ("oneOf", range(1, 2))):
        if keyword in schema and sum(not complaint(value, option, defs) for option in schema[keyword]) not in expected:
            return f"{keyword}: {value!r}"
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    allowed = [schema["type"]] if isinstance(schema.get("type"), str) else schema.get("type", [])
    if allowed and not any(isinstance(value, types[name]) for name in allowed):
        return f"type: {value!r}"
    checks: dict[str, Callable[[Any], Any]] = {
        "enum": lambda limit: value in limit,
        "const": lambda limit: value == limit,
        "pattern": lambda limit: re.search(limit, value),
        "minItems": lambda limit: len(value) >= limit,
        "minProperties": lambda limit: len(value) >= limit,
        "minLength": lambda limit: len(value) >= limit,
        "maxLength": lambda limit: len(value) <= limit,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "required": lambda limit: set(limit) <= set(value),
    }
    if failed := [keyword for keyword, check in checks.items() if keyword in schema and not check(schema[keyword])]:
        return f"{failed[0]}: {value!r}"
    if isinstance(value, list):
        return next(filter(None, (complaint(item, schema.get("items", {}), defs) for item in value)), "")
    if isinstance(value, dict):
        return _complaint_of_keys(value, schema, defs)
    return ""


def _complaint_of_keys(value: dict[str, Any], schema: dict[str, Any], defs: dict[str, Any]) -> str:
    for key, held in value.items():
        if result := complaint(key, schema.get("propertyNames", {}), defs):
            return result
        below = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
        if below is False:
            return f"additional: {key}"
        if below is not True and (result := complaint(held, below, defs)):
            return f"{key}: {result}"
    return ""


def against_schema(text: str) -> str:
    schema = json_schema()
    return complaint(yaml.safe_load(text), schema, schema["$defs"])


def test_the_scenarios_that_the_readme_promises_ship() -> None:
    assert {"quickstart", "chatterbox", "turbo", "nano", "multilingual"} <= set(SHIPPED)


@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED)
def test_every_shipped_scenario_is_sound(path: Path) -> None:
    text = path.read_text()
    scenario = load(path)
    assert scenario.name == path.stem
    assert scenario.description == descriptions()[path.stem] != ""
    assert 2 <= len(re.match(r"(#.*\n)*", text).group().splitlines()) <= 3  # type: ignore[union-attr]
    cells = scenario.cells()
    assert cells[0].baseline
    assert not any(cell.refusal for cell in cells)
    assert against_schema(text) == ""


@pytest.mark.parametrize("path", SHIPPED.values(), ids=SHIPPED)
def test_fixed_lengths_are_whole_seconds(path: Path) -> None:
    for cell in load(path).cells():
        if cell.workload.forward is not None or path.stem == "quickstart":  # which is shorter: a newcomer waits for it
            continue
        silence = 3 if cell.model.family in ("turbo", "nano") else 0
        assert cell.workload.length.fixed is not None
        assert (cell.workload.length.fixed + silence) % 25 == 0


CLAIM_SETS = {
    "claims-a": {"forward_seconds", "forward_peak_bytes"},
    "claims-a-s3gen": {"s3gen_seconds", "peak_memory_bytes"},
    "claims-b": {"rtf", "peak_memory_bytes"},
    "claims-c": {"rtf", "peak_memory_bytes", "vocoder_calls"},
    "claims-d": {"forward_seconds"},
    "claims-e": {"wall_seconds", "rtf"},
}


@pytest.mark.parametrize(("name", "metrics"), CLAIM_SETS.items())
def test_each_set_of_claims_ships_with_claims_that_a_stack_can_answer(name: str, metrics: set[str]) -> None:
    scenario = load(SHIPPED[name])
    assert {claim.metric for claim in scenario.claims} == metrics
    cells = scenario.cells()
    for claim in scenario.claims:
        at = [cell for cell in cells if cell.stack == claim.stack and holds_at(claim.at or {}, cell.point)]
        assert at
        assert claim.kind == "value" or not any(cell.baseline for cell in at)
    assert "quality" in scenario.measure.passes


def test_set_d_measures_lengths_and_decode_steps() -> None:
    forwards = [cell.workload.forward for cell in load(SHIPPED["claims-d"]).cells() if cell.stack == "triton"]
    assert {f.positions for f in forwards if f and not f.steps} == {500, 1000, 1500, 2000, 2500}
    assert {f.positions for f in forwards if f and f.steps} == {500, 2500}


def test_set_a_has_the_grid_of_the_claim() -> None:
    forwards = [cell.workload.forward for cell in load(SHIPPED["claims-a"]).cells() if cell.baseline]
    assert [(f.rows, f.positions) for f in forwards if f] == [(1, 512), (1, 1024), (1, 2048), (1, 4096), (4, 512)]
    measure = load(SHIPPED["claims-a"]).measure
    assert (measure.warmup, measure.repeats) == (3, 10)


def test_set_e_pairs_each_text_with_its_length() -> None:
    cells = [cell for cell in load(SHIPPED["claims-e"]).cells() if cell.baseline]
    lengths = [(cell.workload.set, cell.workload.length.fixed) for cell in cells]
    assert lengths == [("5s", 125), ("10s", 250), ("15s", 375)]


def test_the_quickstart_runs_anywhere() -> None:
    scenario = load(SHIPPED["quickstart"])
    assert scenario.model.size == "tiny"
    assert scenario.device == "auto"
    assert len(scenario.stacks) == 3


def test_the_sets_are_as_long_as_they_say() -> None:
    assert list(SETS) == ["5s", "10s", "15s", "117-characters"]
    assert DEFAULT_SET in SETS
    for name, texts in SETS.items():
        for text in texts:
            if name == "117-characters":
                assert len(text) == 117
            else:
                assert len(text) / SPEECH_CHARACTERS_PER_SECOND == pytest.approx(
                    float(name.removesuffix("s")), rel=0.03
                )
            assert re.fullmatch(r"[A-Z][A-Za-z ,.]+\.", text)


def test_the_languages_are_upstreams() -> None:
    package = importlib.util.find_spec("chatterbox")
    if package is None or not package.submodule_search_locations:
        pytest.skip("chatterbox is not installed")
    # Read, not imported: that would take ten seconds.
    tree = ast.parse(Path(package.submodule_search_locations[0], "mtl_tts.py").read_text(encoding="utf-8"))
    literals = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert ast.literal_eval(literals["SUPPORTED_LANGUAGES"]) == LANGUAGES
    assert DEFAULT_LANGUAGE in LANGUAGES


def test_the_json_schema_knows_every_slot_option_and_key() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    stack = schema["properties"]["stacks"]["additionalProperties"]
    assert list(stack["properties"]) == [slot.name for slot in registry.SLOTS]
    for slot in registry.SLOTS:
        names = [option.name for option in slot.options]
        assert [name for name in stack["properties"][slot.name]["enum"] if isinstance(name, str)] == names
        assert (
            schema["properties"]["matrix"]["properties"][f"slots.{slot.name}"]["items"]["enum"][: len(names)] == names
        )
    assert schema["$defs"]["Model"]["properties"]["family"]["enum"] == list(FAMILIES)
    assert set(schema["properties"]) == set(SECTIONS[()].model_fields)
    for name in ("Model", "Workload", "Measure"):
        for key in schema["$defs"][name]["properties"].values():
            assert key["description"]


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nstacks: {upstream: {watermark: off}}",
        "name: a\nstacks: {upstream: }\nworkload: {length: {replay: x}, voice: {synthetic: 6}, texts: [a]}",
        "name: a\nstacks: {a: {}}\nmatrix: {workload.length.fixed: [1], slots.decode: [lean]}\nexclude: [{stack: a}]",
    ],
)
def test_the_json_schema_accepts_what_is_allowed(text: str) -> None:
    assert against_schema(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "stacks: {upstream: {}}",
        "name: a/b\nstacks: {upstream: {}}",
        "name: a\nstacks: {}",
        "name: a\nstacks: {a/b: {}}",
        "name: a\nstacks: {a: {decode: leen}}",
        "name: a\nstacks: {a: {decoder: lean}}",
        "name: a\nstacks: {a: {}}\ncolor: red",
        "name: a\nstacks: {a: {}}\nmeasure: {repeats: 0}",
        "name: a\nstacks: {a: {}}\nmeasure: {passes: [speed]}",
        "name: a\nstacks: {a: {}}\nmatrix: {foo: [1]}",
        "name: a\nstacks: {a: {}}\nmatrix: {workload.seed: []}",
        "name: a\nstacks: {a: {}}\ndevice: gpu",
        "name: a\nstacks: {a: {}}\nworkload: {length: {fixed: 0}}",
        "name: a\nstacks: {a: {}}\nworkload: {length: {fixed: 1, replay: x}}",
        "name: a\nstacks: {a: {}}\nworkload: {voice: hers}",
    ],
)
def test_the_json_schema_refuses_what_is_not(text: str) -> None:
    assert against_schema(text) != ""
