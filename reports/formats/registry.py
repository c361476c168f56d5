"""Every format by its name: what it writes of a comparison and, where that makes sense, of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from ttsbench.records import runs
from ttsbench.records.runs import Run
from ttsbench.reports import figures
from ttsbench.reports.figures import Figure
from ttsbench.reports.formats import action_benchmark, bencher, github, junit, table
from ttsbench.reports.formats.values import as_csv, as_parquet
from ttsbench.reports.pages import comparison_page
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import Report

PARQUET = "parquet"
# Of a comparison, written whenever anything is.
ALWAYS = ("html", "markdown", "json")


class Format(NamedTuple):
    """Where a comparison goes, and how: of the reasons given, each that holds is a failure."""

    file: str
    of: Callable[[Report, Collection[str]], str | bytes]


COMPARISON: Mapping[str, tuple[Format, ...]] = {
    "html": (Format(comparison_page.FILE, lambda report, _: comparison_page.page(report)),),
    "markdown": (Format("comparison.md", lambda report, _: verdicts.to_markdown(report)),),
    "json": (Format("comparison.json", lambda report, _: _json(verdicts.to_data(report))),),
    "csv": (Format("comparison.csv", lambda report, _: as_csv(table.rows(report))),),
    PARQUET: (Format("comparison.parquet", lambda report, _: as_parquet(table.rows(report))),),
    "junit": (Format("comparison.junit.xml", junit.document),),
    "github": (Format("comment.md", lambda report, _: github.comment(report)),
               Format("annotations.txt", github.commands)),
    "action-benchmark": (
        Format("comparison.action-benchmark.json", lambda report, _: _json(action_benchmark.of_comparison(report))),),
    "bencher": (Format("comparison.bencher.json", lambda report, _: _json(bencher.of_comparison(report))),),
}  # fmt: skip

RUN: Mapping[str, tuple[str, Callable[[list[Figure]], str | bytes]]] = {
    "csv": ("figures.csv", lambda rows: as_csv(figures.rows(rows))),
    PARQUET: ("figures.parquet", lambda rows: as_parquet(figures.rows(rows))),
    "action-benchmark": ("figures.action-benchmark.json", lambda rows: _json(action_benchmark.of_figures(rows))),
    "bencher": ("figures.bencher.json", lambda rows: _json(bencher.of_figures(rows))),
}


def of_comparison(report: Report, name: str, fail_on: Collection[str]) -> dict[str, bytes]:
    return {output.file: _bytes(output.of(report, fail_on)) for output in COMPARISON[name]}


def of_run(run: Run, name: str) -> dict[str, bytes]:
    file, of = RUN[name]
    return {file: _bytes(of(figures.figures(run)))}


def _json(data: object) -> str:
    return runs.dump(data, indent=1) + "\n"


def _bytes(content: str | bytes) -> bytes:
    """A lone surrogate, which JSON can smuggle in, is no text."""
    return content if isinstance(content, bytes) else content.encode(errors="replace")
