"""Everything that `kernels` writes."""

from __future__ import annotations

from pathlib import Path

from ttsbench.records import files, runs
from ttsbench.records.kernels import KernelRun
from ttsbench.reports.pages import kernels_plot
from ttsbench.reports.tables import kernels


def write(run: KernelRun, folder: Path) -> None:
    """table.md, kernels.csv, kernels.json and, where something was timed, kernels.svg."""
    files.write_below(folder, "table.md", kernels.to_markdown(run))
    files.write_below(folder, "kernels.csv", kernels.to_csv(run))
    files.write_below(folder, "kernels.json", runs.dump(runs.to_json(run), indent=1) + "\n")
    if (plot := kernels_plot.plot(run)) is not None:
        files.write_below(folder, plot.file, plot.document)
