"""What `export` does, and what commands that take formats ask of them first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ttsbench.cli import console, listing
from ttsbench.cli.campaign import read_run
from ttsbench.cli.kernels import make_folder
from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files
from ttsbench.reports.figures import figures
from ttsbench.reports.formats import registry
from ttsbench.reports.formats.values import can_write_parquet


def check(formats: Sequence[str], allowed: Collection[str], output: Path | None) -> None:
    """Before anything is measured or read."""
    for name in formats:
        listing.require("format", name, tuple(allowed))
    if formats and output is None:
        raise UsageError(f"--format {formats[0]} is a file, and there is no folder for it", mend="Give --output DIR")
    if registry.PARQUET in formats:
        require_parquet()


def require_parquet() -> None:
    """It is an extra."""
    if not can_write_parquet():
        raise UsageError(
            "Parquet needs pyarrow, which is not installed", mend="Install it with: pip install 'ttsbench[parquet]'"
        )


def export(path: Path, formats: Sequence[str], output: Path | None) -> None:
    """A run's figures as files, beside its record if no other folder is given."""
    folder = output or (path if path.is_dir() else path.parent)
    check(formats, registry.RUN, folder)
    run = read_run(path)
    if not figures(run):
        raise RecordError(f"{path} has no figure to export", mend="ttsbench show says what became of its cells")
    make_folder(folder)
    for name in dict.fromkeys(formats):
        for file, data in registry.of_run(run, name).items():
            console.lines([str(files.write_below(folder, file, data))])
