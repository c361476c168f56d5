"""The two sides of a gate, each measured by its own code in processes of its own, whatever version that is."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from ttsbench.errors import SideError
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout, last_line
from ttsbench.records import runs
from ttsbench.records.jobs import TIMED
from ttsbench.records.runs import Cell, Run
from ttsbench.running import host, plan, runner
from ttsbench.scenarios import schema

SERVER = Path("ttsbench", "cli", "serve.py")
LOG = "side.log"
END_SECONDS = 15.0
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Work:
    """What is to be measured, the same for both sides."""

    scenario: Path
    overrides: tuple[str, ...]
    only: tuple[str, ...]


class Side(Protocol):
    """Code that can be asked for one process at a time."""

    label: str
    # What it has found out so far; nothing is known of a side before it is asked, if it cannot be asked job by job.
    run: Run | None

    def get_ready(self) -> None:
        """Waits for what has to be there before the first process."""

    def cells(self) -> Sequence[str]:
        """Which cells it can measure, as far as is known."""

    def processes(self, key: str) -> int | None:
        """How many there can be of a cell; None where there is no end."""

    def measure(self, key: str, process: int, order: int) -> Cell:
        """One process, from start to record."""


class Stored:
    """A run that was made before: its processes in their order."""

    def __init__(self, run: Run) -> None:
        self.label = run.run_id
        self.stored = run
        self.run: Run | None = run
        self._cells: dict[str, list[Cell]] = {}
        for cell in run.cells:
            if cell.kind == TIMED and cell.status != "skipped":
                self._cells.setdefault(cell.key, []).append(cell)

    def get_ready(self) -> None:
        """It was there before."""

    def cells(self) -> Sequence[str]:
        """Those that it holds."""
        return list(self._cells)

    def processes(self, key: str) -> int:
        """Those that were run."""
        return len(self._cells[key])

    def measure(self, key: str, process: int, order: int) -> Cell:
        """As it was measured."""
        return self._cells[key][process]


class Measured:
    """A side that keeps what it finds: run.json holds every process as soon as it has ended."""

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        self.label = checkout.label
        self.run: Run | None = None
        self._folder = folder

    def processes(self, key: str) -> int | None:
        """As many as are asked for."""
        return None

    def keep(self, run: Run, cells: Sequence[Cell]) -> None:
        """All that is known now."""
        self.run = replace(run, cells=(*run.cells, *cells))
        runs.write_run(self._folder, self.run)

    def conclude(self) -> None:
        """No more is asked of it."""
        if self.run is not None:
            self.keep(replace(self.run, status="complete", finished_utc=runner.now_utc()), ())


class Served(Measured):
    """A process that stays, and answers question by question: torch is imported once."""

    def __init__(
        self, process: subprocess.Popen[str], checkout: Checkout, work: Work, folder: Path, tell: Tell
    ) -> None:
        super().__init__(checkout, folder)
        self._process, self._code, self._tell = process, checkout.folder.resolve(), tell
        self._keys: list[str] = []
        self._ask(
            {"scenario": str(work.scenario), "overrides": work.overrides, "only": work.only, "folder": str(folder)}
        )

    def get_ready(self) -> None:
        """Waits for its imports and references, which it began with when it was started."""
        answer = self._answer(self._tell)
        if (code := Path(answer["code"]).resolve()) != self._code:
            raise SideError(f"{self.label}: another ttsbench ran in its place, that of {code.name}")
        self._keys = [str(key) for key in answer["keys"]]
        run = runs.from_json(Run, runs.migrate(answer["run"], self.label), self.label)
        self.keep(run, ())

    def cells(self) -> Sequence[str]:
        """Those that its plan holds."""
        return self._keys

    def measure(self, key: str, process: int, order: int) -> Cell:
        """By a process of its own code."""
        self._ask({"key": key, "process": process, "order": order})
        [found] = runs.migrate(self._answer(), self.label)["cells"]
        cell = runs.from_json(Cell, found, self.label)
        assert self.run is not None
        self.keep(self.run, [cell])
        return cell

    def _ask(self, question: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its last words are told in the place of an answer
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def _answer(self, tell: Tell = lambda stage: None) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "refused" in answer:
                raise SideError(f"{self.label} cannot run this: {answer['refused']}")
            if "stage" not in answer:
                return answer
            tell(f"{self.label}: {answer['stage']}")
        raise SideError(f"{self.label} does not run: {last_line((self._folder / LOG).read_text(errors='replace'))}")


class Called(Measured):
    """Code that cannot be asked job by job: each process is a whole `ttsbench run`, which imports torch anew."""

    def __init__(self, begin: Beginning, checkout: Checkout, work: Work, folder: Path) -> None:
        super().__init__(checkout, folder)
        self._begin, self._work = begin, work

    def get_ready(self) -> None:
        """It begins when it is asked."""

    def cells(self) -> Sequence[str]:
        """What we would plan ourselves; only trying would tell what it does."""
        scenario = schema.load(self._work.scenario, self._work.overrides)
        jobs = plan.make(scenario, host.machine(), self._work.only).jobs
        return list(dict.fromkeys(job.key for job in jobs if job.kind == TIMED))

    def measure(self, key: str, process: int, order: int) -> Cell:
        """By a run of one process of one cell."""
        output = self._folder / f"process-{process}"
        overrides = [word for text in (*self._work.overrides, "measure.processes=1") for word in ("--set", text)]
        # The name is no pattern, even if it looks like one.
        chosen = ["--only", glob.escape(key), "--quiet", "--output", str(output)]
        command = ("ttsbench", "run", str(self._work.scenario), *overrides, *chosen)
        with self._begin(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as called:
            code = called.wait()
        found = [runs.read_run(folder) for folder in output.glob("*") if (folder / "run.json").exists()]
        cells = [cell for run in found for cell in run.cells if cell.kind == TIMED and cell.key == key]
        if not cells:
            told = last_line((self._folder / LOG).read_text(errors="replace"))
            raise SideError(f"{self.label} does not run: {told or f'exit code {code}'}")
        cell = replace(cells[0], process=process, order=order)
        self.keep(self.run or replace(found[0], run_id=self._folder.name, cells=()), [cell])
        return cell


@contextlib.contextmanager
def opened(
    checkout: Checkout, python: str, work: Work, folder: Path, space: Workspace, tell: Tell
) -> Iterator[Served | Called]:
    """A side that gets ready to be asked; none of its processes is left after the block."""
    folder.mkdir(parents=True)
    begin = Beginning(checkout, python, space, folder / LOG)
    if (checkout.folder / SERVER).is_file():
        with begin("ttsbench.cli.serve", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            served = Served(process, checkout, work, folder, tell)
            yield served
            served.conclude()
    else:
        called = Called(begin, checkout, work, folder)
        yield called
        called.conclude()


@dataclass(frozen=True)
class Beginning:
    """How processes of a side are started: its Python, its code, and a log for what they say beside the matter."""

    checkout: Checkout
    python: str
    space: Workspace
    log: Path

    @contextlib.contextmanager
    def __call__(self, *arguments: str, stdin: int, stdout: int) -> Iterator[subprocess.Popen[str]]:
        """One that has ended after the block: by itself if that went well, otherwise as it would at Ctrl-C.

        In a session of its own, so that Ctrl-C reaches us alone; in a folder from where nothing can be imported.
        """
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [self.python, "-m", *arguments],
                cwd=self.space.folder,
                env=self.space.environment(PYTHONPATH=import_path(self.checkout, self.python)),
                stdin=stdin,
                stdout=stdout,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            yield process
            hang_up(process.stdin)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
        finally:
            end(process)


def import_path(checkout: Checkout, python: str) -> str:
    """The side's own code first. What else this Python was told to look through is no other ttsbench's place."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep) if python == sys.executable else []
    others = [path for name in told if name and not ((path := Path(name).absolute()) / "ttsbench").is_dir()]
    return os.pathsep.join(map(str, [checkout.folder, *others]))


def end(process: subprocess.Popen[str]) -> None:
    """It is gone when this returns."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
    hang_up(process.stdin)
    hang_up(process.stdout)


def hang_up(pipe: IO[str] | None) -> None:
    """Its end is told; who has gone already needs no telling."""
    with contextlib.suppress(OSError):
        if pipe is not None:
            pipe.close()
