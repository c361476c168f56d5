"""The console script: whatever happens, a command ends with its documented code and one line of words.

Everything is imported within `main`, so that this holds while a command is still importing.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from ttsbench.errors import ExitCode, TtsbenchError, first_line


def main() -> None:
    try:
        from ttsbench.cli.commands import app

        app()
    except SystemExit as end:
        # typer ends so where a pipe is closed; 1 would be read as a regression.
        code = ExitCode.PIPE_CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code
    except TtsbenchError as error:
        print_error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  (an error that nobody expected must not end with 1)
        report_internal_error(error)
        code = ExitCode.INTERNAL
    ignore_closed_stdout()
    sys.exit(code)


def print_error(problem: object) -> None:
    from ttsbench.reports.escaping import printable

    with suppress(OSError):
        sys.stderr.write(printable(f"ttsbench: {problem}") + "\n")


def report_internal_error(error: Exception) -> None:
    """In a line; with its traceback if TTSBENCH_DEBUG is set."""
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
