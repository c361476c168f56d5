from __future__ import annotations

import dataclasses
import os
import random
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas
import pytest

from ttsbench.cli import history as command
from ttsbench.errors import RecordError, UsageError
from ttsbench.records import runs
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import history
from ttsbench.reports.formats import values

ROOT = Path(__file__).parents[2]
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HERE = {"device": "cuda:0", "gpu": {"name": "NVIDIA H200", "driver": "580.1"}}
THERE = {"device": "cuda:0", "gpu": {"name": "NVIDIA H100", "driver": "580.1"}}
Keep = Callable[..., Path]


@pytest.fixture
def keep(tmp_path: Path, make_cells: Callable[..., tuple[Cell, ...]], keep_run: Keep) -> Keep:
    """One run of a folder: its number is its day and its commit."""

    def make(
        number: int, seconds: float = 0.5, *, stack: str = "lean", machine: dict[str, Any] = HERE, commit: str = "",
        dirty: bool = False, **changes: Any,
    ) -> Path:  # fmt: skip
        commit = commit or f"{number:07x}" + "0" * 33
        return keep_run(
            tmp_path / "runs" / f"run-{number:03}",
            make_cells([seconds * luck for luck in (0.99, 1.0, 1.01)], stack, calls=3),
            started_utc=(BEGAN + timedelta(days=number)).isoformat(),
            environment={**machine, "ttsbench": {"git_commit": commit, "git_dirty": dirty}},
            **changes,
        )

    return make


@pytest.fixture
def stepped(keep: Keep, tmp_path: Path) -> Path:
    """Twelve runs, of which the last six take a tenth longer."""
    source = random.Random(4)
    for number in range(12):
        keep(number, 0.5 * (1.1 if number >= 6 else 1.0) * (1 + source.gauss(0, 0.005)))
    return tmp_path / "runs"


def printed(folder: Path, capsys: pytest.CaptureFixture[str], output: Path | None = None) -> str:
    command.history(folder, output)
    return capsys.readouterr().out


def test_a_step_is_told_with_its_commits_and_the_command_that_finds_it(
    stepped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(stepped, capsys)
    [line] = [line for line in out.splitlines() if line.startswith("lean: ")]
    assert "from run-006 on (0000005..0000006)" in line
    assert "RTF +10." in line or "RTF +9." in line
    assert "ms/token +" in line
    assert "  ttsbench bisect s --good 0000005 --bad 0000006 --stack lean --metric rtf" in out
    assert out.count("bisect") == 1
    table = out.partition("lean: ")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_the_page_shows_every_plot(stepped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(stepped, capsys)
    page = (stepped / "history.md").read_text()
    assert "ttsbench bisect" in page
    plots = [line.partition("](")[2].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(plots) == 2  # RTF and the time of a token
    for plot in plots:
        assert ET.parse(stepped / plot).getroot().tag.endswith("svg")


def test_the_store_is_read_by_pandas(stepped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(stepped, capsys)
    frame = pandas.read_parquet(stepped / "history.parquet")
    assert tuple(frame.columns) == history.COLUMNS
    rtf = frame[frame.metric == "rtf"].sort_values("started")
    assert len(rtf) == 12
    assert rtf["median"].iloc[-1] / rtf["median"].iloc[0] == pytest.approx(1.1, abs=0.03)
    assert rtf.processes.eq(3).all()
    assert rtf.spread.between(0.009, 0.011).all()
    assert list(rtf.commit.str[:7]) == [f"{number:07x}" for number in range(12)]
    assert rtf.machine.nunique() == 1


def test_what_is_in_the_store_is_not_read_again(
    stepped: Path, keep: Keep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(stepped, capsys)
    keep(12, 0.55)
    runs.write_run(stepped / "run-003", dataclasses.replace(runs.read_run(stepped / "run-003"), cells=()))
    shutil.rmtree(stepped / "run-000")
    read: list[str] = []
    really = runs.read_run

    def read_run(path: Path) -> Run:
        read.append(path.name)
        return really(path)

    monkeypatch.setattr(runs, "read_run", read_run)
    printed(stepped, capsys)
    assert read == ["run-003", "run-012"]
    kept = set(pandas.read_parquet(stepped / "history.parquet").query("metric != ''").run)
    assert kept == {f"run-{number:03}" for number in range(13)} - {"run-003"}  # what was deleted is remembered
    read.clear()
    printed(stepped, capsys)
    assert read == []


def test_broken_runs_are_left_out_with_a_note(stepped: Path, keep: Keep, capsys: pytest.CaptureFixture[str]) -> None:
    (stepped / "run-001" / "run.json").write_text("{")
    (stepped / "run-002" / "run.json").write_text('{"schema_version": 99}')
    run = runs.read_run(stepped / "run-004")
    runs.write_run(stepped / "run-004", dataclasses.replace(run, started_utc="yesterday"))
    runs.write_run(stepped / "run-005", dataclasses.replace(run, started_utc="0001-01-01T00:00:00+14:00"))
    out = printed(stepped, capsys)
    assert "run-001 is left out" in out
    assert "run-002 is left out" in out
    assert "run-004 is left out: it says that it began at 'yesterday', which cannot be" in out
    assert "run-005 is left out" in out
    assert "run-001 is left out" in (stepped / "history.md").read_text()
    assert pandas.read_parquet(stepped / "history.parquet").run.nunique() == 8


def test_figures_of_no_machine_are_left_out(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, seconds in enumerate((0.5, 1e306, 0.0, 1e-300)):
        keep(number, seconds)
    printed(tmp_path / "runs", capsys)
    runs = pandas.read_parquet(tmp_path / "runs" / "history.parquet").query("metric == 'rtf'").run
    assert list(runs) == ["run-000", "run-003"]


def test_machines_and_work_are_never_joined(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(24):
        machine, seconds = ((HERE, 0.5), (THERE, 0.8))[number % 2]
        keep(number, seconds, machine=machine)
    for number in range(24, 34):
        keep(number, 1.0, scenario_understood={"workload": {"set": "30s"}})
    out = printed(tmp_path / "runs", capsys)
    assert "no steps" in out
    assert "s on NVIDIA H100" in out
    assert out.count("s on NVIDIA H200 (") == 2
    result = history.series(history.read(tmp_path / "runs" / "history.parquet"))
    assert sorted(len(item.entries) for item in result if item.metric.name == "rtf") == [10, 12, 12]


def test_a_faster_level_names_its_commits_and_bisects_nothing(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        keep(number, 0.5 if number < 6 else 0.4, dirty=number == 6)
    out = printed(tmp_path / "runs", capsys)
    assert "−20.0 % from run-006 on (0000005..0000006+)" in out
    assert "bisect" not in out


@pytest.mark.parametrize(
    ("commit", "text"),
    [("a" * 40, "aaaaaaa before and aaaaaaa after: the cause is not in a commit"), (None, "the commits are not known")],
)
def test_a_step_within_one_commit_or_without_any(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str], commit: str | None, text: str
) -> None:
    for number in range(12):
        folder = keep(number, 0.5 if number < 6 else 0.6, commit="a" * 40)
        if commit is None:
            run = runs.read_run(folder)
            runs.write_run(folder, dataclasses.replace(run, environment=HERE))
    out = printed(tmp_path / "runs", capsys)
    assert text in out
    assert "bisect" not in out


def test_a_drift_is_told_as_one(keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        keep(number, 0.5 * (1 + 0.01 * number))
    assert "lean: RTF drifts, +19" in printed(tmp_path / "runs", capsys)


def test_overrides_and_odd_names_come_along_quoted(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = "$(touch x) `y` <b>|$\\frac$"
    for number in range(12):
        keep(number, 0.5 if number < 6 else 0.6, stack=odd, overrides=("measure.repeats=3", "workload.texts=['a b']"))
    out = printed(tmp_path / "runs", capsys)
    [command] = [line for line in out.splitlines() if "bisect" in line and "RTF" not in line][:1]
    words = shlex.split(command)
    assert words[words.index("--stack") + 1] == odd
    assert words[-4:] == ["--set", "measure.repeats=3", "--set", "workload.texts=['a b']"]
    page = (tmp_path / "runs" / "history.md").read_text()
    assert not any("<b>" in line for line in page.splitlines() if not line.startswith("    "))
    for plot in (tmp_path / "runs" / "history").iterdir():
        ET.parse(plot)


def test_no_command_is_offered_that_a_line_break_would_cut(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        keep(number, 0.5 if number < 6 else 0.6, stack="a\n# b")
    assert "+20.0 %" in printed(tmp_path / "runs", capsys)
    page = (tmp_path / "runs" / "history.md").read_text()
    assert "bisect" not in page
    assert "\n# b" not in page


def test_runs_without_figures_are_remembered_and_told(
    keep: Keep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(0)
    keep(1)
    run = runs.read_run(tmp_path / "runs" / "run-000")
    failed = [dataclasses.replace(cell, status="failed", utterances=()) for cell in run.cells]
    runs.write_run(tmp_path / "runs" / "run-000", dataclasses.replace(run, cells=tuple(failed)))
    printed(tmp_path / "runs", capsys)
    assert {entry.run for entry in history.read(tmp_path / "runs" / "history.parquet")} == {"run-000", "run-001"}


def test_wrong_folders_and_stores_are_told(keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecordError, match="holds no run with figures"):
        command.history(tmp_path / "nowhere", None)
    run = keep(0)
    with pytest.raises(UsageError, match=r"is a single run\. Name the folder"):
        command.history(run, None)
    store = tmp_path / "runs" / "history.parquet"
    for content in (b"", b"PAR1 nonsense"):
        store.write_bytes(content)
        with pytest.raises(RecordError, match=r"cannot be read: .* Move it away"):
            command.history(run.parent, None)
    pandas.DataFrame({"a": [1]}).to_parquet(store)
    with pytest.raises(RecordError, match=r"another version of ttsbench\. Move it away"):
        command.history(run.parent, None)
    pandas.DataFrame({name: ["x"] for name in history.COLUMNS}).to_parquet(store)
    with pytest.raises(RecordError, match="cannot be read"):
        command.history(run.parent, None)
    monkeypatch.setattr(values, "can_write_parquet", lambda: False)
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow.*ttsbench\[parquet\]"):
        command.history(run.parent, None)


def test_the_command_ends_with_0_and_writes_elsewhere(stepped: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ttsbench", "history", str(stepped), "--output", str(tmp_path / "trend")]
    environment = {**os.environ, "COLUMNS": "80"}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert answer.returncode == 0, answer.stderr
    assert {path.name for path in (tmp_path / "trend").iterdir()} == {"history.md", "history.parquet", "history"}
    assert "12 runs, 12 of them new" in answer.stderr


def test_the_kept_results_have_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").mkdir()
    for name in ("h200-fastest", "h200-chatterbox-cold"):
        (tmp_path / "runs" / name).symlink_to(ROOT / "docs" / "results" / name)
    assert "on NVIDIA H200" in printed(tmp_path / "runs", capsys)
