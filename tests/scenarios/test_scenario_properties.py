"""Whatever the input, a scenario is either a scenario or a mistake in words; and whatever validates, plans."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from ttsbench.errors import ScenarioError, UsageError
from ttsbench.model.families import FAMILIES
from ttsbench.optimizations import registry
from ttsbench.scenarios.cells import POINT_AXES, SLOT_AXES
from ttsbench.scenarios.models import SECTIONS
from ttsbench.scenarios.schema import Scenario, parse

NOWHERE = Path("/nonexistent")
MINIMAL = {"name": "a", "stacks": {"upstream": {}}}
KEYS = sorted({key for kind in SECTIONS.values() for key in kind.model_fields})

TOP_KEYS = [key for key in SECTIONS[()].model_fields if key not in MINIMAL]

relaxed = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])


def attempt(text: str, *overrides: str) -> Scenario | None:
    """The scenario, or None if it was refused in words."""
    try:
        return parse(text, "fuzz.yaml", NOWHERE, overrides)
    except (ScenarioError, UsageError) as error:
        output = str(error)
    assert output.strip()
    assert "Traceback" not in output
    return None


yaml_like = st.text(
    alphabet=st.sampled_from("abx01.~-:[]{}#&*!|>'\"%@`?, \n\t<\\Uu=_eE+é\x85\u2028\ufeff"), max_size=60
)


@relaxed
@given(st.text(max_size=80) | yaml_like)
@example('a: "\\UFFFFFFFF"')
@example('a: "\\ud800"')
@example('"\\0": 1')
@example("%YAML 9999999999999999999999999.1\n---\na: 1")
@example("a: 0x" + "F" * 5000)
@example("a: " + "9" * 5000)
@example("a: " + "1:" * 5000 + "1")
@example("a: !!int x\nb: !!float x\nc: !!bool x\nd: !!timestamp x\ne: !!binary x")
@example("&a [*a]")
@example("&a {x: *a}")
@example("? [a]\n: 1")
@example("\ud800")
@example("[" * 5000)
@example("a: !!python/object/apply:os.system [ls]")
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    attempt(text)
    attempt(f"name: a\nstacks: {{upstream: {{}}}}\nmodel: {text}")
    attempt(json.dumps(MINIMAL), f"workload.texts={text}")


@relaxed
@given(st.text(max_size=40), st.text(max_size=20))
@example("a." * 3000, "1")
@example("stacks.a.b.c", "1")
@example("matrix", "{}")
@example("exclude.0", "1")
@example("workload.length.fixed.more", "1")
def test_any_override_is_taken_or_refused_in_words(key: str, value: str) -> None:
    attempt(json.dumps(MINIMAL), f"{key}={value}", key)


names = st.sampled_from([*KEYS, "upstream", "lean", "stack", *POINT_AXES, *SLOT_AXES, *registry.BY_NAME]) | st.text(
    max_size=5
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 7)
    | st.integers()
    | st.floats()
    | st.sampled_from(["upstream", "lean", "on", "off", "chatterbox", "multilingual", "10s", "en", "natural", "cuda:1"])
    | st.text(max_size=8)
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=25
)


@relaxed
@given(
    trees
    | st.dictionaries(names, trees)
    | st.fixed_dictionaries({"name": st.just("a"), "stacks": trees}, optional=dict.fromkeys(TOP_KEYS, trees))
)
def test_any_structure_is_read_or_refused_in_words(tree: Any) -> None:
    scenario = attempt(yaml.safe_dump(tree, allow_unicode=True))
    if scenario is not None:
        scenario.cells()


stack_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,8}", fullmatch=True)
slots = st.fixed_dictionaries(
    {}, optional={slot.name: st.sampled_from([option.name for option in slot.options]) for slot in registry.SLOTS}
)
AXES: dict[str, st.SearchStrategy[Any]] = {
    "model.family": st.sampled_from(tuple(FAMILIES)),
    "model.size": st.sampled_from(["full", "tiny"]),
    "model.seed": st.integers(0, 9),
    "device": st.sampled_from(["auto", "cpu", "cuda:0"]),
    "workload.set": st.sampled_from(["5s", "10s"]),
    "workload.length.fixed": st.integers(1, 500),
    "workload.voice": st.sampled_from(["checkpoint", {"synthetic": 6.5}, {"synthetic": 3}]),
    "workload.language": st.sampled_from([None, "en", "de"]),
    "workload.sampling.temperature": st.floats(0.1, 2.0),
    **{f"slots.{slot.name}": st.sampled_from([option.name for option in slot.options]) for slot in registry.SLOTS},
}


def matrix_of(axes: list[str]) -> st.SearchStrategy[dict[str, list[Any]]]:
    lists = {axis: st.lists(AXES[axis], min_size=1, max_size=2, unique_by=repr) for axis in axes}
    return st.fixed_dictionaries(lists)


matrices = st.lists(st.sampled_from(sorted(AXES)), max_size=3, unique=True).flatmap(matrix_of)


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    stacks = draw(st.dictionaries(stack_names, slots, min_size=1, max_size=4))
    matrix = draw(matrices)
    drawn: dict[str, Any] = {"name": "a", "stacks": stacks, "baseline": draw(st.sampled_from(sorted(stacks)))}
    if matrix:
        drawn["matrix"] = matrix
        axes = st.sampled_from(sorted(matrix)).flatmap(
            lambda axis: st.tuples(st.just(axis), st.sampled_from(matrix[axis]))
        )
        entries = st.lists(axes, min_size=1, max_size=2).map(dict)
        drawn["exclude"] = draw(st.lists(entries, max_size=2))
    return drawn


@relaxed
@given(scenarios())
def test_what_validates_plans(tree: dict[str, Any]) -> None:
    scenario = attempt(yaml.safe_dump(tree))
    assume(scenario is not None)
    assert scenario is not None
    cells = scenario.cells()
    keys = [cell.key for cell in cells]
    assert cells
    assert len(set(keys)) == len(keys)
    assert any(cell.baseline for cell in cells)
    assert {json.dumps(cell.point) for cell in cells} == {json.dumps(point) for point in scenario.points()}
    for cell in cells:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+=-]*", cell.stack)
        assert len(cell.stack) < 200
        assert list(cell.slots) == [slot.name for slot in registry.SLOTS]
        assert (cell.workload.language is not None) == (cell.model.family == "multilingual")
        assert cell.workload.utterances()
    again = parse(yaml.safe_dump(scenario.understood()), "again.yaml", NOWHERE)
    assert [(cell.key, cell.slots, cell.model, cell.workload) for cell in again.cells()] == [
        (cell.key, cell.slots, cell.model, cell.workload) for cell in cells
    ]
