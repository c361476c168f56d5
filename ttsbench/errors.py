"""What a user can do wrong: what was given, what is allowed, how to mend it; and the exit codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """What the shell sees. Only `SLOWER` means a regression, so that a broken job is never read as one."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code

    OK = 0, "fine"
    SLOWER = 1, "slower"
    USAGE = 2, "wrong usage or scenario"
    INCONCLUSIVE = 3, "inconclusive"
    NOT_COMPARABLE = 4, "not comparable"
    QUALITY = 5, "quality failed"
    CELL_FAILED = 6, "a cell or a side failed to run"
    INTERNAL = 70, "internal error or unwritable output"
    INTERRUPTED = 130, "interrupted"
    PIPE_CLOSED = 141, "the reader of the output left"


class TtsbenchError(Exception):
    """Printed as a sentence, without a traceback."""

    exit_code = ExitCode.USAGE

    def __init__(self, problem: str, *, mend: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.problem}. {self.mend}".rstrip(". ") + "." if self.mend else self.problem


class UsageError(TtsbenchError):
    """A wrong argument, option or file."""


class CheckpointError(TtsbenchError):
    """A checkpoint that is not there, lacks a file, or cannot be read."""


class RecordError(TtsbenchError):
    """A run folder or record that cannot be read."""


class NoRecordError(RecordError):
    """There is none; the journal may hold its cells."""


class NotComparableError(TtsbenchError):
    """Two things that must agree do not."""

    exit_code = ExitCode.NOT_COMPARABLE


class CellError(TtsbenchError):
    """Why one cell could not run; the others go on."""

    exit_code = ExitCode.CELL_FAILED


class SideError(TtsbenchError):
    """Why one side of a gate is not to be had: its commit, its environment, or the processes that should measure it."""

    exit_code = ExitCode.CELL_FAILED


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing wrong in a scenario, at its line (0 when it comes from the command line)."""

    line: int
    where: str
    problem: str

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.where}: {self.problem}" if self.where else f"{place}{self.problem}"


class ScenarioError(TtsbenchError):
    """All the mistakes of one scenario."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(f"{source}: {mistake}" for mistake in self.mistakes))


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Says what is allowed, and which of it was probably meant."""
    names = sorted(allowed)
    nearest = get_close_matches(name, names, n=1, cutoff=0.6)
    listing = f"allowed: {', '.join(names)}" if names else "nothing is allowed here"
    return f"did you mean '{nearest[0]}'? ({listing})" if nearest else listing
