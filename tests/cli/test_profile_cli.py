"""`ttsbench profile` as a user meets it: one profile through the fork server, and what can go wrong after it."""

from __future__ import annotations

import csv
import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli import app
from ttsbench.cli.profile_printing import show_finished
from ttsbench.errors import ExitCode, RecordError
from ttsbench.records import files, profiles, runs
from ttsbench.records.jobs import Job, ProfileJob
from ttsbench.running import profile_run

SCENARIO = """
name: mine
model: {size: tiny}
device: cpu
workload: {texts: [Hello.]}
stacks: {upstream: {}, mended: {decode: lean, sampler: lean, cache: static}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one profile leaves behind."""
    home = tmp_path_factory.mktemp("profile")
    (home / "mine.yaml").write_text(SCENARIO)
    with pytest.MonkeyPatch.context() as patch:
        arguments = ("profile", str(home / "mine.yaml"), "--stack", "mended", "--steps", "5", "--quiet")
        patch.setattr("sys.argv", ["ttsbench", *arguments, "--output", str(home / "runs")])
        with pytest.raises(SystemExit) as ended:
            app.main()
    assert ended.value.code == ExitCode.OK
    (made,) = (home / "runs").iterdir()
    return made


def test_the_folder_holds_record_tables_trace_and_stacks(folder: Path) -> None:
    assert folder.name.startswith("mine-mended-profile-")
    profile = profiles.read(folder)
    assert (profile.header.scenario, profile.header.stack) == ("mine", "mended")
    assert profile.header.window.decode_steps == 5
    present = {path.name for path in folder.iterdir()}
    assert {*profile.files, profiles.FILE, "run.json", "logs"} == present
    assert {"trace.json.gz", "ops.csv", "ops_by_shape.csv", "modules.csv", "stages.csv", "stacks-host.txt"} <= present
    with (folder / "ops.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [op.name for op in profile.ops]
    for line in (folder / "stacks-host.txt").read_text().splitlines():
        path, _, microseconds = line.rpartition(" ")
        assert path
        assert int(microseconds) > 0


def test_the_run_record_holds_the_same_tables(folder: Path) -> None:
    (cell,) = runs.read_run(folder).cells
    assert (cell.kind, cell.status) == ("profile", "ok")
    assert cell.evidence["decode"]["loop"] == "LeanLoop"
    assert profiles.of_cell(cell).ops == profiles.read(folder).ops


def test_show_prints_a_profile_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["ttsbench", "show", str(folder)])
    with pytest.raises(SystemExit):
        app.main()
    printed = capsys.readouterr().out
    assert "mended on " in printed
    assert "Stages" in printed
    assert "1. " in printed


def test_without_room_for_a_table_the_others_and_the_summary_are_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.read_run(folder)
    write: Callable[[Path, str, str | bytes], Path] = files.write_below

    def without_room(folder: Path, name: str, content: str | bytes) -> Path:
        if name in ("modules.csv", "run.json"):
            raise OSError(errno.ENOSPC, "No space left on device", name)
        return write(folder, name, content)

    monkeypatch.setattr(files, "write_below", without_room)
    assert show_finished(profile_run.write_results(tmp_path, run, run.cells[0])) == ExitCode.INTERNAL
    printed = capsys.readouterr().out
    assert "Stages" in printed
    assert "modules.csv: No space left on device" in printed
    assert {"profile.json", "ops.csv", "stages.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_profile_without_its_trace_is_no_success(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.read_run(folder)
    cell = replace(run.cells[0], profile={**run.cells[0].profile, "files": []})
    assert profile_run.write_results(tmp_path, run, cell).exit_code == ExitCode.INTERNAL
    assert (tmp_path / "ops.csv").exists()


def test_a_cell_that_fails_says_why_in_a_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.read_run(folder)
    failed = replace(run.cells[0], status="failed", reason="the profiler saw no kernel on the GPU", profile={})
    written = profile_run.write_results(tmp_path, replace(run, cells=(failed,)), failed)
    assert show_finished(written) == ExitCode.CELL_FAILED
    assert capsys.readouterr().out.splitlines()[0] == "failed: the profiler saw no kernel on the GPU"
    assert runs.read_run(tmp_path).cells[0].status == "failed"


@pytest.mark.parametrize(
    ("text", "output"),
    [(None, "holds no profile.json"), ("{", "is not JSON"), ("[]", "is no record but a list"),
     ('{"schema_version": 99}', "has schema version 99; this ttsbench reads 1"),
     ('{"schema_version": 1}', "lacks header")],
)  # fmt: skip
def test_a_folder_that_is_no_profile_is_refused(tmp_path: Path, text: str | None, output: str) -> None:
    if text is not None:
        (tmp_path / profiles.FILE).write_text(text)
    with pytest.raises(RecordError, match=output):
        profiles.read(tmp_path)


def test_a_profile_asks_for_one_window_and_no_other_pass(make_job: Callable[..., Job]) -> None:
    job = profile_run.profile_job(make_job(timeout_seconds=5.0, reference="r"), ProfileJob("s", 32))
    output: dict[str, Any] = {
        "kind": job.kind,
        "passes": job.passes,
        "audio": job.keep_audio,
        "reference": job.reference,
    }
    assert output == {"kind": "profile", "passes": (), "audio": False, "reference": ""}
    assert job.timeout_seconds >= 600
