"""`ttsbench history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttsbench.errors import ExitCode

ROWS_MAX = 500


def history(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="A folder of runs.")] = Path("runs"),
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="For history.md, its plots and the store; the "
                                                "folder itself if left out.")] = None,
) -> ExitCode:  # fmt: skip
    """Draw figures over many runs, and find where one stepped.

    Advisory: it ends with 0 whatever it finds.

    Example: ttsbench history runs --output trends
    """
    from ttsbench.cli import console
    from ttsbench.reports import history as trends
    from ttsbench.reports import history_folder
    from ttsbench.reports.pages import history_page

    updated = history_folder.update(folder, output or folder)
    for table in history_page.tables(updated.series, ROWS_MAX):
        console.show_table(table)
    steps = trends.steps(updated.series)
    for step in steps:
        console.print_lines([str(step), *([f"  {step.bisect}"] if step.bisect else [])])
    drifts = trends.drifts(updated.series)
    console.print_lines(drifts if steps else ["no steps", *drifts])
    for note in updated.notes:
        console.print_note(note)
    runs = len({entry.run for series in updated.series for entry in series.entries})
    console.print_progress(f"{runs} runs, {updated.new_runs} of them new")
    console.print_lines([f"written to {updated.page}"])
    return ExitCode.OK
