"""A section declared outside of the package is on the console, in report.md and in report.html."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli.run_printing import show_run
from ttsbench.records.runs import Run
from ttsbench.reports import run_documents, sections
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import Plot
from ttsbench.reports.sections import Section
from ttsbench.reports.tables.table import Column, Table


def processes(run: Run) -> list[Table]:
    columns = (Column("stack", lambda cell: cell.stack), Column("took", lambda cell: cell.elapsed_seconds, "ms"))
    return [Table("Processes", columns, run.cells)]


def dots(run: Run) -> list[Plot]:
    return [Plot("dots.svg", "A dot per process", svg.drawing(20, "dots", svg.circle(9, 9, 3, hint="a process")))]


DURATIONS = Section("How long it took", processes, dots, "Every process counts.")


@pytest.mark.parametrize("details", [False, True])
def test_a_declared_section_is_everywhere(
    make_run: Callable[..., Run],
    make_cell: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    details: bool,
) -> None:
    section = Section(DURATIONS.title, DURATIONS.tables, DURATIONS.plots, DURATIONS.caption, details=details)
    monkeypatch.setattr(sections, "SECTIONS", [*sections.SECTIONS, section])
    run = make_run(cells=(make_cell(elapsed_seconds=1.5),))

    show_run(run)
    assert ("1,500.00" in capsys.readouterr().out) != details
    show_run(run, details=True)
    assert "1,500.00" in capsys.readouterr().out

    documents = dict(run_documents.documents(tmp_path, run))
    assert "## How long it took\n\nEvery process counts." in documents["report.md"]
    assert "![A dot per process](dots.svg)" in documents["report.md"]
    assert "| upstream | 1,500.00 |" in documents["report.md"]
    assert '<section id="how-long-it-took">' in documents["report.html"]
    assert '<a href="#how-long-it-took">' in documents["report.html"]
    assert 'data-v="1.5"' in documents["report.html"]
    assert "<title>a process</title>" in documents["report.html"]
    assert documents["dots.svg"].startswith("<svg")


def test_a_section_that_a_run_has_nothing_for_is_left_out(make_run: Callable[..., Run], tmp_path: Path) -> None:
    documents = dict(run_documents.documents(tmp_path, make_run()))
    assert "## Load" not in documents["report.md"]
    assert '<section id="load">' not in documents["report.html"]
