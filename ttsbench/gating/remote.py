"""The two sides of a gate, each measured by its own code in processes of its own, whatever version that is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from ttsbench.errors import SideError
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout, last_line
from ttsbench.records import assembly, runs
from ttsbench.records.jobs import TIMED
from ttsbench.records.runs import Cell, Run
from ttsbench.running.progress import ProgressCallback

# Where versions have their side server, the newest first: the base of a gate may be older than this code.
SERVERS = ("ttsbench.gating.serve", "ttsbench.cli.serve")
LOG = "side.log"
END_SECONDS = 15.0


@dataclass(frozen=True)
class ScenarioSelection:
    """What both sides measure."""

    scenario: Path
    overrides: tuple[str, ...]
    only: tuple[str, ...]


class Side(Protocol):
    """One of the two versions that a gate compares."""

    label: str
    # Its record so far; None until it is ready.
    run: Run | None

    def get_ready(self) -> None:
        """Waits for imports and references, which come before the first process."""

    def cells(self) -> Sequence[str]:
        """The keys of those that it can measure."""

    def processes(self, key: str) -> int | None:
        """How many it has of a cell; None if there is no limit."""

    def measure(self, key: str, process: int, order: int) -> Cell:
        """One process, from start to record."""


class StoredSide:
    """A run made earlier: its processes in their order."""

    def __init__(self, run: Run) -> None:
        self.label = run.run_id
        self.stored = run
        self.run: Run | None = run
        self._cells: dict[str, list[Cell]] = {}
        for cell in run.cells:
            if cell.kind == TIMED and cell.status != "skipped":
                self._cells.setdefault(cell.key, []).append(cell)

    def get_ready(self) -> None:
        return

    def cells(self) -> Sequence[str]:
        return list(self._cells)

    def processes(self, key: str) -> int:
        return len(self._cells[key])

    def measure(self, key: str, process: int, order: int) -> Cell:
        return self._cells[key][process]


class ServedSide:
    """A side server, which imports torch once and measures one process per request; run.json keeps each at once."""

    def __init__(
        self,
        process: subprocess.Popen[str],
        checkout: Checkout,
        selection: ScenarioSelection,
        folder: Path,
        report_progress: ProgressCallback,
    ) -> None:
        self.label = checkout.label
        self.run: Run | None = None
        self._process, self._code, self._folder = process, checkout.folder.resolve(), folder
        self._report_progress = report_progress
        self._keys: list[str] = []
        scenario = {"scenario": str(selection.scenario), "overrides": selection.overrides, "only": selection.only}
        self._send({**scenario, "folder": str(folder)})

    def get_ready(self) -> None:
        answer = self._receive(self._report_progress)
        if (code := Path(answer["code"]).resolve()) != self._code:
            raise SideError(f"{self.label}: another ttsbench ran in its place, the one in {code.name}")
        self._keys = [str(key) for key in answer["keys"]]
        self._keep(runs.from_json(Run, runs.migrate(answer["run"], self.label), self.label))

    def cells(self) -> Sequence[str]:
        return self._keys

    def processes(self, key: str) -> int | None:
        return None

    def measure(self, key: str, process: int, order: int) -> Cell:
        self._send({"key": key, "process": process, "order": order})
        [row] = runs.migrate(self._receive(), self.label)["cells"]
        cell = runs.from_json(Cell, row, self.label)
        assert self.run is not None
        self._keep(replace(self.run, cells=(*self.run.cells, cell)))
        return cell

    def finish(self) -> None:
        if self.run is not None:
            self._keep(replace(self.run, status="complete", finished_utc=assembly.now_utc()))

    def _keep(self, run: Run) -> None:
        self.run = run
        runs.write_run(self._folder, run)

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died, which its missing answer will say
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _receive(self, report_progress: ProgressCallback = lambda stage: None) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "refused" in answer:
                raise SideError(f"{self.label} cannot run this: {answer['refused']}")
            if "stage" not in answer:
                return answer
            report_progress(f"{self.label}: {answer['stage']}")
        raise SideError(f"{self.label} does not run: {last_line((self._folder / LOG).read_text(errors='replace'))}")


@contextlib.contextmanager
def started(
    checkout: Checkout,
    python: str,
    selection: ScenarioSelection,
    folder: Path,
    workspace: Workspace,
    report_progress: ProgressCallback,
) -> Iterator[ServedSide]:
    """A side that is getting ready; none of its processes is left after the block."""
    module = server_of(checkout)
    folder.mkdir(parents=True)
    with server_process(module, checkout, python, workspace, folder / LOG) as process:
        side = ServedSide(process, checkout, selection, folder, report_progress)
        yield side
        side.finish()


def server_of(checkout: Checkout) -> str:
    """The module that serves a side, by what lies in its checkout."""
    for module in SERVERS:
        if checkout.folder.joinpath(*module.split(".")).with_suffix(".py").is_file():
            return module
    raise SideError(
        f"{checkout.label} is older than the gate and has no side server",
        mend="Measure it with its own `ttsbench run`, then give --base-run RUN",
    )


@contextlib.contextmanager
def server_process(
    module: str, checkout: Checkout, python: str, workspace: Workspace, log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Ends by itself if the block went well, and otherwise as at Ctrl-C.

    In a session of its own, so that Ctrl-C reaches the gate alone; in a folder from which nothing can be imported.
    """
    with log.open("a") as log_file:
        process = subprocess.Popen(
            [python, "-m", module],
            cwd=workspace.folder,
            env=workspace.environment(PYTHONPATH=import_path(checkout, python)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
        close(process.stdin)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    finally:
        end(process)


def import_path(checkout: Checkout, python: str) -> str:
    """The side's own code first, then what this Python was told to look through, without any other ttsbench."""
    names = os.environ.get("PYTHONPATH", "").split(os.pathsep) if python == sys.executable else []
    others = [path for name in names if name and not ((path := Path(name).absolute()) / "ttsbench").is_dir()]
    return os.pathsep.join(map(str, [checkout.folder, *others]))


def end(process: subprocess.Popen[str]) -> None:
    """It is gone when this returns."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
    close(process.stdin)
    close(process.stdout)


def close(pipe: IO[str] | None) -> None:
    with contextlib.suppress(OSError):  # what was not yet sent cannot be, if the other end is gone
        if pipe is not None:
            pipe.close()
