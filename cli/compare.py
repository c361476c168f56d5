"""`ttsbench compare`, and how the verdicts of any comparison are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import Calibration, FailOn, Formats, check_formats, check_reasons
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.reports.tables.verdicts import Report


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN[:STACK]...", help="The baseline, then candidates: runs, or "
                                              "folders of runs. One run alone: its stacks against its baseline.")],
    fail_on: FailOn = [],  # noqa: B006
    allow_mismatch: Annotated[bool, typer.Option("--allow-mismatch", help="Compare all the same, marked so.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write comparison.html, .md and .json.")] = None,
    formats: Formats = [],  # noqa: B006
    calibration: Calibration = None,
) -> ExitCode:  # fmt: skip
    """Decide whether stacks or runs are slower, faster or the same.

    Example: ttsbench compare runs/before runs/after --fail-on slower --output runs/comparison
    """
    from ttsbench.cli.console import print_lines
    from ttsbench.gating import compare as engine
    from ttsbench.records.folders import make_folder
    from ttsbench.reports.formats import registry

    check_reasons(fail_on)
    if output is not None:
        make_folder(output)
    check_formats(formats, registry.COMPARISON, output)
    report = engine.compare(runs, allow_mismatch=allow_mismatch, calibration=calibration)
    show_verdicts(report)
    if output is not None:
        engine.write(report, output, formats, fail_on=fail_on)
        print_lines([f"written to {output}"])
    return engine.exit_code(report, fail_on)


def show_verdicts(report: Report) -> None:
    from ttsbench.cli import console
    from ttsbench.reports.tables import verdicts

    for table in verdicts.tables(report):
        console.show_table(table)
    console.print_lines([f"note: {note}" for note in report.notes])
