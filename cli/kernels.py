"""What `kernels` does, from the names to the printed tables and the files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ttsbench.cli import console, listing
from ttsbench.errors import ExitCode, UsageError
from ttsbench.optimizations.kernels import catalog
from ttsbench.records import files, runs
from ttsbench.records.kernels import DTYPES, OURS, KernelRun, Row
from ttsbench.reports.tables import kernels as report
from ttsbench.running import host, runner


@runner.at_work()
def compare(
    names: Sequence[str], dtypes: Sequence[str], *, output: Path | None, quick: bool, quiet: bool
) -> ExitCode:  # fmt: skip
    """Checks and times the kernels of these names, or all; what was measured before a signal is shown and kept."""
    known = catalog.case_names()
    for name in names:
        listing.require("kernel", name, known)
    for name in dtypes:
        listing.require("dtype", name, DTYPES)
    if output is not None:
        make_folder(output)
    interpreted = bool(host.machine().cuda_problem)
    if interpreted:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
    from ttsbench.running import kernel_bench

    chosen = [name for name in known if name in names or not names]
    in_these = tuple(dtypes) or (("bf16",) if quick and not interpreted else DTYPES)
    found = kernel_bench.run(
        chosen, dtypes=in_these, quick=quick, report_row=(lambda row: None) if quiet else report_row
    )
    for table in report.tables(found):
        console.show_table(table)
    console.lines(list(found.notes))
    if output is not None:
        write(found, output)
    return verdict(found) if found.complete else ExitCode.INTERRUPTED


def report_row(row: Row) -> None:
    graph = row.median("graph") or row.median("eager")
    result = row.reason or (f"{graph:.2f} µs" if graph else "right")
    console.progress_line(f"{row.kernel} {row.shape} {row.dtype} {row.contender}: {result}")


def verdict(run: KernelRun) -> ExitCode:
    """Only our kernels decide: each must run and be right."""
    states = {row.status for row in run.rows if row.contender == OURS}
    if "wrong" in states:
        return ExitCode.QUALITY
    return ExitCode.CELL_FAILED if "failed" in states else ExitCode.OK


def make_folder(folder: Path) -> None:
    """Before anything is measured, so that a wrong path costs nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}", mend="Give --output another folder") from None


def write(run: KernelRun, folder: Path) -> None:
    """table.md, kernels.csv, kernels.json and, where something was timed, kernels.svg."""
    files.write_below(folder, "table.md", report.to_markdown(run))
    files.write_below(folder, "kernels.csv", report.to_csv(run))
    files.write_below(folder, "kernels.json", runs.dump(runs.to_json(run), indent=1) + "\n")
    if (plot := report.plot(run)) is not None:
        files.write_below(folder, "kernels.svg", plot)
    console.lines([f"written to {folder}"])
