"""Folders of many runs are compared in seconds and in bounded memory."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from processes import python_usage, ttsbench_usage

RECORD = Path(__file__).parents[2] / "docs" / "results" / "h200-chatterbox" / "run.json"
RUNS = 500
# Reading the same files as plain JSON takes about 0.9 s of the processor on two quiet cores.
RATIO_MAX = 6.0
BYTES_MAX = 1_000_000_000


def keep_runs(folder: Path, factor: float) -> None:
    """Runs of one stack set, each a little faster or slower than the others."""
    for number in range(RUNS):
        data = json.loads(RECORD.read_text())
        scale = factor * random.Random(f"{factor}{number}").uniform(0.99, 1.01)
        for cell in data["cells"]:
            for utterance in cell["utterances"]:
                utterance["wall_seconds"] *= scale
        name = f"run-{number:03}"
        data |= {"run_id": name, "started_utc": f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00"}
        (folder / name).mkdir(parents=True)
        (folder / name / "run.json").write_text(json.dumps(data))


def test_two_folders_of_500_runs(tmp_path: Path, benchmark: Any) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    keep_runs(before, 1.0)
    keep_runs(after, 1.1)
    arguments = ("compare", "--output", str(tmp_path / "out"), str(before), str(after))
    usage = benchmark.pedantic(ttsbench_usage, args=(tmp_path, *arguments), kwargs={"rounds": 1}, rounds=1)
    files = f"pathlib.Path({str(tmp_path)!r}).glob('*/*/run.json')"
    reading = f"import json, pathlib; [json.loads(file.read_text()) for file in {files}]"
    ratio = usage.cpu_seconds / python_usage(tmp_path, reading, rounds=2).cpu_seconds
    benchmark.extra_info.update(cpu_seconds=usage.cpu_seconds, ratio=ratio, peak_bytes=usage.peak_bytes)
    assert usage.exit_code == 1
    assert ratio < RATIO_MAX
    assert usage.peak_bytes < BYTES_MAX
