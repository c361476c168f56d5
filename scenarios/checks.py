"""Every mistake of a scenario: first what each key holds, then what the keys mean together.

Nothing here stops at the first mistake, and nothing is judged by a value that is itself a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ttsbench.errors import suggest
from ttsbench.optimizations import registry
from ttsbench.records.points import Point, holds_at, value_text
from ttsbench.scenarios.cells import (
    CELLS_MAX,
    MAPPING_AXES,
    POINT_AXES,
    SLOT_AXES,
    SLOTS,
    Matrix,
)
from ttsbench.scenarios.expectations import FORWARD_METRICS, UTTERANCE_METRICS
from ttsbench.scenarios.mistakes import MistakeCollector, describe_error, shown
from ttsbench.scenarios.models import (
    DEFAULT_PASSES,
    FORWARD_PASSES,
    LOAD_PASSES,
    PASSES,
    SECTIONS,
    TEXT_SOURCES,
    UTTERANCE_PASSES,
    ScenarioFile,
)
from ttsbench.scenarios.settings import check_points
from ttsbench.scenarios.yaml_source import Keys

STACK_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"


def check(data: Any, base: Path, mistakes: MistakeCollector) -> None:
    """Notes every mistake in a scenario's plain data."""
    if isinstance(data, Mapping):
        stacks = _valid_stacks(data, mistakes)
        axes = _valid_axes(data, mistakes)
        matrix = Matrix(stacks, _valid_baseline(data, stacks, mistakes), axes, ())
        matrix = replace(matrix, exclude=_valid_exclude(data, matrix, mistakes))
        points = _points(matrix, mistakes)
        check_points(data, base, axes, points, mistakes)
        _check_forwards(data, mistakes)
        _check_streams(data, stacks, mistakes)
        _check_loads(data, mistakes)
        _check_planted(data, stacks, mistakes)
        _check_claims(data, matrix, points, mistakes)
    # Last, because a place has one mistake at most, and "unknown slot" says more than "should be text".
    _check_structure(data, base, mistakes)
    _check_text_sources(data, mistakes)


def default_baseline(stacks: Iterable[str]) -> str:
    """`upstream` if there is such a stack, else the first; empty where there is none."""
    names = tuple(stacks)
    return "upstream" if "upstream" in names else next(iter(names), "")


def _check_structure(data: Any, base: Path, mistakes: MistakeCollector) -> None:
    try:
        ScenarioFile.model_validate(data, context={"base": base})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            section = tuple(key for key in detail["loc"][:-1] if isinstance(key, str))
            mistakes.add(detail["loc"], describe_error(detail, SECTIONS.get(section)))


def _check_forwards(data: Mapping[str, Any], mistakes: MistakeCollector) -> None:
    """A matrix varies what is there; what is measured per second of audio has no part in a forward."""
    forward = _mapping(data.get("workload")).get("forward") is not None
    for axis in _mapping(data.get("matrix")):
        if axis.startswith("workload.forward.") and not forward:
            mistakes.add(("matrix", axis), "varies a forward, and there is none; give workload.forward, if only {}")
    passes = _mapping(data.get("measure")).get("passes", DEFAULT_PASSES)
    if forward and isinstance(passes, list | tuple) and (unfit := [p for p in UTTERANCE_PASSES if p in passes]):
        problem = f"a forward has no {' and no '.join(unfit)} pass; give those it has: {', '.join(FORWARD_PASSES)}"
        mistakes.add(("measure", "passes"), problem)


def _check_streams(
    data: Mapping[str, Any], stacks: Mapping[str, Mapping[str, str]], mistakes: MistakeCollector
) -> None:
    """Chunks are cut for stacks that stream."""
    axes = _mapping(data.get("matrix"))
    designs = [*(slots.get("stream") for slots in stacks.values()), *axes.get(f"{SLOTS}stream", ())]
    if {*map(str, designs)} - {"None", registry.BY_NAME["stream"].default}:
        return
    problem = "cuts chunks, and no stack streams; give one of them stream: windowed"
    if _mapping(data.get("workload")).get("streaming") is not None:
        mistakes.add(("workload", "streaming"), problem)
    for axis in axes:
        if axis.startswith("workload.streaming."):
            mistakes.add(("matrix", axis), problem)


def _check_loads(data: Mapping[str, Any], mistakes: MistakeCollector) -> None:
    """What is measured of single utterances, and claimed of them, has no part in a load."""
    if _mapping(data.get("workload")).get("load") is None:
        return
    passes = _mapping(data.get("measure")).get("passes", DEFAULT_PASSES)
    if isinstance(passes, list | tuple) and (unfit := [p for p in PASSES if p in passes and p not in LOAD_PASSES]):
        problem = f"a load has no {' and no '.join(unfit)} pass; give those it has: {', '.join(LOAD_PASSES)}"
        mistakes.add(("measure", "passes"), problem)
    if data.get("claims"):
        mistakes.add(("claims",), "are about figures of utterances or forwards, and a load has neither")


def _check_planted(data: Mapping[str, Any], stacks: Mapping[str, Any], mistakes: MistakeCollector) -> None:
    for stack in _mapping(_mapping(data.get("fake")).get("planted")):
        if stack not in stacks:
            mistakes.add(("fake", "planted", stack), f"'{stack:.60}' is no stack; {suggest(stack, stacks)}")


def _check_claims(data: Mapping[str, Any], matrix: Matrix, points: Sequence[Point], mistakes: MistakeCollector) -> None:
    """Each is about a stack, a point and a figure that this scenario has."""
    claims = data.get("claims")
    forward = _mapping(data.get("workload")).get("forward") is not None
    metrics = FORWARD_METRICS if forward else UTTERANCE_METRICS
    seen: set[Any] = set()
    for index, claim in enumerate(claims if isinstance(claims, list) else ()):
        fields = _mapping(claim)
        if "stack" in fields:
            _stack_exists(fields["stack"], matrix, ("claims", index, "stack"), mistakes)
        if (metric := fields.get("metric")) in (*UTTERANCE_METRICS, *FORWARD_METRICS) and metric not in metrics:
            of = "forwards" if forward else "utterances"
            mistakes.add(("claims", index, "metric"), f"{metric} is no figure of {of}; {suggest(metric, metrics)}")
        if isinstance(name := fields.get("id"), str) and name in seen:
            mistakes.add(("claims", index, "id"), f"'{name:.60}' names another claim already")
        seen.add(fields.get("id") if isinstance(fields.get("id"), str) else None)
        _point_exists(fields.get("at"), points, ("claims", index, "at"), mistakes)


def _point_exists(coordinates: Any, points: Sequence[Point], keys: Keys, mistakes: MistakeCollector) -> None:
    """Whether at least one point has all these coordinates; where nothing runs, that is the mistake."""
    if not points:
        return
    axes = {axis: dict.fromkeys(value_text(point[axis]) for point in points if axis in point) for axis in points[0]}
    before = len(mistakes.collected)
    for axis, value in _mapping(coordinates).items():
        if axis not in axes:
            mistakes.add((*keys, axis), f"no axis of the matrix that makes points; {suggest(str(axis), axes)}")
        elif value_text(value) not in axes[axis]:
            mistakes.add(
                (*keys, axis), f"{value_text(value):.60} is not one of its values: {', '.join(axes[axis]):.200}"
            )
    if len(mistakes.collected) == before and not any(holds_at(_mapping(coordinates), point) for point in points):
        mistakes.add(keys, "is no point that runs; exclude leaves it out")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _check_text_sources(data: Any, mistakes: MistakeCollector) -> None:
    workload = _mapping(_mapping(data).get("workload"))
    sources = [key for key in workload if key in TEXT_SOURCES and workload[key] is not None]
    if len(sources) > 1:
        mistakes.add(("workload", sources[-1]), f"give only one of texts, file and set; {sources[0]} is given too")


def _valid_stacks(data: Mapping[str, Any], mistakes: MistakeCollector) -> dict[str, dict[str, str]]:
    """All stacks by name, each with the options that exist."""
    valid: dict[str, dict[str, str]] = {}
    for name, slots in _mapping(data.get("stacks")).items():
        if not re.fullmatch(STACK_PATTERN, name):
            allowed = "letters, digits and '_', '.', '+', '-', at most 64, a letter or digit first"
            mistakes.add(("stacks", name), f"{name!r:.80} cannot name a stack; allowed: {allowed}")
        valid[name] = {}
        for slot, option in _mapping(slots).items():
            keys = ("stacks", name, slot)
            if slot not in registry.BY_NAME:
                mistakes.add(keys, f"unknown slot; {suggest(slot, registry.BY_NAME)}")
            elif _option_exists(slot, option, keys, mistakes):
                valid[name][slot] = option
    return valid


def _option_exists(slot: str, option: Any, keys: Keys, mistakes: MistakeCollector) -> bool:
    names = [entry.name for entry in registry.BY_NAME[slot].options]
    if option in names:
        return True
    if isinstance(option, str):
        mistakes.add(keys, f"'{option:.60}' is no option of {slot}; {suggest(option, names)}")
    else:
        mistakes.add(keys, f"{shown(option)} is no option of {slot}; {suggest('', names)}")
    return False


def _valid_baseline(data: Mapping[str, Any], stacks: Mapping[str, Any], mistakes: MistakeCollector) -> str:
    """The stack that was named; the default one where none was or where it does not exist."""
    baseline = data.get("baseline")
    if isinstance(baseline, str) and baseline in stacks:
        return baseline
    if isinstance(baseline, str):
        mistakes.add(("baseline",), f"'{baseline:.60}' is no stack; {suggest(baseline, stacks)}")
    return default_baseline(stacks)


def _valid_axes(data: Mapping[str, Any], mistakes: MistakeCollector) -> dict[str, Sequence[Any]]:
    """The axes without a mistake."""
    valid: dict[str, Sequence[Any]] = {}
    overridden = {_decided_key(".".join(map(str, keys))): keys for keys in mistakes.overridden}
    decided: dict[str, str] = {}
    for axis, values in _mapping(data.get("matrix")).items():
        keys = ("matrix", axis)
        if axis not in (*POINT_AXES, *SLOT_AXES):
            mistakes.add(keys, f"this cannot vary; {suggest(axis, (*POINT_AXES, *SLOT_AXES))}")
            continue
        same_axis = decided.setdefault(_decided_key(axis), axis)
        if same_axis != axis:
            mistakes.add(keys, f"{same_axis} varies the same thing; keep one of the two")
        if shadowed := overridden.get(_decided_key(axis)):
            mistakes.add(shadowed, f"has no effect, because the matrix varies {axis}; set matrix.{axis} instead")
        if isinstance(values, list) and values and _check_axis_values(axis, values, mistakes) and same_axis == axis:
            valid[axis] = values
    return valid


def _decided_key(axis: str) -> str:
    """What an axis or override decides: fixed and replay both decide the length."""
    if axis.startswith("workload.") and axis.removeprefix("workload.") in TEXT_SOURCES:
        return "workload.texts"
    return next((whole for whole in MAPPING_AXES if axis.startswith(f"{whole}.")), axis)


def _check_axis_values(axis: str, values: list[Any], mistakes: MistakeCollector) -> bool:
    seen: set[str] = set()
    before = len(mistakes.collected)
    for index, value in enumerate(values):
        keys = ("matrix", axis, index)
        if isinstance(value, list) or (isinstance(value, Mapping) and axis not in MAPPING_AXES):
            mistakes.add(keys, f"should be one value, not {shown(value)}")
        elif value_text(value) in seen:
            mistakes.add(keys, f"{value_text(value):.60} is given twice")
        elif axis.startswith(SLOTS):
            _option_exists(axis.removeprefix(SLOTS), value, keys, mistakes)
        seen.add(value_text(value))
    return len(mistakes.collected) == before


def _valid_exclude(data: Mapping[str, Any], matrix: Matrix, mistakes: MistakeCollector) -> list[Mapping[str, Any]]:
    """The entries without a mistake; one that could match nothing is a mistake."""
    entries = data.get("exclude")
    axes = _mapping(data.get("matrix"))
    valid = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        before = len(mistakes.collected)
        for key, value in _mapping(entry).items():
            keys = ("exclude", index, key)
            if key == "stack":
                _stack_exists(value, matrix, keys, mistakes)
            elif key in matrix.axes:
                texts = [value_text(item) for item in matrix.axes[key]]
                if value_text(value) not in texts:
                    mistakes.add(keys, f"{value_text(value):.60} is not one of its values: {', '.join(texts):.200}")
            elif key not in axes:
                mistakes.add(keys, f"neither 'stack' nor a key of the matrix; {suggest(key, ['stack', *axes])}")
        if _mapping(entry) and len(mistakes.collected) == before and set(entry) <= {"stack", *matrix.axes}:
            valid.append(entry)
    return valid


def _stack_exists(stack: Any, matrix: Matrix, keys: Keys, mistakes: MistakeCollector) -> None:
    fits = bool(matrix.stacks) and matrix.size() <= CELLS_MAX
    names = [*matrix.stacks, *(variant.label for variant in (matrix.variants() if fits else ()))]
    if not isinstance(stack, str):
        mistakes.add(keys, f"should be the name of one stack, not {shown(stack)}")
    elif fits and stack not in names:
        mistakes.add(keys, f"'{stack:.60}' is no stack; {suggest(stack, set(names))}")


def _points(matrix: Matrix, mistakes: MistakeCollector) -> list[Point]:
    """The points that are going to run; one empty point if that cannot be known."""
    if not matrix.stacks:
        return [{}]
    if matrix.size() > CELLS_MAX:
        mistakes.add(("matrix",), f"unfolds into more than {CELLS_MAX:,} cells, which is the most that is allowed")
        return [{}]
    rows = matrix.rows()
    if not rows:
        mistakes.add(("exclude",), "leaves nothing to run")
    elif not any(variant.label == matrix.baseline for _, kept in rows for variant in kept):
        mistakes.add(("exclude",), f"leaves out the baseline '{matrix.baseline}' everywhere; nothing could be compared")
    return [point for point, _ in rows]
