"""Everything that is written of a run beside its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ttsbench.records.runs import Run
from ttsbench.reports import sections
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import report_markdown, report_page


def documents(folder: Path, run: Run) -> Iterator[tuple[str, str]]:
    """Name below the folder, and text, one after the other as they are made."""
    yield "samples.csv", samples.samples(run)
    contents = list(sections.contents(run))
    for content in contents:
        for plot in content.plots:
            yield plot.file, plot.document
    yield report_markdown.FILE, report_markdown.report(run, contents)
    yield report_page.FILE, report_page.page(run, folder, contents=contents)
