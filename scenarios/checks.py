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
from ttsbench.model.families import FAKE
from ttsbench.optimizations import registry
from ttsbench.scenarios.cells import (
    CELLS_MAX,
    MAPPING_AXES,
    POINT_AXES,
    SLOT_AXES,
    SLOTS,
    Point,
    Sheet,
    holds_at,
    value_text,
)
from ttsbench.scenarios.expectations import FORWARD_METRICS, UTTERANCE_METRICS
from ttsbench.scenarios.mistakes import Findings, shown, told
from ttsbench.scenarios.models import (
    DEFAULT_PASSES,
    FORWARD_PASSES,
    LOAD_PASSES,
    PASSES,
    QUALITY,
    SECTIONS,
    TEXT_SOURCES,
    UTTERANCE_PASSES,
    ScenarioFile,
)
from ttsbench.scenarios.settings import check_points
from ttsbench.scenarios.yaml_source import Keys

STACK_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}"


def check(data: Any, base: Path, findings: Findings) -> None:
    """Notes every mistake in a scenario's plain data."""
    if isinstance(data, Mapping):
        stacks = _sound_stacks(data, findings)
        matrix = _sound_matrix(data, findings)
        sheet = Sheet(stacks, _sound_baseline(data, stacks, findings), matrix, ())
        sheet = replace(sheet, exclude=_sound_exclude(data, sheet, findings))
        points = _points(sheet, findings)
        check_points(data, base, matrix, points, findings)
        _check_forwards(data, findings)
        _check_streams(data, stacks, findings)
        _check_loads(data, findings)
        _check_fakes(data, matrix, findings)
        _check_claims(data, sheet, points, findings)
    # Last, because a place has one mistake at most, and "unknown slot" says more than "should be text".
    _check_structure(data, base, findings)
    _check_text_sources(data, findings)


def default_baseline(stacks: Iterable[str]) -> str:
    """`upstream` if there is such a stack, else the first; empty where there is none."""
    names = tuple(stacks)
    return "upstream" if "upstream" in names else next(iter(names), "")


def _check_structure(data: Any, base: Path, findings: Findings) -> None:
    try:
        ScenarioFile.model_validate(data, context={"base": base})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            section = tuple(key for key in detail["loc"][:-1] if isinstance(key, str))
            findings.add(detail["loc"], told(detail, SECTIONS.get(section)))


def _check_forwards(data: Mapping[str, Any], findings: Findings) -> None:
    """A matrix varies what is there; what is measured per second of audio has no part in a forward."""
    forward = _mapping(data.get("workload")).get("forward") is not None
    for axis in _mapping(data.get("matrix")):
        if axis.startswith("workload.forward.") and not forward:
            findings.add(("matrix", axis), "varies a forward, and there is none; give workload.forward, if only {}")
    passes = _mapping(data.get("measure")).get("passes", DEFAULT_PASSES)
    if forward and isinstance(passes, list | tuple) and (unfit := [p for p in UTTERANCE_PASSES if p in passes]):
        problem = f"a forward has no {' and no '.join(unfit)} pass; give those it has: {', '.join(FORWARD_PASSES)}"
        findings.add(("measure", "passes"), problem)


def _check_streams(data: Mapping[str, Any], stacks: Mapping[str, Mapping[str, str]], findings: Findings) -> None:
    """Chunks are cut for stacks that stream."""
    matrix = _mapping(data.get("matrix"))
    designs = [*(slots.get("stream") for slots in stacks.values()), *matrix.get(f"{SLOTS}stream", ())]
    if {*map(str, designs)} - {"None", registry.BY_NAME["stream"].default}:
        return
    problem = "cuts chunks, and no stack streams; give one of them stream: windowed"
    if _mapping(data.get("workload")).get("streaming") is not None:
        findings.add(("workload", "streaming"), problem)
    for axis in matrix:
        if axis.startswith("workload.streaming."):
            findings.add(("matrix", axis), problem)


def _check_loads(data: Mapping[str, Any], findings: Findings) -> None:
    """What is measured of single utterances, and claimed of them, has no part in a load."""
    if _mapping(data.get("workload")).get("load") is None:
        return
    passes = _mapping(data.get("measure")).get("passes", DEFAULT_PASSES)
    if isinstance(passes, list | tuple) and (unfit := [p for p in PASSES if p in passes and p not in LOAD_PASSES]):
        problem = f"a load has no {' and no '.join(unfit)} pass; give those it has: {', '.join(LOAD_PASSES)}"
        findings.add(("measure", "passes"), problem)
    if data.get("claims"):
        findings.add(("claims",), "are about figures of utterances or forwards, and a load has neither")


def _check_fakes(data: Mapping[str, Any], matrix: Mapping[str, Sequence[Any]], findings: Findings) -> None:
    """The fake engine speaks nothing that could be judged, and has nothing to load."""
    families = (_mapping(data.get("model")).get("family"), *matrix.get("model.family", ()))
    passes = _mapping(data.get("measure")).get("passes", DEFAULT_PASSES)
    if (
        FAKE.name in families
        and isinstance(passes, list | tuple)
        and (unfit := {QUALITY, "cold"} & {*map(str, passes)})
    ):
        problem = f"the family fake has no {' and no '.join(sorted(unfit))} pass"
        findings.add(("measure", "passes"), problem)
    planted = _mapping(_mapping(_mapping(data.get("model")).get("fake")).get("planted"))
    for stack in planted:
        if stack not in (stacks := _mapping(data.get("stacks"))):
            findings.add(("model", "fake", "planted", stack), f"'{stack:.60}' is no stack; {suggest(stack, stacks)}")


def _check_claims(data: Mapping[str, Any], sheet: Sheet, points: Sequence[Point], findings: Findings) -> None:
    """Each is about a stack, a point and a figure that this scenario has."""
    claims = data.get("claims")
    forward = _mapping(data.get("workload")).get("forward") is not None
    metrics = FORWARD_METRICS if forward else UTTERANCE_METRICS
    seen: set[Any] = set()
    for index, claim in enumerate(claims if isinstance(claims, list) else ()):
        given = _mapping(claim)
        if "stack" in given:
            _stack_exists(given["stack"], sheet, ("claims", index, "stack"), findings)
        if (metric := given.get("metric")) in (*UTTERANCE_METRICS, *FORWARD_METRICS) and metric not in metrics:
            of = "forwards" if forward else "utterances"
            findings.add(("claims", index, "metric"), f"{metric} is no figure of {of}; {suggest(metric, metrics)}")
        if isinstance(name := given.get("id"), str) and name in seen:
            findings.add(("claims", index, "id"), f"'{name:.60}' names another claim already")
        seen.add(given.get("id") if isinstance(given.get("id"), str) else None)
        _point_exists(given.get("at"), points, ("claims", index, "at"), findings)


def _point_exists(given: Any, points: Sequence[Point], keys: Keys, findings: Findings) -> None:
    """Whether at least one point has all these coordinates; where nothing runs, that is the mistake."""
    if not points:
        return
    axes = {axis: dict.fromkeys(value_text(point[axis]) for point in points if axis in point) for axis in points[0]}
    before = len(findings.mistakes)
    for axis, value in _mapping(given).items():
        if axis not in axes:
            findings.add((*keys, axis), f"no axis of the matrix that makes points; {suggest(str(axis), axes)}")
        elif value_text(value) not in axes[axis]:
            findings.add((*keys, axis), f"{value_text(value):.60} is none of its values: {', '.join(axes[axis]):.200}")
    if len(findings.mistakes) == before and not any(holds_at(_mapping(given), point) for point in points):
        findings.add(keys, "is no point that runs; exclude leaves it out")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _check_text_sources(data: Any, findings: Findings) -> None:
    workload = _mapping(_mapping(data).get("workload"))
    given = [key for key in workload if key in TEXT_SOURCES and workload[key] is not None]
    if len(given) > 1:
        findings.add(("workload", given[-1]), f"give only one of texts, file and set; {given[0]} is given too")


def _sound_stacks(data: Mapping[str, Any], findings: Findings) -> dict[str, dict[str, str]]:
    """All stacks by name, each with the options that exist."""
    sound: dict[str, dict[str, str]] = {}
    for name, slots in _mapping(data.get("stacks")).items():
        if not re.fullmatch(STACK_PATTERN, name):
            allowed = "letters, digits and '_', '.', '+', '-', at most 64, a letter or digit first"
            findings.add(("stacks", name), f"{name!r:.80} cannot name a stack; allowed: {allowed}")
        sound[name] = {}
        for slot, option in _mapping(slots).items():
            keys = ("stacks", name, slot)
            if slot not in registry.BY_NAME:
                findings.add(keys, f"unknown slot; {suggest(slot, registry.BY_NAME)}")
            elif _option_exists(slot, option, keys, findings):
                sound[name][slot] = option
    return sound


def _option_exists(slot: str, option: Any, keys: Keys, findings: Findings) -> bool:
    names = [known.name for known in registry.BY_NAME[slot].options]
    if option in names:
        return True
    if isinstance(option, str):
        findings.add(keys, f"'{option:.60}' is no option of {slot}; {suggest(option, names)}")
    else:
        findings.add(keys, f"{shown(option)} is no option of {slot}; {suggest('', names)}")
    return False


def _sound_baseline(data: Mapping[str, Any], stacks: Mapping[str, Any], findings: Findings) -> str:
    """The stack that was named; the default one where none was or where it does not exist."""
    given = data.get("baseline")
    if isinstance(given, str) and given in stacks:
        return given
    if isinstance(given, str):
        findings.add(("baseline",), f"'{given:.60}' is no stack; {suggest(given, stacks)}")
    return default_baseline(stacks)


def _sound_matrix(data: Mapping[str, Any], findings: Findings) -> dict[str, Sequence[Any]]:
    """The axes without a mistake."""
    sound: dict[str, Sequence[Any]] = {}
    overridden = {_decided(".".join(map(str, keys))): keys for keys in findings.overridden}
    decided: dict[str, str] = {}
    for axis, values in _mapping(data.get("matrix")).items():
        keys = ("matrix", axis)
        if axis not in (*POINT_AXES, *SLOT_AXES):
            findings.add(keys, f"this cannot vary; {suggest(axis, (*POINT_AXES, *SLOT_AXES))}")
            continue
        rival = decided.setdefault(_decided(axis), axis)
        if rival != axis:
            findings.add(keys, f"{rival} varies the same thing; keep one of the two")
        if shadowed := overridden.get(_decided(axis)):
            findings.add(shadowed, f"has no effect, because the matrix varies {axis}; set matrix.{axis} instead")
        if isinstance(values, list) and values and _values_are_sound(axis, values, findings) and rival == axis:
            sound[axis] = values
    return sound


def _decided(axis: str) -> str:
    """What an axis or override decides: fixed and replay both decide the length."""
    if axis.startswith("workload.") and axis.removeprefix("workload.") in TEXT_SOURCES:
        return "workload.texts"
    return next((whole for whole in MAPPING_AXES if axis.startswith(f"{whole}.")), axis)


def _values_are_sound(axis: str, values: list[Any], findings: Findings) -> bool:
    seen: set[str] = set()
    before = len(findings.mistakes)
    for index, value in enumerate(values):
        keys = ("matrix", axis, index)
        if isinstance(value, list) or (isinstance(value, Mapping) and axis not in MAPPING_AXES):
            findings.add(keys, f"should be one value, not {shown(value)}")
        elif value_text(value) in seen:
            findings.add(keys, f"{value_text(value):.60} is given twice")
        elif axis.startswith(SLOTS):
            _option_exists(axis.removeprefix(SLOTS), value, keys, findings)
        seen.add(value_text(value))
    return len(findings.mistakes) == before


def _sound_exclude(data: Mapping[str, Any], sheet: Sheet, findings: Findings) -> list[Mapping[str, Any]]:
    """The entries without a mistake; one that could match nothing is a mistake."""
    entries = data.get("exclude")
    matrix = _mapping(data.get("matrix"))
    sound = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        before = len(findings.mistakes)
        for key, value in _mapping(entry).items():
            keys = ("exclude", index, key)
            if key == "stack":
                _stack_exists(value, sheet, keys, findings)
            elif key in sheet.matrix:
                texts = [value_text(held) for held in sheet.matrix[key]]
                if value_text(value) not in texts:
                    findings.add(keys, f"{value_text(value):.60} is none of its values: {', '.join(texts):.200}")
            elif key not in matrix:
                findings.add(keys, f"neither 'stack' nor a key of the matrix; {suggest(key, ['stack', *matrix])}")
        if _mapping(entry) and len(findings.mistakes) == before and set(entry) <= {"stack", *sheet.matrix}:
            sound.append(entry)
    return sound


def _stack_exists(given: Any, sheet: Sheet, keys: Keys, findings: Findings) -> None:
    fits = bool(sheet.stacks) and sheet.size() <= CELLS_MAX
    names = [*sheet.stacks, *(variant.label for variant in (sheet.variants() if fits else ()))]
    if not isinstance(given, str):
        findings.add(keys, f"should be the name of one stack, not {shown(given)}")
    elif fits and given not in names:
        findings.add(keys, f"'{given:.60}' is no stack; {suggest(given, set(names))}")


def _points(sheet: Sheet, findings: Findings) -> list[Point]:
    """The points that are going to run; one without coordinates where that cannot be known."""
    if not sheet.stacks:
        return [{}]
    if sheet.size() > CELLS_MAX:
        findings.add(("matrix",), f"unfolds into more than {CELLS_MAX:,} cells, which is the most that is allowed")
        return [{}]
    rows = sheet.rows()
    if not rows:
        findings.add(("exclude",), "leaves nothing to run")
    elif not any(variant.label == sheet.baseline for _, kept in rows for variant in kept):
        findings.add(("exclude",), f"leaves out the baseline '{sheet.baseline}' everywhere; nothing could be compared")
    return [point for point, _ in rows]
