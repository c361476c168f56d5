"""Everything that draws on a terminal. A progress display where someone watches, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, JustifyMethod
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from ttsbench.cli import fitting
from ttsbench.records.jobs import PROFILE
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.escaping import printable
from ttsbench.reports.tables import ablation, claims, forwards, loads, run_tables, streaming
from ttsbench.reports.tables.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ttsbench.records.jobs import Job
    from ttsbench.running.runner import Observer


class Out(Console):
    """Standard output. Rich would end the program with 1, a regression's code, where a pipe is closed."""

    def on_broken_pipe(self) -> None:
        """For `main` to handle."""
        raise  # noqa: PLE0704  (rich calls this where it handles the error)


class Unfailing:
    """Standard error as progress is told on it: a closed pipe, a full disk or a lost terminal must not end a run."""

    def write(self, text: str) -> int:
        """As far as it goes."""
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as it goes."""
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


OUT = Out(highlight=False, soft_wrap=False)
ERR = Console(file=cast(IO[str], Unfailing()), highlight=False)


def show_run(run: Run) -> None:
    """The run's tables as they stand in 80 columns, then what did not run and what to know."""
    for build in (run_tables.overview, streaming.listener, forwards.overview, loads.overview, claims.overview):
        for table in build(run):
            show_table(table)
    if (found := ablation.ablation(run)) is not None:
        show_table(ablation.table(found))
    for where, status, reason in run_tables.failures(run):
        OUT.print(Text.assemble((printable(f"{status}: "), "bold red"), printable(f"{where}: {reason}")))
    for fault in run_tables.faults(run):
        OUT.print(Text.assemble(("quality failed: ", "bold red"), printable(fault)))
    for warning in run_tables.warnings(run):
        note(warning)


def note(text: str) -> None:
    """What a reader should know."""
    OUT.print(Text.assemble(("note: ", "yellow"), printable(text)), soft_wrap=True)


def show_table(table: Table) -> None:
    """One table, its notes below it, dimmed. Figures are never broken or cut and stand right; words are what wraps."""
    if table.title:
        OUT.print(words(table.title))
    for part in [table] if table.is_prose else fitting.fitted(table, OUT.width):
        console = OUT if table.is_prose else Out(highlight=False, width=max(OUT.width, fitting.width_needed(part)))
        console.print(_drawn(part))
    for note in table.notes:
        OUT.print(words(note, "dim"))


def _drawn(table: Table) -> RichTable:
    rich = RichTable(pad_edge=False, box=None, padding=(0, 1, 0, 0))
    wrapping = len(table.columns) - 1 if table.is_prose else 0
    for number, column in enumerate(table.columns):
        side: JustifyMethod = "left" if column.is_text else "right"
        rich.add_column(words(column.name), justify=side, overflow="fold", no_wrap=number != wrapping)
    for texts, emphasized in zip(table.texts, (*map(table.emphasized, table.rows), False), strict=False):
        rich.add_row(*map(words, texts), style="bold" if emphasized else None)
    return rich


def words(text: str, style: str = "") -> Text:
    """Text that is neither markup nor a terminal's command."""
    return Text(printable(text), style)


@contextmanager
def progress(*, quiet: bool, estimated_seconds: float) -> Iterator[Observer]:
    """Who tells the user how far the run is."""
    if quiet:
        yield Silent()
    elif ERR.is_terminal:
        with Live(console=ERR, refresh_per_second=4, transient=True) as live:
            yield Watched(live, estimated_seconds)
    else:
        yield Lines(estimated_seconds)


class Silent:
    """--quiet."""

    def preparing(self, stage: str) -> None:
        """Nothing."""

    def cell_started(self, job: Job, number: int, total: int) -> None:
        """Nothing."""

    def stage(self, job: Job, stage: str) -> None:
        """Nothing."""

    def cell_finished(self, cell: Cell) -> None:
        """Nothing."""


class Lines(Silent):
    """One line per cell, for logs."""

    def __init__(self, estimated_seconds: float) -> None:
        self._pace = Pace(estimated_seconds)
        self._number, self._total = 0, 0

    def preparing(self, stage: str) -> None:
        """What the first cell waits for."""
        ERR.print(words(f"preparing: {stage}"), soft_wrap=True)

    def cell_started(self, job: Job, number: int, total: int) -> None:
        """Remembers where the run is."""
        self._number, self._total = number, total
        self._pace.started(number)

    def cell_finished(self, cell: Cell) -> None:
        """What became of it, and how long the rest will take."""
        self._pace.finished(self._number, self._total)
        what = f"{cell.kind} {cell.process + 1}"
        left = duration(self._pace.left)
        told = f"{cell.key} {what}: {outcome(cell)}, {cell.elapsed_seconds:.1f} s (about {left} left)"
        ERR.print(words(f"[{self._number}/{self._total}] {told}"), soft_wrap=True)


class Watched(Silent):
    """A live line: cell, stage, elapsed, estimate."""

    def __init__(self, live: Live, estimated_seconds: float) -> None:
        self._live, self._pace = live, Pace(estimated_seconds)
        self._number, self._total, self._stage, self._job = 0, 0, "starting", ""

    def preparing(self, stage: str) -> None:
        """What the first cell waits for."""
        self._job, self._stage = "preparing", stage
        self._live.update(self, refresh=True)

    def cell_started(self, job: Job, number: int, total: int) -> None:
        """A new cell."""
        self._number, self._total = number, total
        self._pace.started(number)
        self._job, self._stage = f"{job.key} {job.kind} {job.process + 1}", "starting"
        self._live.update(self, refresh=True)

    def stage(self, job: Job, stage: str) -> None:
        """A new stage of it."""
        self._stage = stage

    def cell_finished(self, cell: Cell) -> None:
        """Leaves a line behind."""
        self._pace.finished(self._number, self._total)
        mark = Text("✓ ", style="green") if cell.ok else Text("✗ ", style="red")
        what = printable(f"{cell.key} {cell.kind} {cell.process + 1}: {outcome(cell)}")
        self._live.console.print(Text.assemble(mark, what, (f"  {cell.elapsed_seconds:.1f} s", "dim")))

    def __rich__(self) -> Text:
        return Text.assemble(
            (f"[{self._number}/{self._total}] ", "bold"),
            printable(f"{self._job}: {self._stage}  "),
            (f"{duration(self._pace.elapsed)} elapsed, about {duration(self._pace.left)} left", "dim"),
        )


class Pace:
    """How long the rest will take: the plan's estimate at first, the run's own pace as soon as there is one."""

    def __init__(self, estimated_seconds: float) -> None:
        self._began = time.monotonic()
        self._prepared_seconds = 0.0
        self._total_seconds = estimated_seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float:
        """Seconds to go, never negative."""
        return max(0.0, self._total_seconds - self.elapsed)

    def started(self, number: int) -> None:
        """What was before the first cell says nothing about the others."""
        if number == 1:
            self._prepared_seconds = self.elapsed

    def finished(self, number: int, total: int) -> None:
        """Learns from each finished cell."""
        of_cells = self.elapsed - self._prepared_seconds
        self._total_seconds = self._prepared_seconds + of_cells * total / number


def outcome(cell: Cell) -> str:
    """One cell in a few words."""
    if not cell.ok:
        return f"{cell.status}: {cell.reason}"
    if cell.kind == PROFILE:
        return "profiled"
    if cell.kind == "cold":
        return f"first call {cell.ladder['first_call']:.2f} s, steady {cell.ladder['steady']:.2f} s"
    if cell.forwards:
        return f"{metrics.FORWARD.text(metrics.FORWARD.of(cell))} ms"
    if cell.load is not None:
        return loads.outcome(cell.load)
    rtf = metrics.RTF.of(cell)
    return f"RTF {metrics.RTF.text(rtf)}"


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def progress_line(text: str) -> None:
    """One plain line beside the result, for who waits."""
    ERR.print(words(text), soft_wrap=True)


def lines(texts: Sequence[str]) -> None:
    """Plain lines, nothing in them taken for markup."""
    for text in texts:
        OUT.print(words(text), soft_wrap=True)
