"""Runs that are killed or stopped at any moment: nothing finished is lost, and what is left can be run.

The command is the true one, in a process of its own; only what a worker does is replaced by a short sleep.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli import app
from ttsbench.errors import ExitCode, RecordError
from ttsbench.records import assembly, jobs, journal, runs
from ttsbench.records.jobs import Job
from ttsbench.records.journal import Journal
from ttsbench.running import runner, worker
from ttsbench.running.progress import Observer

ROOT = Path(__file__).parents[2]
KILLS = 20
WORK_SECONDS = 0.3  # of the jobs, each of which starts a process and sleeps
SCENARIO = """
name: s
model: {size: tiny}
device: cpu
workload: {texts: [Hello.], length: {fixed: 6}, sampling: {cfg_weight: 0}}
stacks: {upstream: {}, lean: {decode: lean}, bare: {decode: lean, watermark: "off"}}
baseline: lean
measure: {processes: 4}
"""
JOBS = {f"{stack}#timed{process}" for stack in ("lean", "bare") for process in range(4)}
DRIVER = """
import multiprocessing, os, sys, time
from pathlib import Path
from ttsbench.cli import app
from ttsbench.running import runner, worker

def measure(job, folder, tell, ladder):
    Path(folder, "begun").write_text(str(os.getpid()))
    Path(folder, "begun").replace(Path(folder, "working"))  # whole, or not at all: it may be killed here
    time.sleep(float(sys.argv[0]))
    return {}

runner.start_context = lambda method: multiprocessing.get_context("fork")
worker.measure = measure
worker.make_ready = lambda *_: None
sys.argv = sys.argv[1:]
print("ready", flush=True)
app.main()
"""
FINISHED = re.compile(r"^\[\d+/\d+\] (\S+) (\w+) (\d+): RTF .*\n", re.MULTILINE)


@dataclass
class Driver:
    """A `ttsbench` in the background; it has imported everything and is about to begin."""

    folder: Path
    process: subprocess.Popen[str]

    @property
    def output_text(self) -> str:
        """Its progress so far."""
        return (self.folder / "stderr").read_text()

    def wait(self) -> int:
        return self.process.wait(timeout=60)

    def run_folder(self) -> Path | None:
        return next(iter(self.folder.glob("runs/*")), None)


def start(folder: Path, *arguments: str, job_seconds: float = 0.02, told_to: Path | int | None = None) -> Driver:
    (folder / "s.yaml").write_text(SCENARIO)
    with open(folder / "stderr" if told_to is None else told_to, "w") as errors:  # noqa: PTH123  (it may be a pipe)
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER.replace("sys.argv[0]", str(job_seconds)), "ttsbench", *arguments],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    return Driver(folder, process)


def run_new(folder: Path, job_seconds: float = 0.02) -> Driver:
    return start(folder, "run", "s.yaml", job_seconds=job_seconds)


def resume(folder: Path, run_folder: Path) -> tuple[int, str]:
    driver = start(folder, "run", "--resume", str(run_folder))
    driver.process.communicate(timeout=60)
    return driver.wait(), driver.output_text


def finished(output: str) -> set[str]:
    """The jobs of which the user was output_text."""
    return {f"{key}#{kind}{int(process) - 1}" for key, kind, process in FINISHED.findall(output)}


def in_journal(run_folder: Path) -> set[str]:
    return {cell.job_id for cell in journal.read(run_folder)[1] if cell.ok}


def assert_complete(run_folder: Path) -> None:
    run = runs.read_run(run_folder)
    assert run.status == "complete"
    ran = [cell.job_id for cell in run.cells if cell.ok]
    assert sorted(ran) == sorted(JOBS)
    assert [(cell.key, cell.status) for cell in run.cells if not cell.ok] == [("upstream", "skipped")]


def stopped_anywhere(folder: Path, number: int, after_seconds: float, *, at_work: bool) -> str:
    """Stops a run, so long after it was started or began to work; resumes it, and says what it was stopped in."""
    folder.mkdir()
    driver = run_new(folder)
    if at_work:
        wait_until(lambda: driver.run_folder() or driver.process.poll() is not None)
    time.sleep(after_seconds)
    driver.process.send_signal(number)
    printed, _ = driver.process.communicate(timeout=60)
    code, output, run_folder = driver.wait(), driver.output_text, driver.run_folder()
    # Before the first job and while the interpreter shuts down, a signal does what it does to any program.
    assert code in (0, -number, ExitCode.INTERRUPTED), output
    assert "Traceback" not in output or "report.md" in printed, output
    if run_folder is None:
        assert not finished(output)
        return "before the folder"
    try:
        safe = in_journal(run_folder)
    except RecordError:
        assert not finished(output)
        code, output = resume(folder, run_folder)
        assert (code, len(output.splitlines())) == (ExitCode.USAGE, 1)
        return "before the header"
    assert finished(output) <= safe
    again, output = resume(folder, run_folder)
    assert again == 0, output
    assert finished(output) == JOBS - safe
    assert_complete(run_folder)
    return "at its end" if code == 0 else "between"


def whole_run_seconds(folder: Path) -> float:
    folder.mkdir()
    driver = run_new(folder)
    began = time.monotonic()
    driver.process.communicate(timeout=60)
    assert driver.wait() == 0, driver.output_text
    assert finished(driver.output_text) == JOBS
    run_folder = driver.run_folder()
    assert run_folder is not None
    assert_complete(run_folder)
    return time.monotonic() - began


@pytest.mark.parametrize(("number", "times"), [(signal.SIGKILL, KILLS), (signal.SIGINT, 6), (signal.SIGTERM, 4)])
def test_stopped_at_random_moments_nothing_is_lost(tmp_path: Path, number: int, times: int) -> None:
    seconds = whole_run_seconds(tmp_path / "whole")
    draw = random.Random(number)
    moments = [seconds * (place + draw.random()) / times for place in range(times)]  # spread over the run

    def stop(place: int) -> str:
        """Every other one once there is a folder: how long it takes until then depends on the machine."""
        at_work = place % 2 == 1
        after_seconds = WORK_SECONDS * draw.random() if at_work else moments[place]
        return stopped_anywhere(tmp_path / str(place), number, after_seconds, at_work=at_work)

    with ThreadPoolExecutor(2) as pool:
        where = list(pool.map(stop, range(times)))
    assert where.count("between") >= times // 4, where


def wait_until(done: Callable[[], Any]) -> None:
    for _ in range(2000):
        if done():
            return
        time.sleep(0.01)
    pytest.fail("waited 20 s in vain")


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its parent")
def test_a_kill_leaves_no_process_behind(tmp_path: Path) -> None:
    driver = run_new(tmp_path, job_seconds=60)
    wait_until(lambda: [path for path in tmp_path.glob("runs/*/working") if path.read_text()])
    worker_pid = int(next(tmp_path.glob("runs/*/working")).read_text())
    assert not is_gone(worker_pid)
    driver.process.kill()
    driver.process.communicate()
    wait_until(lambda: is_gone(worker_pid))


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("told_to", [closed_pipe, lambda: Path("/dev/full")])
def test_progress_that_nobody_takes_ends_no_run(tmp_path: Path, told_to: Callable[[], Path | int]) -> None:
    driver = start(tmp_path, "run", "s.yaml", told_to=told_to())
    printed, _ = driver.process.communicate(timeout=60)
    run_folder = driver.run_folder()
    assert run_folder is not None
    assert driver.wait() == 0
    assert printed.endswith(f"{run_folder.relative_to(tmp_path)}/report.md\n")
    assert_complete(run_folder)


def test_a_table_that_nobody_reads_costs_no_result(tmp_path: Path) -> None:
    driver = run_new(tmp_path)
    assert driver.process.stdout is not None
    driver.process.stdout.close()
    assert driver.wait() == ExitCode.PIPE_CLOSED
    run_folder = driver.run_folder()
    assert run_folder is not None
    assert_complete(run_folder)
    assert (run_folder / "report.md").exists()
    assert "Traceback" not in driver.output_text


def test_ctrl_c_ends_with_what_there_is(tmp_path: Path) -> None:
    driver = run_new(tmp_path, job_seconds=0.3)
    wait_until(lambda: len(finished(driver.output_text)) == 2)
    driver.process.send_signal(signal.SIGINT)
    printed, _ = driver.process.communicate(timeout=60)
    run_folder = driver.run_folder()
    assert run_folder is not None
    assert driver.wait() == ExitCode.INTERRUPTED
    assert f"go on with: ttsbench run --resume {run_folder.relative_to(tmp_path)}" in printed
    assert is_gone(int((run_folder / "working").read_text()))
    run = runs.read_run(run_folder)
    assert run.status == "interrupted"
    assert sorted(cell.status for cell in run.cells) == ["interrupted", "ok", "ok", "skipped"]
    assert {path.name for path in run_folder.iterdir()} >= {"run.json", "samples.csv", "report.md", "journal.jsonl"}
    assert resume(tmp_path, run_folder)[0] == 0
    assert_complete(run_folder)


def test_a_run_that_goes_on_cannot_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = run_new(tmp_path, job_seconds=0.5)
    wait_until(lambda: finished(driver.output_text))
    run_folder = driver.run_folder()
    assert run_folder is not None
    assert main(monkeypatch, "run", "--resume", str(run_folder)) == ExitCode.USAGE
    output = f"ttsbench: another process is running {run_folder}. Wait for it, or stop it.\n"
    assert capsys.readouterr().err == output
    driver.process.communicate(timeout=60)
    assert driver.wait() == 0
    assert_complete(run_folder)


@pytest.mark.parametrize("start", ["forkserver", "bare"])
@pytest.mark.parametrize("after_seconds", [0.0, 0.3, 1.0])
def test_ctrl_c_of_a_terminal_in_the_first_seconds_ends_quietly(
    tmp_path: Path, start: str, after_seconds: float
) -> None:
    """A terminal sends it to every process of the group: here with the true fork server, or a true bare process."""
    (tmp_path / "s.yaml").write_text(SCENARIO)
    process = subprocess.Popen(
        [sys.executable, "-m", "ttsbench", "run", "s.yaml", "--set", f"measure.start={start}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    begun = process.stderr.readline()
    time.sleep(after_seconds)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    printed, output = process.communicate(timeout=60)  # until the fork server is gone, too
    assert begun.startswith("preparing: ")
    assert {line.partition(":")[0] for line in output.splitlines()} <= {"preparing"}
    assert "stopped; go on with: " in printed
    assert process.returncode == ExitCode.INTERRUPTED


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of a run that was killed after its third job."""
    monkeypatch.chdir(tmp_path)
    driver = run_new(tmp_path, job_seconds=0.1)
    wait_until(lambda: len(finished(driver.output_text)) >= 3)
    driver.process.kill()
    driver.process.communicate()
    run_folder = driver.run_folder()
    assert run_folder is not None
    return run_folder


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ttsbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return int(ended.value.code or 0)


def change_lines(run_folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = run_folder / journal.FILE
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def change_header(run_folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    change_lines(run_folder, lambda line: change(line["header"]) if "header" in line else None)


def test_what_a_kill_left_can_be_shown(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(killed)
    assert main(monkeypatch, "show", str(killed)) == 0
    output = capsys.readouterr().out
    assert "skipped: upstream: " in output
    assert f"unfinished; go on with: ttsbench run --resume {killed}" in output
    assert contents(killed) == before


@pytest.mark.parametrize(
    "part", ["packages", "cpu", "python", "sources_sha256", "gpu", "torch_build", "ttsbench.sha256", "variables"]
)
def test_another_environment_is_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    section, _, key = part.partition(".")
    other = {key: "other"} if key else {"other": "1"}
    change_header(killed, lambda header: header["environment"].update({section: other}))
    before = (killed / journal.FILE).read_bytes()
    assert main(monkeypatch, "run", "--resume", str(killed)) == ExitCode.NOT_COMPARABLE
    output = capsys.readouterr().err
    assert f"was begun in another environment; different: {part}. Start a new run." in output
    assert (killed / journal.FILE).read_bytes() == before
    assert not (killed / "run.json").exists()


def test_another_number_of_threads_is_another_environment(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert main(monkeypatch, "run", "--resume", str(killed)) == ExitCode.NOT_COMPARABLE
    assert "different: variables. Start a new run." in capsys.readouterr().err


def test_another_commit_of_the_same_code_is_no_other_environment(killed: Path, tmp_path: Path) -> None:
    change_header(killed, lambda header: header["environment"]["ttsbench"].update(git_commit="0" * 40, git_dirty=True))
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)


def test_other_work_is_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_header(killed, lambda header: header.update(jobs_sha256="0" * 64))
    before = (killed / journal.FILE).read_bytes()
    assert main(monkeypatch, "run", "--resume", str(killed)) == ExitCode.NOT_COMPARABLE
    assert "was begun with other texts, tokens or voice than its files hold now" in capsys.readouterr().err
    assert (killed / journal.FILE).read_bytes() == before


def test_the_digest_of_the_work_sees_texts_and_what_a_wav_holds(tmp_path: Path, make_job: Callable[..., Job]) -> None:
    wav = tmp_path / "voice.wav"
    wav.write_bytes(b"one")
    work = [make_job(voice_wav=str(wav)), make_job(process=1)]
    before = jobs.digest(work)
    assert jobs.digest(list(work)) == before
    assert jobs.digest([work[0], make_job(process=1, texts=("Another.",))]) != before
    wav.write_bytes(b"two")
    assert jobs.digest(work) != before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a journal's first lines."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_keeps_what_was_finished(small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 32 * 1024)
    driver = start(tmp_path, "run", "s.yaml", "--output", str(small_disk), "--set", "measure.processes=40")
    driver.process.communicate(timeout=60)
    assert driver.wait() == ExitCode.USAGE
    last_line = driver.output_text.splitlines()[-1]
    assert "No space left on device" in last_line
    assert "make room" in last_line
    assert "Traceback" not in driver.output_text
    [run_folder] = small_disk.glob("s-*")
    safe = in_journal(run_folder)
    assert finished(driver.output_text) == safe != set()
    ballast.unlink()
    code, output = resume(tmp_path, run_folder)
    assert not finished(output) & safe
    if code == ExitCode.USAGE:  # the disk may be too small for all of it
        assert "make room" in output


@pytest.mark.parametrize("status", ["crashed", "failed", "interrupted", "oom", "timeout"])
def test_what_failed_is_run_again(killed: Path, tmp_path: Path, status: str) -> None:
    safe = in_journal(killed)
    change_lines(killed, lambda line: line.get("cell", {}).update(status=status) if is_first_of_lean(line) else None)
    code, output = resume(tmp_path, killed)
    assert (code, finished(output)) == (0, JOBS - safe | {"lean#timed0"})
    assert_complete(killed)
    told_again = [f"lean (timed 1) was tried again after: {status}: "] if status != "interrupted" else []
    assert list(runs.read_run(killed).warnings) == told_again


def is_first_of_lean(line: dict[str, Any]) -> bool:
    cell = line.get("cell", {})
    return (cell.get("key"), cell.get("process")) == ("lean", 0)


def test_a_torn_line_is_run_again(killed: Path, tmp_path: Path) -> None:
    path = killed / journal.FILE
    path.write_bytes(path.read_bytes().rstrip(b"\n")[:-20])
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)


def test_cells_that_cannot_run_are_told_though_the_kill_came_before(killed: Path, tmp_path: Path) -> None:
    path = killed / journal.FILE
    path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n")
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)


def test_resuming_a_complete_run_runs_nothing(killed: Path, tmp_path: Path) -> None:
    assert resume(tmp_path, killed)[0] == 0
    before = contents(killed)
    code, output = resume(tmp_path, killed)
    assert (code, output) == (0, "")
    assert contents(killed) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_that_a_kill_prevented_are_written(killed: Path, tmp_path: Path) -> None:
    assert resume(tmp_path, killed)[0] == 0
    (killed / "run.json").unlink()
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)


def test_a_resumed_plan_names_what_is_left_and_starts_nothing(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "run_job", lambda *_: pytest.fail("a job was started"))
    before, left = contents(killed), JOBS - in_journal(killed)
    assert main(monkeypatch, "run", "--resume", str(killed), "--plan") == 0
    output = capsys.readouterr().out
    assert output.startswith(f"s: {len(left)} processes\n")
    assert {f"{key}#timed{int(process) - 1}" for key, process in re.findall(r"(\w+)  timed (\d+)", output)} == left
    assert contents(killed) == before


@pytest.mark.parametrize("option", [("--set", "measure.repeats=9"), ("--only", "lean"), ("--output", "elsewhere")])
def test_a_run_that_was_begun_cannot_be_changed(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    before = contents(killed)
    assert main(monkeypatch, "run", "--resume", str(killed), *option) == ExitCode.USAGE
    output = f"ttsbench: {option[0]} cannot change a run that was begun. Start a new run.\n"
    assert capsys.readouterr().err == output
    assert contents(killed) == before


def test_a_corrupt_line_costs_its_row_alone(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = killed / journal.FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{" + lines[2][5:], *lines[3:]]))
    assert main(monkeypatch, "show", str(killed)) == 0
    assert f"note: a row is lost: {journal.FILE}:3 is not JSON" in capsys.readouterr().out
    assert len(in_journal(killed)) == 2
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)


def test_a_record_that_cannot_be_read_is_replaced_by_the_journal(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (killed / runs.FILE).write_text("{")
    assert main(monkeypatch, "show", str(killed)) == 0
    assert "note: read from the journal, because " in capsys.readouterr().out


def test_a_row_of_a_job_that_is_not_planned_does_not_count(killed: Path, tmp_path: Path) -> None:
    path = killed / journal.FILE
    foreign = json.loads(path.read_text().splitlines()[-1])
    foreign["cell"].update(key="foreign", stack="foreign")
    path.write_text(path.read_text() + json.dumps(foreign) + "\n")
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)
    [note] = runs.read_run(killed).warnings
    assert re.fullmatch(r"the journal's row of foreign#timed\d does not count: it is not in the plan", note)


def test_a_record_of_a_newer_schema_is_not_written_over(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (killed / runs.FILE).write_text('{"schema_version": 99}')
    before = contents(killed)
    assert main(monkeypatch, "run", "--resume", str(killed)) == ExitCode.USAGE
    assert "was written in schema version 99" in capsys.readouterr().err
    assert contents(killed) == before


def test_a_note_is_not_repeated_for_each_try(make_cell: Callable[..., runs.Cell]) -> None:
    tries = [make_cell(status="oom", reason="full")] * 3 + [make_cell(status="failed", reason="other"), make_cell()]
    assert list(assembly.second_tries(tries)) == [
        "upstream (timed 1) was tried again after: oom: full (3 times)",
        "upstream (timed 1) was tried again after: failed: other",
    ]


def test_no_link_below_logs_is_written_through(killed: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    for process in range(4):
        log = killed / "logs" / f"bare.timed{process}.log"
        log.unlink(missing_ok=True)
        log.symlink_to(target)
    assert resume(tmp_path, killed)[0] == 0
    assert_complete(killed)
    assert target.read_text() == "kept"
    notes = {note for cell in runs.read_run(killed).cells for note in cell.warnings}
    assert [note for note in notes if note.startswith("its log was not kept: ")]


def test_a_journal_that_is_a_link_is_refused(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = (killed / journal.FILE).rename(tmp_path / "target")
    (killed / journal.FILE).symlink_to(target)
    before = target.read_bytes()
    assert main(monkeypatch, "run", "--resume", str(killed)) == ExitCode.USAGE
    assert "journal.jsonl is a link, and nothing is written there" in capsys.readouterr().err
    assert target.read_bytes() == before


def test_a_folder_that_is_moved_keeps_its_cells(tmp_path: Path) -> None:
    driver = run_new(tmp_path, job_seconds=0.3)
    wait_until(lambda: len(finished(driver.output_text)) == 2)
    run_folder = driver.run_folder()
    assert run_folder is not None
    moved = run_folder.rename(tmp_path / "moved")
    driver.process.communicate(timeout=60)
    assert driver.wait() == ExitCode.USAGE
    last = driver.output_text.splitlines()[-1]
    assert f"was moved or removed during the run. Go on with: ttsbench run --resume {moved}." in last
    assert not run_folder.exists()
    assert finished(driver.output_text) <= in_journal(moved)
    assert resume(tmp_path, moved)[0] == 0
    assert_complete(moved)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runner.at_work():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class StopsWhenTold(Observer):
    """Interrupted right after a cell was written down."""

    def cell_finished(self, cell: runs.Cell) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_between_cells_keeps_the_one_before(
    tmp_path: Path, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "start_context", lambda method: multiprocessing.get_context("fork"))
    monkeypatch.setattr(worker, "measure", lambda *_: {})
    monkeypatch.setattr(worker, "make_ready", lambda *_: None)
    book = Journal(tmp_path)
    header = journal.JournalHeader(
        schema_version=runs.SCHEMA_VERSION, ttsbench_version="0", run_id="r", scenario="s", baseline="lean",
        started_utc="", environment={}, scenario_given="", scenario_base="", overrides=(), only=(), ablated="",
        scenario_understood={}, jobs_sha256="",
    )  # fmt: skip
    book.append("header", header)
    with pytest.raises(runner.Interrupted):
        runner.execute([make_job(), make_job(process=1)], tmp_path, book, StopsWhenTold())
    run = assembly.assemble(journal.read(tmp_path), "interrupted")
    assert [(cell.process, cell.status) for cell in run.cells] == [(0, "ok")]
