"""How a command ends that cannot go on: in a line of words, and without a word where nobody listens any more."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

import typer

from ttsbench.errors import ExitCode


def tell(problem: object, code: ExitCode) -> ExitCode:
    """One line for people, where there is anyone to read it."""
    from ttsbench.reports.escaping import printable

    with suppress(OSError):
        typer.echo(printable(f"ttsbench: {problem}"), err=True)
    return code


def foreseen_by_nobody(error: Exception) -> str:
    """Such an error in a line; its traceback before it where TTSBENCH_DEBUG asks for one."""
    if os.environ.get("TTSBENCH_DEBUG"):
        with suppress(OSError):
            traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the output'}: {error.strerror}"
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"internal error: {type(error).__name__}: {first_line} (TTSBENCH_DEBUG=1 shows where)"


def drop_what_nobody_takes() -> None:
    """Output that cannot be written goes nowhere; kept, it would make the interpreter end with a code of its own."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
