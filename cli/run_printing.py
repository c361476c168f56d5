"""How a run is printed: its tables, where its documents are, and the evidence of its options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttsbench.records.runs import Run


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
