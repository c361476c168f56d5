"""The runner with a worker that does as messages: forked from here, so that what is replaced here is replaced there."""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.errors import CellError, UsageError
from ttsbench.records import journal, runs
from ttsbench.records.jobs import Job
from ttsbench.records.journal import Journal
from ttsbench.records.runs import Cell
from ttsbench.running import runner, worker
from ttsbench.running.progress import Observer

MakeJob = Callable[..., Job]
IMPORTING = "importing torch and chatterbox"


class Recorder(Observer):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.cells: list[Cell] = []

    def preparing(self, stage: str) -> None:
        self.messages.append(stage)

    def cell_started(self, job: Job, number: int, total: int) -> None:
        self.messages.append(f"start {number}/{total}")

    def stage(self, job: Job, stage: str) -> None:
        self.messages.append(stage)

    def cell_finished(self, cell: Cell) -> None:
        self.messages.append(cell.status)
        self.cells.append(cell)


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Replaces what a worker process does."""

    def replace(measure: Callable[..., Any]) -> None:
        monkeypatch.setattr(runner, "start_context", lambda method: multiprocessing.get_context("fork"))
        monkeypatch.setattr(worker, "measure", measure)
        monkeypatch.setattr(worker, "make_ready", lambda *_: None)

    return replace


def run_one(job: Job, folder: Path) -> Cell:
    return runner.run_job(job, folder, lambda stage: None)


def test_a_cell_comes_back_with_what_it_found(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    behave(lambda job, folder, report, ladder: {"warmup_seconds": (1.5,), "model": {"class": "fake"}})
    cell = run_one(make_job(), tmp_path)
    assert (cell.status, cell.warmup_seconds, cell.model) == ("ok", (1.5,), {"class": "fake"})
    assert cell.elapsed_seconds > 0
    assert cell.ladder["interpreter"] >= 0


def raising(error: BaseException) -> Callable[..., Any]:
    def measure(*_: Any) -> Any:
        raise error

    return measure


def ending(how: Callable[[], Any]) -> Callable[..., Any]:
    def measure(*_: Any) -> Any:
        faulthandler.disable()  # pytest's would print a traceback here
        how()

    return measure


@pytest.mark.parametrize(
    ("measure", "status", "output"),
    [
        (raising(RuntimeError("mat1 and mat2\nshapes")), "failed", "RuntimeError: mat1 and mat2 (test_runner.py:"),
        (raising(CellError("decode: lean was asked for")), "failed", "decode: lean was asked for"),
        (raising(MemoryError()), "oom", "the host has no memory left"),
        (ending(lambda: os._exit(3)), "crashed", "ended with exit code 3"),
        (ending(lambda: os.kill(os.getpid(), signal.SIGKILL)), "crashed", "killed by SIGKILL, as the kernel does"),
        (ending(lambda: os.kill(os.getpid(), signal.SIGSEGV)), "crashed", "killed by SIGSEGV"),
    ],
)
def test_a_failure_is_a_row_with_its_reason(
    tmp_path: Path, make_job: MakeJob, behave: Any, measure: Callable[..., Any], status: str, output: str
) -> None:
    behave(measure)
    cell = run_one(make_job(), tmp_path)
    assert cell.status == status
    assert output in cell.reason
    assert not cell.utterances


def test_an_out_of_memory_gpu_is_told_as_such(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    import torch

    behave(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")))
    cell = run_one(make_job(), tmp_path)
    assert (cell.status, cell.reason[:31]) == ("oom", "the GPU has no memory left: CUD")


def test_last_words_stand_in_the_reason(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    def measure(*_: Any) -> Any:
        os.write(2, b"free(): invalid pointer\n")
        os._exit(134)

    behave(measure)
    assert "its last words: free(): invalid pointer" in run_one(make_job(), tmp_path).reason


def test_a_cell_that_hangs_is_ended_with_all_its_children(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    def measure(*_: Any) -> Any:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        (tmp_path / "child").write_text(str(child))
        time.sleep(60)

    behave(measure)
    cell = run_one(make_job(timeout_seconds=1.0), tmp_path)
    assert cell.status == "timeout"
    assert "not done after 1 s" in cell.reason
    assert_gone(int((tmp_path / "child").read_text()))


def assert_gone(pid: int) -> None:
    for _ in range(50):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")


def test_the_next_cell_runs_whatever_became_of_the_last(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    def measure(job: Job, *_: Any) -> Any:
        if job.process == 0:
            os._exit(9)
        return {}

    behave(measure)
    observer = Recorder()
    runner.execute([make_job(process=0), make_job(process=1)], tmp_path, Journal(tmp_path), observer)
    assert [cell.status for cell in observer.cells] == ["crashed", "ok"]
    assert observer.messages == [IMPORTING, "start 1/2", "crashed", "start 2/2", "ok"]


def test_a_log_that_cannot_be_written_costs_nothing_else(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    (tmp_path / "logs").touch()
    behave(lambda *_: {})
    assert run_one(make_job(), tmp_path).ok


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_traceback_that_cannot_be_written_costs_no_reason(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    def measure(*_: Any) -> Any:
        sys.stderr = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
        raise ValueError("why")

    behave(measure)
    cell = run_one(make_job(), tmp_path)
    assert (cell.status, cell.reason.partition(" (")[0]) == ("failed", "ValueError: why")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_leaves_a_row_and_no_process(
    tmp_path: Path, make_job: MakeJob, behave: Any, number: signal.Signals
) -> None:
    def measure(*_: Any) -> Any:
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(os.getppid(), number)
        time.sleep(60)

    behave(measure)
    book = Journal(tmp_path)
    with runner.at_work(), pytest.raises(runner.Interrupted):
        runner.execute([make_job(), make_job(process=1)], tmp_path, book, Recorder())
    assert '"status":"interrupted","reason":"stopped by the user"' in (tmp_path / journal.FILE).read_text()
    assert_gone(int((tmp_path / "pid").read_text()))


def test_stages_are_passed_on(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    def measure(job: Job, folder: Path, report: Callable[[str], None], ladder: Any) -> Any:
        report("loading")
        return {}

    behave(measure)
    observer = Recorder()
    runner.execute([make_job()], tmp_path, Journal(tmp_path), observer)
    assert observer.messages == [IMPORTING, "start 1/1", "loading", "ok"]


def test_preparation_is_no_cell_s_time(
    tmp_path: Path, make_job: MakeJob, behave: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    behave(lambda *_: {})
    monkeypatch.setattr(worker, "make_ready", lambda *_: time.sleep(6.0))
    observer = Recorder()
    runner.execute([make_job(timeout_seconds=5.0)], tmp_path, Journal(tmp_path), observer)
    [cell] = observer.cells
    assert cell.ok
    assert cell.elapsed_seconds < 6.0  # a part of the preparation would make it more


def test_a_preparation_that_dies_leaves_it_to_the_cells(
    tmp_path: Path, make_job: MakeJob, behave: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(lambda *_: {})
    monkeypatch.setattr(worker, "make_ready", lambda *_: os._exit(9))
    observer = Recorder()
    runner.execute([make_job()], tmp_path, Journal(tmp_path), observer)
    assert [cell.status for cell in observer.cells] == ["ok"]


@pytest.mark.parametrize("start_method", ["forkserver", "bare"])
def test_preparation_makes_each_checkpoint_in_another_process(
    tmp_path: Path, make_job: MakeJob, start_method: str
) -> None:
    program = f"""
import json, os, sys
from pathlib import Path
from ttsbench.model import checkpoint
from ttsbench.records import runs
from ttsbench.records.jobs import Job
from ttsbench.running import runner
if __name__ == "__main__":
    os.environ.update(runner.WORKER_ENVIRONMENT)
    data = json.loads(sys.argv[1])
    jobs = [runs.from_json(Job, data | {{"model_seed": seed}}) for seed in (0, 1, 1)]
    messages = []
    runner.prepare(jobs, Path({str(tmp_path)!r}), messages.append)
    print(json.dumps([messages, [checkpoint.is_cached(*job.checkpoint[1:]) for job in jobs], "torch" in sys.modules]))
"""
    (tmp_path / "program.py").write_text(program)
    job = runs.dump(runs.to_json(make_job(start_method=start_method)))
    environment = os.environ | {"TTSBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, tmp_path / "program.py", job], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    begun = IMPORTING if start_method == "forkserver" else "starting"
    assert json.loads(ended.stdout) == [[begun, *["checkpoint synthetic chatterbox"] * 2], [True] * 3, False]


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    folders = {runner.new_folder(tmp_path / "runs", "quick") for _ in range(3)}
    assert len(folders) == 3


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="--output"):
        runner.new_folder(tmp_path / "runs", "quick")


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        runner.new_folder(tmp_path / "runs", "quick")


def test_no_thread_is_left_behind(tmp_path: Path, make_job: MakeJob, behave: Any) -> None:
    before = threading.active_count()
    behave(lambda *_: {})
    run_one(make_job(), tmp_path)
    assert threading.active_count() == before
