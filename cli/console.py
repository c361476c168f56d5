"""Everything that is printed. Figures are never broken or cut, and nothing in a text is taken for markup."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ttsbench.cli import table_splitting
from ttsbench.reports.escaping import one_line, printable

if TYPE_CHECKING:
    from ttsbench.reports.tables.table import Table
    from ttsbench.running.progress import ProgressCallback


class OutputConsole(Console):
    """Raises where a pipe is closed; rich would end the program with 1, a regression's code."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704  (rich calls this where it handles the error)


class BestEffortStderr:
    """Standard error for progress: a closed pipe, a full disk or a lost terminal must not end a run."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


OUT = OutputConsole(highlight=False, soft_wrap=False)
ERR = Console(file=cast(IO[str], BestEffortStderr()), highlight=False)


def show_table(table: Table) -> None:
    """With its notes below it, dimmed. Figures are right-aligned; in prose tables the last column wraps."""
    if table.title:
        OUT.print(plain(one_line(table.title)))
    if table.is_prose:
        OUT.print(_prose(table))
    else:
        for part in table_splitting.parts(table, OUT.width):
            lines = table_splitting.lines(part, OUT.width)
            OUT.print(Text("\n").join(Text(line, "bold" if bold else "") for line, bold in lines), soft_wrap=True)
    for note in table.notes:
        OUT.print(plain(one_line(note), "dim"))


def _prose(table: Table) -> RichTable:
    rich = RichTable(pad_edge=False, box=None, padding=(0, 1, 0, 0))
    for column in table.columns:
        rich.add_column(plain(column.name), overflow="fold", no_wrap=column is not table.columns[-1])
    for texts in table.texts:
        rich.add_row(*(plain(one_line(text)) for text in texts))
    return rich


def plain(text: str, style: str = "") -> Text:
    """Neither markup nor a terminal's commands."""
    return Text(printable(text), style)


def print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        OUT.print(plain(one_line(line)), soft_wrap=True)


def print_marked(mark: str, text: str, style: str, *, soft_wrap: bool | None = None) -> None:
    """A line whose beginning stands out."""
    OUT.print(Text.assemble((one_line(mark), style), one_line(text)), soft_wrap=soft_wrap)


def print_note(text: str) -> None:
    print_marked("note: ", text, "yellow", soft_wrap=True)


def print_progress(text: str) -> None:
    """On standard error, beside the result."""
    ERR.print(plain(one_line(text)), soft_wrap=True)


def progress_printer(quiet: bool) -> ProgressCallback:
    return (lambda text: None) if quiet else print_progress
