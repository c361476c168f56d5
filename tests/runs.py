"""Runs on disk, with as many processes of each stack as a test gives seconds for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ttsbench.records import measurements, runs

STEADY = (0.5, 0.501, 0.499, 0.5005, 0.4995, 0.502)


@pytest.fixture(scope="session")
def walls() -> Callable[..., tuple[float, ...]]:
    """Seconds of six processes; with a factor those of a second measurement, somewhat off as two measurements are."""

    def make(factor: float | None = None) -> tuple[float, ...]:
        if factor is None:
            return STEADY
        return tuple(factor * seconds * (1 + 0.001 * (number % 3)) for number, seconds in enumerate(STEADY))

    return make


@pytest.fixture
def make_cells(make_cell: Callable[..., runs.Cell], make_utterance: Callable[..., Any]) -> Callable[..., Any]:
    """A stack's cells, one process for each of these seconds."""

    def make(
        seconds: Iterable[float], stack: str = "upstream", *, calls: int = 4, **changes: Any
    ) -> tuple[runs.Cell, ...]:
        return tuple(
            make_cell(
                stack=stack, key=stack, process=process, utterances=(make_utterance(wall_seconds=wall),) * calls,
                **changes,
            )
            for process, wall in enumerate(seconds)
        )  # fmt: skip

    return make


@pytest.fixture
def make_parts(
    make_cell: Callable[..., runs.Cell], make_utterance: Callable[..., measurements.Utterance]
) -> Callable[..., Any]:
    """Processes that decode as steadily as a device does, and what the rest of the time took in each."""

    def make(decode: float, rest: Sequence[float]) -> tuple[runs.Cell, ...]:
        def utterance(number: int, other: float) -> measurements.Utterance:
            seconds = decode * (1 + 2e-4 * ((3 * number + round(1e4 * decode)) % 7))
            stages = {"decode": measurements.StageTime(seconds), "residual": measurements.StageTime(other)}
            return make_utterance(wall_seconds=seconds + other, stages=stages)

        return tuple(make_cell(process=n, utterances=(utterance(n, other),) * 3) for n, other in enumerate(rest))

    return make


@pytest.fixture
def keep_run(make_run: Callable[..., runs.Run]) -> Callable[..., Path]:
    """The folder, with a run in it that is named for it."""

    def keep(folder: Path, cells: Iterable[runs.Cell], **changes: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_run(folder, make_run(cells=tuple(cells), run_id=folder.name, **changes))
        return folder

    return keep
