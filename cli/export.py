"""`ttsbench export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttsbench.cli.arguments import RunFolder, check_formats
from ttsbench.errors import ExitCode, RecordError


def export(
    run: RunFolder,
    formats: Annotated[list[str], typer.Option("--format", metavar="NAME", help="csv, parquet, action-benchmark or "
                                               "bencher. Repeatable.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's own folder if left out.")] = None,
) -> ExitCode:  # fmt: skip
    """Write a run's figures for other tools, one per stack and metric.

    Example: ttsbench export runs/quickstart-20261120T180000Z --format csv --format bencher
    """
    from ttsbench.cli.console import print_lines
    from ttsbench.records import files
    from ttsbench.records.assembly import read_run
    from ttsbench.records.folders import make_folder
    from ttsbench.reports.figures import figures
    from ttsbench.reports.formats import registry

    folder = output or (run if run.is_dir() else run.parent)
    check_formats(formats, registry.RUN, folder)
    record = read_run(run)
    if not figures(record):
        raise RecordError(f"{run} has no figure to export", mend="ttsbench show lists what its cells measured")
    make_folder(folder)
    for name in dict.fromkeys(formats):
        for file, data in registry.of_run(record, name).items():
            print_lines([str(files.write_below(folder, file, data))])
    return ExitCode.OK
