"""`ttsbench show`, and the tables of a run that is over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import RunFolder
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.records.runs import Run


def show(
    run: RunFolder,
    evidence: Annotated[bool, typer.Option("--evidence", help="What each option can show for itself.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write its page there instead.")] = None,
) -> ExitCode:
    """Print a run from its record, or write its report.html again.

    Example: ttsbench show runs/quickstart-20261120T180000Z --evidence
    """
    from ttsbench.cli.console import print_lines
    from ttsbench.cli.profile_printing import show_profile
    from ttsbench.records import journal, profiles
    from ttsbench.records.assembly import read_run

    record = read_run(run)
    folder = run if run.is_dir() else run.parent
    if html is not None:
        from ttsbench.running.run import write_page

        write_page(folder, record, html)
        print_lines([str(html)])
        return ExitCode.OK
    for cell in record.cells:
        if cell.profile:
            show_profile(profiles.of_cell(cell))
    if profiles.are_all(record):
        return ExitCode.OK
    show_run(record, details=evidence)
    if record.status != "complete" and (folder / journal.FILE).exists():
        print_lines([f"{record.status}; go on with: ttsbench run --resume {folder}"])
    if evidence:
        show_evidence(record)
    return ExitCode.OK


def show_run(run: Run, *, details: bool = False) -> None:
    """The run's tables, then what did not run and what to know."""
    from ttsbench.cli import console
    from ttsbench.reports import sections
    from ttsbench.reports.tables import run_tables

    for content in sections.contents(run, details=details):
        for table in content.tables:
            console.show_table(table)
    for where, status, reason in run_tables.failures(run):
        console.print_marked(f"{status}: ", f"{where}: {reason}", "bold red")
    for fault in run_tables.faults(run):
        console.print_marked("quality failed: ", fault, "bold red")
    for warning in run_tables.warnings(run):
        console.print_note(warning)


def show_finished(folder: Path, run: Run) -> None:
    from ttsbench.cli.console import print_lines
    from ttsbench.reports.pages import report_page

    show_run(run)
    print_lines([f"{folder}/{report_page.FILE}", f"{folder}/report.md"])
    if run.status == "interrupted":
        print_lines([f"stopped; go on with: ttsbench run --resume {folder}"])


def show_evidence(run: Run) -> None:
    from ttsbench.cli import console
    from ttsbench.records import runs

    console.print_lines(
        [f"{cell.key} ({cell.kind} {cell.process + 1}): {runs.dump(cell.evidence)}" for cell in run.cells]
    )
