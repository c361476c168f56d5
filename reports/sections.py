"""What a report of a run consists of. A section declared here once is on the console, in report.md and report.html."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ttsbench.records.runs import Run
from ttsbench.reports.pages import ablation_plot, load_plot, run_plots, samples_plot, stream_plot, tradeoff_plot
from ttsbench.reports.pages.svg import Plot
from ttsbench.reports.tables import ablation, claims, forwards, loads, run_tables, streaming
from ttsbench.reports.tables.table import Table, with_rows


def no_tables(_: Run) -> list[Table]:
    return []


def no_plots(_: Run) -> list[Plot]:
    return []


@dataclass(frozen=True)
class Section:
    """A section without rows and plots is left out of the report. Plots are for documents only.

    The console shows a section of details only with `--evidence`, report.md puts it behind what went wrong, and
    report.html folds its tables where there are plots.
    """

    title: str
    tables: Callable[[Run], Iterable[Table]] = no_tables
    plots: Callable[[Run], list[Plot]] = no_plots
    caption: str = ""
    # Shown where there is a plot.
    plot_caption: str = ""
    details: bool = False

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def tables_of(*builders: Callable[[Run], Iterable[Table]]) -> Callable[[Run], Iterable[Table]]:
    return lambda run: (table for build in builders for table in build(run))


SECTIONS: list[Section] = [
    Section(
        "Speed and memory",
        tables_of(run_tables.overview, forwards.overview),
        tradeoff_plot.plots,
        plot_caption=(
            "Lower left is better. No stack below or left of the line beats those on it in both. Crosses mark the "
            "range of the processes."
        ),
    ),
    Section(
        "Streams",
        streaming.listener,
        stream_plot.plots,
        "What a listener meets while the utterance is still being made.",
    ),
    Section(
        "Load",
        loads.overview,
        load_plot.plots,
        "Latency counts from when a request was due, whether or not a worker was free to take it.",
    ),
    Section("Claims", claims.overview, caption="What others say of a stack, beside what was measured here."),
    Section(
        "Ablation",
        ablation.tables,
        ablation_plot.plots,
        "What each slot brings alone, and what the full stack loses without it.",
    ),
    Section(
        "Where the time goes",
        run_tables.stages,
        run_plots.stages,
        plot_caption=(
            "Mean seconds of each stage of an utterance; with the residual they add up to its wall time. The stages "
            "of a stream run side by side and add up to more. The table holds medians."
        ),
        details=True,
    ),
    Section(
        "Every sample",
        run_tables.detail,
        samples_plot.plots,
        plot_caption=(
            "A lane is a process, a dot a call, a line the process's median: the unit that verdicts are about. "
            "Outliers lie beyond Tukey's fences of their stack and text; they are flagged, never dropped."
        ),
        details=True,
    ),
    Section(
        "Time to first audio",
        plots=run_plots.first_audio,
        plot_caption=(
            "When the consumer holds the first sample, the first 80 ms, and the first that can be heard. Without "
            "streaming all come with the last sample."
        ),
        details=True,
    ),
    Section(
        "How streams are made",
        tables_of(streaming.engine, streaming.seams, streaming.voices),
        caption="What each design spends on a stream, and what seams do to the sound.",
        details=True,
    ),
    Section(
        "Cold start",
        run_tables.ladder,
        run_plots.ladder,
        "A bare interpreter, from its start to the end of its first call.",
        details=True,
    ),
    Section("Quality", run_tables.quality, details=True),
    Section("Memory", run_tables.memory, details=True),
]


@dataclass(frozen=True)
class Content:
    """A section of one run."""

    section: Section
    run: Run

    @property
    def caption(self) -> str:
        return " ".join(filter(None, (self.section.caption, self.section.plot_caption if self.plots else "")))

    @cached_property
    def tables(self) -> list[Table]:
        return with_rows(self.section.tables(self.run))

    @cached_property
    def plots(self) -> list[Plot]:
        return self.section.plots(self.run)


def contents(run: Run, *, details: bool = True) -> Iterator[Content]:
    return (Content(section, run) for section in SECTIONS if details or not section.details)
