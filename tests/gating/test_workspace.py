"""A gate that is stopped or killed at any moment leaves no worktree, no folder and no process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ttsbench.errors import ExitCode
from ttsbench.gating import reaper, workspace

ROOT = Path(__file__).parents[2]
# Processes that take a while, so that a kill comes in the midst of one.
SCENARIO = """
name: pretended
fake: {}
workload: {texts: [One.], length: {fixed: 25}}
stacks: {upstream: {}}
measure: {processes: 7, repeats: 5}
"""
SLOW = ('report_progress("pretending")\n', 'report_progress("pretending")\n    import time\n    time.sleep(0.3)\n')
MOMENTS = ("at once", "worktree", "pair 1", "pair 3")


@pytest.fixture
def slow(repository: Path, tmp_path: Path) -> Path:
    engine = repository / "ttsbench" / "running" / "fake_engine.py"
    engine.write_text(engine.read_text().replace(*SLOW))
    subprocess.run(["git", "commit", "-q", "-a", "-m", "Slow"], cwd=repository, check=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return repository


class Gate:
    """One that runs in the background, with a temporary folder of its own."""

    def __init__(self, repository: Path) -> None:
        self.repository, self.temporary = repository, repository.parent / "tmp"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        command = [sys.executable, "-m", "ttsbench", "gate", str(repository.parent / "s.yaml"), "--base", "HEAD"]
        self.errors = repository.parent / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=repository, env=environment, stdout=subprocess.DEVNULL, stderr=errors
            )

    def wait_for(self, moment: str) -> None:
        wait_until(lambda: self.is_at(moment), f"{moment}: {self.errors.read_text()}")

    def is_at(self, moment: str) -> bool:
        if moment == "at once":
            return bool(self.folders())
        if moment == "worktree":
            return any((folder / "worktrees").is_dir() for folder in self.folders())
        return moment in self.errors.read_text()

    def folders(self) -> list[Path]:
        return list(self.temporary.glob(f"{workspace.PREFIX}*"))

    def processes(self) -> list[int]:
        """All that were started for any gate in this temporary folder."""
        mark = f"{reaper.MARK}={self.temporary}".encode()
        return [number for number, output in environments() if any(part.startswith(mark) for part in output)]

    def reapers(self) -> list[int]:
        """Those that watch a folder in this one."""
        lines = {number: read(Path(f"/proc/{number}/cmdline")) for number, _ in environments()}
        return [n for n, line in lines.items() if b"reaper.py" in line and os.fsencode(self.temporary) in line]

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not (self.folders() or self.processes() or self.reapers()), "something is left")
        listed = subprocess.run(
            ["git", "worktree", "list"], cwd=self.repository, capture_output=True, text=True, check=True
        )
        assert len(listed.stdout.splitlines()) == 1
        assert not any((self.repository / ".git" / "worktrees").glob("*"))


def environments() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").glob("[0-9]*"):
        yield int(entry.name), read(entry / "environ").split(b"\0")


def read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def wait_until(holds: Callable[[], bool], output: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, output
        time.sleep(0.01)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_gate_that_is_killed_leaves_nothing(slow: Path, moment: str) -> None:
    gate = Gate(slow)
    gate.wait_for(moment)
    gate.process.kill()
    gate.process.wait()
    gate.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "worktree"), (signal.SIGINT, "pair 1"), (signal.SIGTERM, "pair 2")]
)
def test_a_gate_that_is_stopped_leaves_nothing_and_says_so(slow: Path, number: signal.Signals, moment: str) -> None:
    gate = Gate(slow)
    gate.wait_for(moment)
    gate.process.send_signal(number)
    assert gate.process.wait(timeout=30) == ExitCode.INTERRUPTED
    gate.assert_nothing_is_left()
    assert "Traceback" not in gate.errors.read_text()


def test_what_even_its_reaper_left_goes_with_the_next_gate(slow: Path) -> None:
    gate = Gate(slow)
    gate.wait_for("pair 1")
    [watching] = gate.reapers()
    for number in (watching, gate.process.pid):
        os.kill(number, signal.SIGKILL)
    gate.process.wait()
    assert gate.folders()
    following = Gate(slow)
    following.wait_for("pair 1")
    assert len(following.folders()) == 1
    following.process.terminate()
    following.process.wait()
    following.assert_nothing_is_left()


def test_what_somebody_works_in_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with workspace.open_workspace() as item:
        with workspace.open_workspace() as other:
            assert item.folder.is_dir()
            assert other.folder != item.folder
        assert not other.folder.exists()
        new = tmp_path / f"{workspace.PREFIX}new"
        new.mkdir()
        workspace.remove_leftovers()
        assert new.is_dir()
        os.utime(new, (0, 0))
        workspace.remove_leftovers()
        assert not new.exists()
    assert not item.folder.exists()


def test_processes_that_were_started_for_it_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far they have gone: a session of their own, a parent that is dead."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\ntime.sleep(600)"
    with workspace.open_workspace() as space:
        subprocess.run([sys.executable, "-c", program], env=space.environment(), check=True)
        wait_until(lambda: bool(list(reaper.processes_of(space.folder))), "it did not start")
    assert not list(reaper.processes_of(space.folder))
