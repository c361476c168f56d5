"""The console script: whatever happens, a command ends with its documented code and one line of words.

Everything is imported within `main`, so that this holds while a command is still importing.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

INTERRUPTED = 130  # `ExitCode.INTERRUPTED`, which may not have been imported yet


def main() -> None:
    try:
        code = run_command()
    except KeyboardInterrupt:
        print_error("interrupted")
        code = INTERRUPTED
    ignore_closed_stdout()
    sys.exit(code)


def run_command() -> str | int | None:
    """What the process is to end with."""
    from ttsbench.errors import ExitCode, TtsbenchError

    try:
        from ttsbench.cli.address_space import check_before_numpy
        from ttsbench.cli.commands import app

        check_before_numpy()
        app()
    except SystemExit as end:
        return code_of(end)
    except TtsbenchError as error:
        print_error(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001  (an error that nobody expected must not end with 1)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            print_error(f"{str(error.filename)[:80]}… is too long for a path")
            return ExitCode.USAGE
        report_internal_error(error)
        return ExitCode.INTERNAL
    return ExitCode.OK


def code_of(end: SystemExit) -> str | int | None:
    """typer ends with 1, which means slower, where a pipe is closed or what a process should have sent is missing."""
    from ttsbench.errors import ExitCode

    if isinstance(end.__context__, BrokenPipeError):
        return ExitCode.PIPE_CLOSED
    cause = end.__context__.__cause__ if end.__context__ else None
    if isinstance(cause, EOFError):
        print_error("internal error: a process ended in the middle of its answer")
        return ExitCode.INTERNAL
    if isinstance(cause, KeyboardInterrupt):
        print_error("interrupted")
    return end.code


def print_error(problem: object) -> None:
    with suppress(OSError):
        from ttsbench.reports.escaping import printable

        sys.stderr.write(printable(f"ttsbench: {problem}") + "\n")


def report_internal_error(error: Exception) -> None:
    """In a line; with its traceback if TTSBENCH_DEBUG is set."""
    from ttsbench.errors import first_line

    if os.environ.get("TTSBENCH_DEBUG"):
        import traceback

        with suppress(OSError):
            traceback.print_exception(error)
    if isinstance(error, OSError) and error.strerror:
        print_error(f"{error.filename or 'the output'}: {error.strerror}")
        return
    print_error(f"internal error: {type(error).__name__}: {first_line(error)} (TTSBENCH_DEBUG=1 shows where)")


def ignore_closed_stdout() -> None:
    """What is still buffered and cannot be written would make the interpreter end with a code of its own."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
