"""From the stacks and the matrix to cells: what runs, in which order, under which name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.optimizations import registry
from ttsbench.records.points import Point, value_text
from ttsbench.scenarios.fakes import FakeEngine
from ttsbench.scenarios.models import (
    TEXT_SOURCES,
    Chunks,
    Forward,
    Length,
    Measure,
    Model,
    Sampling,
    Voice,
    Workload,
)

CELLS_MAX = 10_000
SLOTS = "slots."

# What a matrix may vary beside slots: everything that says which model says what, and where.
POINT_AXES = (
    *(f"model.{key}" for key in Model.model_fields),
    *(f"fake.{key}" for key in FakeEngine.model_fields if key != "planted"),
    *(
        f"workload.{key}"
        for key in Workload.model_fields
        if key not in ("texts", "sampling", "forward", "load", "streaming")
    ),
    *(f"workload.length.{key}" for key in Length.model_fields),
    *(f"workload.voice.{key}" for key in Voice.model_fields),
    *(f"workload.sampling.{key}" for key in Sampling.model_fields),
    *(f"workload.forward.{key}" for key in Forward.model_fields),
    *(f"workload.streaming.{key}" for key in Chunks.model_fields),
    "device",
)
SLOT_AXES = tuple(f"{SLOTS}{slot.name}" for slot in registry.SLOTS)
STREAM = registry.BY_NAME["stream"]
MAPPING_AXES = ("workload.length", "workload.voice")


@dataclass(frozen=True)
class CellPlan:
    """One stack at one point of the matrix, as it is going to run."""

    stack: str
    slots: dict[str, str]
    point: Point
    model: Model
    workload: Workload
    device: str
    measure: Measure
    baseline: bool
    refusal: str
    limits: dict[str, float]
    # Used instead of the model.
    fake: FakeEngine | None = None
    # What could not run here, and what its slot holds instead.
    fell_back: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Unique within the scenario; names the cell in records."""
        return "|".join([self.stack, *(f"{axis}={value_text(value)}" for axis, value in self.point.items())])

    @property
    def work(self) -> str:
        """What is measured: chunks change nothing for a stack that does not stream."""
        streams = self.slots[STREAM.name] != STREAM.default
        axes = (axis for axis in self.point if streams or not axis.startswith("workload.streaming."))
        return "|".join([self.stack, *(f"{axis}={value_text(self.point[axis])}" for axis in axes)])


@dataclass(frozen=True)
class Variant:
    """A stack, with the options that the matrix picked for it."""

    stack: str
    label: str
    slots: dict[str, str]
    picked: dict[str, str]


@dataclass(frozen=True)
class Matrix:
    """The part of a scenario that unfolds."""

    stacks: Mapping[str, Mapping[str, str]]
    baseline: str
    axes: Mapping[str, Sequence[Any]]
    exclude: Sequence[Mapping[str, Any]]

    def size(self) -> int:
        """How many cells there are before any is left out, without unfolding them."""
        points = math.prod(len(values) for axis, values in self.axes.items() if not axis.startswith(SLOTS))
        variants = math.prod(len(values) for axis, values in self.axes.items() if axis.startswith(SLOTS))
        return points * (1 + (len(self.stacks) - 1) * variants)

    def all_points(self) -> list[Point]:
        """Every combination of the matrix' point axes; one empty point where there are none."""
        axes = {axis: values for axis, values in self.axes.items() if not axis.startswith(SLOTS)}
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]

    def variants(self) -> list[Variant]:
        """The baseline first, then the other stacks in the order of the file, multiplied by the slot axes."""
        axes = {axis.removeprefix(SLOTS): values for axis, values in self.axes.items() if axis.startswith(SLOTS)}
        variants = [Variant(self.baseline, self.baseline, dict(self.stacks[self.baseline]), {})]
        for stack, slots in self.stacks.items():
            if stack == self.baseline:
                continue
            for options in itertools.product(*axes.values()):
                picked = dict(zip(axes, options, strict=True))
                label = "".join([stack, *(f"+{slot}={option}" for slot, option in picked.items())])
                variants.append(Variant(stack, label, {**slots, **picked}, picked))
        return variants

    def kept(self, point: Point, variant: Variant) -> bool:
        """Whether no entry of `exclude` takes this cell out."""
        facts = {axis: value_text(value) for axis, value in point.items()}
        facts |= {f"{SLOTS}{slot}": option for slot, option in variant.picked.items()}

        def holds(key: str, value: Any) -> bool:
            return value in (variant.stack, variant.label) if key == "stack" else facts.get(key) == value_text(value)

        return not any(all(holds(key, value) for key, value in entry.items()) for entry in self.exclude)

    def rows(self) -> list[tuple[Point, list[Variant]]]:
        """The points that run, each with the variants that run there."""
        variants = self.variants()
        rows = [(point, [v for v in variants if self.kept(point, v)]) for point in self.all_points()]
        return [(point, kept) for point, kept in rows if kept]


def substitute(
    data: Mapping[str, Any], keys: tuple[str, ...], value: Any, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A copy with one value set; a section that is no mapping stays as it is.

    Where things exclude each other (texts, file and set; natural and fixed), the new one takes the place of the others.
    """
    head, place = keys[0], (*above, keys[0])
    if len(keys) > 1:
        section = {} if ".".join(place) in MAPPING_AXES else data.get(head)
        if not isinstance(section, Mapping | None):
            return dict(data)
        value = substitute(section or {}, keys[1:], value, place)
    exclusive = TEXT_SOURCES if above == ("workload",) and head in TEXT_SOURCES else ()
    return {**{key: other for key, other in data.items() if key not in exclusive or key == head}, head: value}


def at_point(data: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The scenario's data with the values of one point in place."""
    placed = dict(data)
    for axis, value in point.items():
        placed = substitute(placed, tuple(axis.split(".")), value)
    return placed
