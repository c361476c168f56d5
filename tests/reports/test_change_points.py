"""How often steps are found that are there, and that are not; the rates stand in docs/history.md."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from ttsbench.reports.decide import change_points
from ttsbench.reports.decide.change_points import Trend, trend

HISTORIES = 300
Draw = Callable[[random.Random], list[float]]


def share(draw: Draw, hit: Callable[[Trend], bool]) -> float:
    """Of simulated histories of logarithms, those of which it holds."""
    source = random.Random(7)
    return sum(hit(trend([math.exp(value) for value in draw(source)])) for _ in range(HISTORIES)) / HISTORIES


def noise(points: int, spread: float) -> Draw:
    return lambda source: [source.gauss(0, spread) for _ in range(points)]


def step(size: float, before: int, after: int, spread: float = 0.01) -> Draw:
    return lambda source: [
        source.gauss(0, spread) + (math.log1p(size) if number >= before else 0) for number in range(before + after)
    ]


def said_anything(result: Trend) -> bool:
    return bool(result.changes) or result.drift != 1


@pytest.mark.parametrize("spread", [0.01, 0.02, 0.05])
@pytest.mark.parametrize("points", [8, 12, 20, 40])
def test_a_steady_history_has_no_step(points: int, spread: float) -> None:
    assert share(noise(points, spread), said_anything) <= 0.02


@pytest.mark.parametrize(("size", "after"), [(0.1, 4), (-0.1, 4), (0.05, 8), (0.05, 20)])
def test_a_planted_step_is_found_at_its_place(size: float, after: int) -> None:
    def at_its_place(result: Trend) -> bool:
        return len(result.changes) == 1 and abs(result.changes[0].index - 20) <= 1

    assert share(step(size, 20, after), at_its_place) >= 0.95


def test_the_size_of_a_step() -> None:
    [result] = trend([math.exp(value) for value in step(0.1, 20, 20)(random.Random(1))]).changes
    assert result.index == 20
    assert result.ratio == pytest.approx(1.1, abs=0.01)


def test_a_step_below_3_percent_does_not_count() -> None:
    assert share(step(0.02, 20, 20, spread=0.002), lambda result: bool(result.changes)) == 0


def test_a_step_and_its_repair_are_two() -> None:
    def bump(source: random.Random) -> list[float]:
        return [source.gauss(0, 0.01) + (0.1 if 15 <= number < 25 else 0) for number in range(40)]

    assert share(bump, lambda result: [change.index for change in result.changes] == [15, 25]) >= 0.95


def test_a_drift_is_no_step_and_is_told() -> None:
    def drift(source: random.Random) -> list[float]:
        return [source.gauss(0, 0.01) + 0.15 * number / 39 for number in range(40)]

    assert share(drift, lambda result: bool(result.changes)) <= 0.02
    assert share(drift, lambda result: 1.1 < result.drift < 1.2) >= 0.95


def test_a_machine_that_wanders_a_little_has_no_steps() -> None:
    def wander(source: random.Random) -> list[float]:
        place, result = 0.0, []
        for _ in range(40):
            place += source.gauss(0, 0.002)
            result.append(place + source.gauss(0, 0.01))
        return result

    assert share(wander, lambda result: bool(result.changes)) <= 0.02


def test_spikes_are_no_steps_and_hide_none() -> None:
    def spiky(size: float) -> Draw:
        return lambda source: [value + (0.4 if source.random() < 0.05 else 0) for value in step(size, 20, 20)(source)]

    assert share(spiky(0.0), lambda result: bool(result.changes)) <= 0.05
    assert share(spiky(0.1), lambda result: [abs(c.index - 20) <= 2 for c in result.changes] == [True]) >= 0.9


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0] * 3 + [9.0] * 4, [1.0] * 200])
def test_few_points_and_equal_points_have_no_step(values: list[float]) -> None:
    assert trend(values) == Trend()


def test_a_count_that_never_varies_steps_at_once() -> None:
    assert [change.index for change in trend([5.0] * 10 + [5.5] * 4).changes] == [10]


def test_the_same_history_has_the_same_steps_in_any_unit() -> None:
    values = [math.exp(value) for value in step(0.1, 12, 9)(random.Random(3))]
    assert trend(values) == trend(values)
    assert [c.index for c in trend([1e9 * value for value in values]).changes] == [12]


def test_deviations_are_those_from_the_median() -> None:
    source = random.Random(0)
    values = [source.gauss(0, 1) for _ in range(40)]
    for count, cost in enumerate(change_points._deviations(values), start=1):
        ordered = sorted(values[:count])
        assert cost == pytest.approx(sum(abs(value - ordered[count // 2]) for value in ordered))
