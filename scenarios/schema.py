"""YAML → `Scenario` → cells. This is the door to the package; no torch behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from ttsbench.errors import ScenarioError, UsageError, suggest
from ttsbench.model.families import FAMILIES
from ttsbench.optimizations.stacks import complete, precision
from ttsbench.records.points import Point
from ttsbench.scenarios import checks, files, yaml_source
from ttsbench.scenarios.cells import SLOTS, CellPlan, Matrix, Variant, at_point
from ttsbench.scenarios.expectations import Limits
from ttsbench.scenarios.fakes import FakeEngine
from ttsbench.scenarios.json_schema import json_schema
from ttsbench.scenarios.mistakes import MistakeCollector
from ttsbench.scenarios.models import Length, Measure, Model, Sampling, ScenarioFile, Voice, Workload
from ttsbench.scenarios.overrides import apply_overrides
from ttsbench.scenarios.renamed import with_present_names
from ttsbench.scenarios.shipped import shipped
from ttsbench.scenarios.texts import DEFAULT_LANGUAGE

__all__ = [
    "CellPlan",
    "Length",
    "Measure",
    "Model",
    "Point",
    "Sampling",
    "Scenario",
    "Voice",
    "Workload",
    "json_schema",
    "load",
    "parse",
    "resolve",
]


class Scenario(ScenarioFile):
    """A scenario without a mistake in it; paths are absolute."""

    baseline: str
    base: str = Field(description="the folder that relative paths were relative to")
    text: str = Field(description="the YAML as given")
    overrides: tuple[str, ...] = Field(default=(), description="what --set changed")
    notes: tuple[str, ...] = Field(default=(), description="keys that have another name now")

    def understood(self) -> dict[str, Any]:
        """The scenario with every default in place, as plain JSON data; it reads back as the same cells."""
        data = self.model_dump(mode="json", exclude={"base", "text", "overrides", "notes"})
        data["stacks"] = {name: complete(slots) for name, slots in self.stacks.items()}
        if not self.model.synthetic or "model.weights" in self.matrix:
            for key in {"size", "dtype", "seed"} - self.model.model_fields_set:
                del data["model"][key]
        if not self.matrix:
            del data["matrix"]
        return data

    def points(self) -> list[Point]:
        """The points of the matrix that run; one empty point where nothing but slots varies."""
        return [point for point, _ in self._matrix().rows()]

    def cells(self) -> list[CellPlan]:
        """Point by point, the baseline first, then the other stacks in the order of the file."""
        sections = self.model_dump(include={"model", "fake", "workload", "device"}, exclude_unset=True)
        cells = []
        for point, variants in self._matrix().rows():
            placed = at_point(sections, point)
            model = Model.model_validate(placed.get("model", {}), context={"base": self.base})
            workload = Workload.model_validate(placed.get("workload", {}), context={"base": self.base})
            if FAMILIES[model.family].languages and workload.language is None:
                workload = workload.model_copy(update={"language": DEFAULT_LANGUAGE})
            device = placed.get("device", self.device)
            fake = None if self.fake is None else FakeEngine.model_validate(placed["fake"])
            plans = (self._plan(variant, point, model, workload, device) for variant in variants)
            cells += [replace(plan, fake=fake) for plan in plans]
        return cells

    def _plan(self, variant: Variant, point: Point, model: Model, workload: Workload, device: str) -> CellPlan:
        return CellPlan(
            stack=variant.label,
            slots=complete(variant.slots),
            point=point,
            model=model,
            workload=workload,
            device=device,
            measure=self.measure,
            baseline=variant.label == self.baseline,
            limits=self._limits(variant.slots, model, workload),
            refusal=workload.conflict(variant.slots, model.family),
        )

    def _limits(self, slots: Mapping[str, str], model: Model, workload: Workload) -> dict[str, float]:
        limits: Limits = getattr(self.quality, precision(slots, model.dtype))
        return limits.active(forward=workload.forward is not None)

    def _matrix(self) -> Matrix:
        return Matrix(self.stacks, self.baseline, self.matrix, self.exclude)


def load(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a file, or all its mistakes together."""
    return parse(files.read_text(path), str(path), path.parent, overrides)


def parse(text: str, source: str, base: Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario in a text; `source` names it in messages, `base` is what its paths are relative to."""
    document = yaml_source.read(text)
    mistakes = MistakeCollector(document)
    if document.data is None:
        if mistakes.collected:
            raise ScenarioError(source, mistakes.collected)
        raise UsageError(f"{source} is empty", mend="A scenario needs at least a name and stacks")
    data: Any = document.data
    notes: tuple[str, ...] = ()
    if isinstance(data, dict):
        data, notes = with_present_names(apply_overrides(data, overrides, mistakes))
        data = with_option_names(data)
    checks.check(data, base, mistakes)
    if mistakes.collected:
        raise ScenarioError(source, mistakes.collected)
    baseline = data.get("baseline") or checks.default_baseline(data["stacks"])
    context = {"base": base}
    fields = {
        "baseline": baseline,
        "base": str(base.absolute()),
        "text": text,
        "overrides": tuple(overrides),
        "notes": notes,
    }
    return Scenario.model_validate({**data, **fields}, context=context)


def with_option_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """YAML 1.1 reads on and off as booleans and 4 as a number; where an option stands, they are names."""
    changed = dict(data)
    if isinstance(stacks := data.get("stacks"), dict):
        changed["stacks"] = {name: _named({} if slots is None else slots) for name, slots in stacks.items()}
    if isinstance(matrix := data.get("matrix"), dict):
        changed["matrix"] = {
            axis: [_option_name(value) for value in values]
            if axis.startswith(SLOTS) and isinstance(values, list)
            else values
            for axis, values in matrix.items()
        }
    if isinstance(entries := data.get("exclude"), list):
        changed["exclude"] = [_named(entry, SLOTS) for entry in entries]
    return changed


def _named(mapping: Any, prefix: str = "") -> Any:
    if not isinstance(mapping, dict):
        return mapping
    return {key: _option_name(value) if key.startswith(prefix) else value for key, value in mapping.items()}


def _option_name(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int) else value


def resolve(name_or_path: str) -> Path:
    """The file that was meant: a shipped scenario by its name, or a path."""
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path)
    try:
        path.stat()
    except (OSError, ValueError):
        raise UsageError(
            f"there is no scenario {name_or_path!r:.200}",
            mend=f"Give the path of a YAML file or the name of a shipped scenario; {suggest(path.stem, names)}",
        ) from None
    return path
