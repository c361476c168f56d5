"""`ttsbench kernels`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import Quiet, require
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.records.kernels import KernelTiming


def kernels(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Only these; all when none is given.")] = [],  # noqa: B006
    dtypes: Annotated[list[str], typer.Option("--dtype", metavar="DTYPE", help="fp32, fp16 or bf16; repeatable. All "
                                              "when none is given.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write table.md, CSV, JSON and a plot.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="bf16 unless --dtype is given, two shapes each, fewer "
                                        "repeats.")] = False,
    quiet: Quiet = False,
) -> ExitCode:  # fmt: skip
    """Check our Triton kernels, and time them against others.

    Right means close to float64; the others are eager, compiled and Liger kernels.

    Example: ttsbench kernels rms_norm gate_up --quick --output runs/kernels
    """
    import os

    from ttsbench.cli import console
    from ttsbench.optimizations.kernels import catalog
    from ttsbench.records.folders import make_folder
    from ttsbench.records.kernels import DTYPES
    from ttsbench.reports import kernel_documents
    from ttsbench.reports.tables import kernels as report
    from ttsbench.running import host, runner

    known = catalog.case_names()
    for name in names:
        require("kernel", name, known)
    for name in dtypes:
        require("dtype", name, DTYPES)
    if output is not None:
        make_folder(output)
    interpreted = bool(host.machine().cuda_problem)
    if interpreted:
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is imported
    with runner.at_work():
        from ttsbench.running import kernel_bench

        chosen = [name for name in known if name in names or not names]
        chosen_dtypes = tuple(dtypes) or (("bf16",) if quick and not interpreted else DTYPES)
        report_row = (lambda row: None) if quiet else print_row
        measured = kernel_bench.run(chosen, dtypes=chosen_dtypes, quick=quick, report_row=report_row)
        for table in report.tables(measured):
            console.show_table(table)
        console.print_lines(list(measured.notes))
        if output is not None:
            kernel_documents.write(measured, output)
            console.print_lines([f"written to {output}"])
        return measured.exit_code


def print_row(row: KernelTiming) -> None:
    from ttsbench.cli.console import print_progress

    microseconds = row.median("graph") or row.median("eager")
    result = row.reason or (f"{microseconds:.2f} µs" if microseconds else "right")
    print_progress(f"{row.kernel} {row.shape} {row.dtype} {row.contender}: {result}")
