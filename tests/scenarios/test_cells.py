from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttsbench.optimizations import registry
from ttsbench.records.points import value_text
from ttsbench.scenarios.cells import POINT_AXES, Matrix, at_point, substitute
from ttsbench.scenarios.schema import Scenario, parse


def scenario(rest: str, stacks: str = "{lean: {decode: lean}, upstream: {}}") -> Scenario:
    return parse(f"name: a\nstacks: {stacks}\n{rest}", "a", Path("/nonexistent"))


def test_the_baseline_comes_first_then_the_order_of_the_file() -> None:
    cells = scenario("", "{z: {decode: lean}, upstream: {}, a: {}}").cells()
    assert [cell.key for cell in cells] == ["upstream", "z", "a"]
    assert [cell.baseline for cell in cells] == [True, False, False]
    assert [cell.key for cell in scenario("baseline: a", "{z: {}, upstream: {}, a: {}}").cells()] == [
        "a",
        "z",
        "upstream",
    ]


def test_slots_are_complete_and_in_the_order_of_application() -> None:
    upstream, lean = scenario("").cells()
    assert list(upstream.slots.items()) == [(slot.name, slot.default) for slot in registry.SLOTS]
    assert list(lean.slots) == [slot.name for slot in registry.SLOTS]
    assert lean.slots == {**upstream.slots, "decode": "lean"}


def test_points_multiply_every_stack() -> None:
    plan = scenario("matrix: {workload.length.fixed: [25, 125], model.size: [tiny, full]}")
    assert plan.points() == [
        {"workload.length.fixed": 25, "model.size": "tiny"},
        {"workload.length.fixed": 25, "model.size": "full"},
        {"workload.length.fixed": 125, "model.size": "tiny"},
        {"workload.length.fixed": 125, "model.size": "full"},
    ]
    cells = plan.cells()
    assert len(cells) == 8
    assert cells[0].key == "upstream|workload.length.fixed=25|model.size=tiny"
    assert cells[1].key == "lean|workload.length.fixed=25|model.size=tiny"
    assert [(cell.workload.length.fixed, cell.model.size) for cell in cells[::2]] == [
        (25, "tiny"),
        (25, "full"),
        (125, "tiny"),
        (125, "full"),
    ]


def test_slot_axes_multiply_every_stack_but_the_baseline() -> None:
    plan = scenario(
        "matrix: {slots.watermark: [on, off], device: [cpu]}",
        "{upstream: {}, lean: {decode: lean}, bare: {watermark: off}}",
    )
    cells = plan.cells()
    assert [(cell.stack, cell.slots["decode"], cell.slots["watermark"]) for cell in cells] == [
        ("upstream", "upstream", "on"),
        ("lean+watermark=on", "lean", "on"),
        ("lean+watermark=off", "lean", "off"),
        ("bare+watermark=on", "upstream", "on"),
        ("bare+watermark=off", "upstream", "off"),
    ]
    assert cells[2].key == "lean+watermark=off|device=cpu"
    assert {cell.device for cell in cells} == {"cpu"}


@pytest.mark.parametrize(
    ("entry", "left_out"),
    [
        (
            "{stack: lean, workload.seed: 2}",
            ["lean+watermark=on|workload.seed=2", "lean+watermark=off|workload.seed=2"],
        ),
        ("{stack: lean+watermark=on}", ["lean+watermark=on|workload.seed=1", "lean+watermark=on|workload.seed=2"]),
        ("{slots.watermark: off, workload.seed: 1}", ["lean+watermark=off|workload.seed=1"]),
        ("{stack: upstream, workload.seed: 1}", ["upstream|workload.seed=1"]),
    ],
)
def test_exclude_takes_out_what_matches_all_of_an_entry(entry: str, left_out: list[str]) -> None:
    matrix = "matrix: {slots.watermark: [on, off], workload.seed: [1, 2]}"
    everything = [cell.key for cell in scenario(matrix).cells()]
    kept = [cell.key for cell in scenario(f"{matrix}\nexclude: [{entry}]").cells()]
    assert [key for key in everything if key not in kept] == left_out
    assert [key for key in everything if key not in left_out] == kept


def test_a_point_where_nothing_is_left_is_no_point() -> None:
    plan = scenario("matrix: {workload.seed: [1, 2]}\nexclude: [{workload.seed: 1}]")
    assert plan.points() == [{"workload.seed": 2}]


def test_cells_that_make_no_sense_say_why() -> None:
    plan = scenario("workload: {sampling: {cfg_weight: 0}}")
    assert [cell.refusal for cell in plan.cells()] == [
        "the package's own loop crashes at cfg_weight 0; decode: lean runs it",
        "",
    ]
    plan = scenario(
        "matrix: {model.family: [chatterbox, multilingual]}", "{upstream: {}, x: {decode: lean, analyzer: off}}"
    )
    assert [bool(cell.refusal) for cell in plan.cells()] == [False, True, False, False]


def test_multilingual_speaks_english_unless_told_otherwise() -> None:
    plan = scenario("model: {family: multilingual}\nmatrix: {workload.language: [null, fr]}")
    assert [cell.workload.language for cell in plan.cells()] == ["en", "en", "fr", "fr"]


DATA: dict[str, Any] = {
    "workload": {"texts": ["a"], "length": "natural", "seed": 1, "voice": {"wav": "v"}},
    "model": 5,
}


@pytest.mark.parametrize(
    ("axis", "value", "section"),
    [
        ("workload.seed", 2, {"texts": ["a"], "length": "natural", "seed": 2, "voice": {"wav": "v"}}),
        ("workload.set", "5s", {"length": "natural", "seed": 1, "voice": {"wav": "v"}, "set": "5s"}),
        ("workload.length.fixed", 3, {"texts": ["a"], "length": {"fixed": 3}, "seed": 1, "voice": {"wav": "v"}}),
        ("workload.voice.synthetic", 7, {"texts": ["a"], "length": "natural", "seed": 1, "voice": {"synthetic": 7}}),
        (
            "workload.sampling.top_p",
            1.0,
            {"texts": ["a"], "length": "natural", "seed": 1, "voice": {"wav": "v"}, "sampling": {"top_p": 1.0}},
        ),
    ],
)
def test_a_value_takes_the_place_of_what_it_excludes(axis: str, value: Any, section: dict[str, Any]) -> None:
    before = repr(DATA)
    assert at_point(DATA, {axis: value})["workload"] == section
    assert repr(DATA) == before


def test_substitution_makes_sections_and_leaves_what_is_none() -> None:
    assert substitute({}, ("model", "size"), "tiny") == {"model": {"size": "tiny"}}
    assert substitute({"model": 5}, ("model", "size"), "tiny") == {"model": 5}


def test_names_tell_values_apart() -> None:
    values = [1, 1.0, True, None, "a b", "a|b=1", {"fixed": 25}, {"fixed": "25|"}, "cuda:0", "x/y.wav", "ä"]
    texts = [value_text(value) for value in values]
    assert len(set(texts)) == len(values)
    assert texts[:4] == ["1", "1.0", "true", "null"]
    assert value_text({"fixed": 25}) == "{fixed:25}"
    assert value_text("x/y.wav") == "x/y.wav"
    assert value_text("a|b=1") == '"a|b=1"'


def test_the_size_is_known_without_unfolding() -> None:
    stacks: dict[str, dict[str, str]] = {"a": {}, "b": {}, "c": {}}
    matrix = Matrix(stacks, "a", {"workload.seed": [1, 2, 3], "slots.watermark": ["on", "off"]}, ())
    assert matrix.size() == sum(len(kept) for _, kept in matrix.rows()) == 15
    assert Matrix(stacks, "a", {axis: range(1000) for axis in POINT_AXES}, ()).size() == 3 * 1000 ** len(POINT_AXES)
