"""A run of 10,000 cells is compared, and followed over time, in seconds and in bounded memory."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from processes import python_usage, ttsbench_usage
from ttsbench.records import runs
from ttsbench.records.measurements import Memory, StageTime, Utterance
from ttsbench.records.runs import Cell, Run

POINTS, STACKS = 5_000, ("upstream", "lean")
# Reading the same file as plain JSON takes about 0.6 s of the processor on two quiet cores.
RATIO_MAX = 20.0
BYTES_MAX = 500_000_000


def cell(source: random.Random, stack: str, point: int) -> Cell:
    seconds = [0.5 * source.uniform(0.97, 1.03) for _ in range(3)]
    utterances = tuple(
        Utterance(0, n, n, s, 1.0, 25, "0" * 64, s, s, s, {"decode": StageTime(0.6 * s), "vocoder": StageTime(0.2 * s)})
        for n, s in enumerate(seconds)
    )
    return Cell(
        f"{stack}|model.seed={point}", "timed", stack, {"decode": stack}, {"model.seed": point}, 0, point, "ok",
        utterances=utterances, memory=Memory(2**30, 2**29),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    source = random.Random(0)
    cells = tuple(cell(source, stack, point) for point in range(POINTS) for stack in STACKS)
    run = Run(
        runs.SCHEMA_VERSION, "0", "many", "many", "upstream", "2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00",
        "complete", {}, "name: many", (), {}, cells,
    )  # fmt: skip
    (folder / "many").mkdir()
    runs.write_run(folder / "many", run)
    return folder


@pytest.mark.parametrize("command", ["compare", "history"])
def test_ten_thousand_cells(folder: Path, tmp_path: Path, benchmark: Any, command: str) -> None:
    arguments = {"compare": (str(folder / "many"),), "history": (str(folder), "--output", str(tmp_path))}[command]
    usage = benchmark.pedantic(ttsbench_usage, args=(tmp_path, command, *arguments), kwargs={"rounds": 1}, rounds=1)
    reading = f"import json; json.load(open({str(folder / 'many' / 'run.json')!r}))"
    ratio = usage.cpu_seconds / python_usage(tmp_path, reading, rounds=2).cpu_seconds
    benchmark.extra_info.update(cpu_seconds=usage.cpu_seconds, ratio=ratio, peak_bytes=usage.peak_bytes)
    assert usage.exit_code == {"compare": 3, "history": 0}[command]
    assert ratio < RATIO_MAX
    assert usage.peak_bytes < BYTES_MAX
