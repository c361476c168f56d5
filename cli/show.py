"""`ttsbench show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import RunFolder
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ttsbench.records.runs import Cell


def show(
    run: RunFolder,
    evidence: Annotated[bool, typer.Option("--evidence", help="What each option can show for itself.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write its page there instead.")] = None,
) -> ExitCode:
    """Print a run from its record, or write its report.html again.

    Example: ttsbench show runs/quickstart-20261120T180000Z --evidence
    """
    from ttsbench.cli.console import print_lines
    from ttsbench.cli.run_printing import show_evidence, show_run
    from ttsbench.records import journal
    from ttsbench.records.assembly import read_run

    record = read_run(run)
    folder = run if run.is_dir() else run.parent
    if html is not None:
        from ttsbench.running.run import write_page

        write_page(folder, record, html)
        print_lines([str(html)])
        return ExitCode.OK
    profiled = [cell for cell in record.cells if cell.profile]
    if profiled:
        show_profiles(profiled)
    if profiled and len(profiled) == len(record.cells):
        return ExitCode.OK
    show_run(record, details=evidence)
    if record.status != "complete" and (folder / journal.FILE).exists():
        print_lines([f"{record.status}; go on with: ttsbench run --resume {folder}"])
    if evidence:
        show_evidence(record)
    return ExitCode.OK


def show_profiles(cells: Sequence[Cell]) -> None:
    from ttsbench.cli.profile_printing import show_profile
    from ttsbench.records import profiles

    for cell in cells:
        show_profile(profiles.of_cell(cell))
