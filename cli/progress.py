"""How far a run has got: a live line where someone watches, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from ttsbench.cli.console import ERR, print_progress
from ttsbench.records.jobs import PROFILE
from ttsbench.reports import metrics
from ttsbench.reports.escaping import one_line
from ttsbench.reports.tables import loads
from ttsbench.running.progress import Observer, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ttsbench.records.jobs import Job
    from ttsbench.records.runs import Cell
    from ttsbench.running.run import Observe


def observers(quiet: bool) -> Observe:
    """Makes the observer of a run, once it is known how many seconds that will take."""

    @contextmanager
    def observe(estimated_seconds: float) -> Iterator[Observer]:
        if quiet:
            yield Observer()
        elif ERR.is_terminal:
            with Live(console=ERR, refresh_per_second=4, transient=True) as live:
                yield LiveObserver(live, estimated_seconds)
        else:
            yield LineObserver(estimated_seconds)

    return observe


class LineObserver(Observer):
    """One line per cell, for logs."""

    def __init__(self, estimated_seconds: float) -> None:
        self._time = TimeEstimate(estimated_seconds)
        self._number, self._total = 0, 0

    def preparing(self, stage: str) -> None:
        print_progress(f"preparing: {stage}")

    def cell_started(self, job: Job, number: int, total: int) -> None:
        self._number, self._total = number, total
        self._time.cell_started(number)

    def cell_finished(self, cell: Cell) -> None:
        self._time.cell_finished(self._number, self._total)
        times = f"{cell.elapsed_seconds:.1f} s (about {duration(self._time.left)} left)"
        print_progress(f"[{self._number}/{self._total}] {describe(cell)}, {times}")


class LiveObserver(Observer):
    """One line that changes: cell, stage, elapsed time, estimate; it leaves a line behind for each cell."""

    def __init__(self, live: Live, estimated_seconds: float) -> None:
        self._live, self._time = live, TimeEstimate(estimated_seconds)
        self._number, self._total, self._stage, self._job = 0, 0, "starting", ""

    def preparing(self, stage: str) -> None:
        self._job, self._stage = "preparing", stage
        self._live.update(self, refresh=True)

    def cell_started(self, job: Job, number: int, total: int) -> None:
        self._number, self._total = number, total
        self._time.cell_started(number)
        self._job, self._stage = f"{job.key} {job.kind} {job.process + 1}", "starting"
        self._live.update(self, refresh=True)

    def stage(self, job: Job, stage: str) -> None:
        self._stage = stage

    def cell_finished(self, cell: Cell) -> None:
        self._time.cell_finished(self._number, self._total)
        mark = Text("✓ ", style="green") if cell.ok else Text("✗ ", style="red")
        text = one_line(describe(cell))
        self._live.console.print(Text.assemble(mark, text, (f"  {cell.elapsed_seconds:.1f} s", "dim")))

    def __rich__(self) -> Text:
        return Text.assemble(
            (f"[{self._number}/{self._total}] ", "bold"),
            one_line(f"{self._job}: {self._stage}  "),
            (f"{duration(self._time.elapsed)} elapsed, about {duration(self._time.left)} left", "dim"),
        )


class TimeEstimate:
    """How long the rest will take: the plan's estimate at first, then by the cells that are finished."""

    def __init__(self, estimated_seconds: float) -> None:
        self._began = time.monotonic()
        self._preparation_seconds = 0.0
        self._total_seconds = estimated_seconds

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        return max(0.0, self._total_seconds - self.elapsed)

    def cell_started(self, number: int) -> None:
        if number == 1:
            self._preparation_seconds = self.elapsed

    def cell_finished(self, number: int, total: int) -> None:
        cell_seconds = (self.elapsed - self._preparation_seconds) / number
        self._total_seconds = self._preparation_seconds + cell_seconds * total


def describe(cell: Cell) -> str:
    return f"{cell.key} {cell.kind} {cell.process + 1}: {outcome(cell)}"


def outcome(cell: Cell) -> str:
    if not cell.ok:
        return f"{cell.status}: {cell.reason}"
    if cell.kind == PROFILE:
        return "profiled"
    if cell.kind == "cold":
        return f"first call {cell.ladder['first_call']:.2f} s, steady {cell.ladder['steady']:.2f} s"
    if cell.forwards:
        return f"{metrics.FORWARD.text(metrics.FORWARD.read(cell))} ms"
    if cell.load is not None:
        return loads.outcome(cell.load)
    return f"RTF {metrics.RTF.text(metrics.RTF.read(cell))}"
