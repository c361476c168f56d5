"""A run of 10,000 cells is shown in seconds, and its documents are made in bounded memory."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import python_usage, ttsbench_usage
from ttsbench.records import runs
from ttsbench.records.measurements import Utterance
from ttsbench.records.runs import Cell

RECORD = Path(__file__).parents[2] / "docs" / "results" / "h200-fastest"
STACKS, POINTS, PROCESSES, CALLS = 100, 20, 5, 3
# Reading the same file as plain JSON takes about 1.2 s of the processor on two quiet cores.
SHOW_RATIO_MAX, DOCUMENTS_RATIO_MAX = 4.0, 13.0
BYTES_MAX, PAGE_BYTES_MAX = 500_000_000, 10_000_000
WRITE = """
import pathlib, sys
from ttsbench.reports import run_documents
from ttsbench.records import assembly
folder = pathlib.Path(sys.argv[1])
for name, text in run_documents.documents(folder, assembly.read_run(folder)):
    (folder / name).write_text(text, encoding="utf-8")
"""


def slower(utterance: Utterance, factor: float, repeat: int) -> Utterance:
    times = {
        name: getattr(utterance, name) * factor
        for name in ("wall_seconds", "first_sample_seconds", "first_playable_seconds", "first_audible_seconds")
    }
    stages = {
        name: dataclasses.replace(time, host_seconds=time.host_seconds * factor)
        for name, time in utterance.stages.items()
    }
    return dataclasses.replace(utterance, repeat=repeat, stages=stages, **times)


def cells(template: Cell) -> Iterator[Cell]:
    draw = random.Random(1)
    for point in range(POINTS):
        for process in range(PROCESSES):
            for number in range(STACKS):
                stack = f"stack-{number}" if number else "upstream"
                factor = (1 - number / 150) * draw.gauss(1, 0.01)
                utterances = (slower(template.utterances[0], factor * draw.gauss(1, 0.005), n) for n in range(CALLS))
                yield dataclasses.replace(
                    template, key=f"{stack} {point}", stack=stack, point={"workload.seed": point}, process=process,
                    order=process, utterances=tuple(utterances),
                )  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    run = runs.read_run(RECORD)
    template = next(cell for cell in run.cells if cell.ok and cell.kind == "timed")
    runs.write_run(folder, dataclasses.replace(run, cells=tuple(cells(template))))
    return folder


def reading_seconds(folder: Path) -> float:
    program = f"import json; json.load(open({str(folder / 'run.json')!r}, encoding='utf-8'))"
    return python_usage(folder, program, rounds=2).cpu_seconds


def test_show(many: Path, benchmark: Any) -> None:
    usage = benchmark.pedantic(ttsbench_usage, args=(many, "show", "."), kwargs={"rounds": 2}, rounds=1)
    ratio = usage.cpu_seconds / reading_seconds(many)
    benchmark.extra_info.update(cpu_seconds=usage.cpu_seconds, ratio=ratio, peak_bytes=usage.peak_bytes)
    assert usage.exit_code == 0
    assert ratio < SHOW_RATIO_MAX
    assert usage.peak_bytes < BYTES_MAX


def test_documents(many: Path, benchmark: Any) -> None:
    program = WRITE.replace("sys.argv[1]", repr(str(many)))
    usage = benchmark.pedantic(python_usage, args=(many, program), kwargs={"rounds": 1}, rounds=1)
    ratio = usage.cpu_seconds / reading_seconds(many)
    page_bytes = (many / "report.html").stat().st_size
    benchmark.extra_info.update(
        cpu_seconds=usage.cpu_seconds, ratio=ratio, peak_bytes=usage.peak_bytes, page_bytes=page_bytes
    )
    assert usage.exit_code == 0
    assert page_bytes < PAGE_BYTES_MAX
    assert ratio < DOCUMENTS_RATIO_MAX
    assert usage.peak_bytes < BYTES_MAX
