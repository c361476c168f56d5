"""Names and reasons in a record may have been written by anybody: no place that they reach takes them for a command."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from ttsbench.cli import console, run_printing
from ttsbench.cli.compare import show_verdicts
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import escaping
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.formats import registry
from ttsbench.reports.pages import report_markdown, report_page
from ttsbench.reports.tables.table import Table
from ttsbench.reports.tables.verdicts import CandidateReport, Report

HOSTILE = "lean\n::error file=x::forged\r##[set-output name=a]b ::set-output name=c::d\x1b[31m\x9b2J\u202e"
# As a runner reads a log: a command at the beginning of a line, spaces aside, or the older form anywhere.
COMMAND = re.compile(r"^\s*::\w[\w-]*( [^:]*)?::|##\[", re.MULTILINE)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture
def run(make_run: Callable[..., Run], make_cell: Callable[..., Cell]) -> Run:
    """Whatever a record can hold as text, held."""
    cells = [
        make_cell(stack=stack, key=stack, process=n, warnings=(HOSTILE,), faults=(HOSTILE,), point={HOSTILE: HOSTILE})
        for stack in ("upstream", HOSTILE)
        for n in range(5)
    ]
    broken = make_cell(stack="other", key=HOSTILE, status="crashed", reason=HOSTILE, point={HOSTILE: HOSTILE})
    return make_run(cells=(*cells, broken), scenario=HOSTILE, run_id=HOSTILE, warnings=(HOSTILE,))


@pytest.fixture
def report(run: Run) -> Report:
    candidates = (CandidateReport(m, comparison.judge_recorded(m.pairing)) for m in sides.within(run))
    return Report(tuple(candidates), (HOSTILE,), (HOSTILE,), ((HOSTILE,) * 3,), (HOSTILE,))


def assert_harmless(text: str) -> None:
    assert not COMMAND.search(text), COMMAND.search(text)
    assert not CONTROL.search(text)


def test_the_console_obeys_none(run: Run, report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    run_printing.show_run(run, details=True)
    show_verdicts(report)
    console.print_lines([HOSTILE])
    console.print_note(HOSTILE)
    console.show_table(Table.of(HOSTILE, (HOSTILE, "b"), ((HOSTILE, HOSTILE),), (HOSTILE,)))
    out = capsys.readouterr().out
    assert "forged" in out
    assert_harmless(out)
    console.print_progress(HOSTILE)
    assert_harmless(capsys.readouterr().err)


def test_every_annotation_is_one_line_and_ours(report: Report) -> None:
    lines = registry.of_comparison(report, "github", ["slower"])["annotations.txt"].decode().split("\n")
    assert all(re.match(r"::(error|warning) title=ttsbench%3A [\w ]+::", line) for line in lines[:-1])
    assert lines[-1] == ""
    assert_harmless("\n".join(line.partition("::")[2].partition("::")[2] for line in lines))


def test_a_csv_has_a_line_for_each_row(run: Run, report: Report) -> None:
    for data in (registry.of_comparison(report, "csv", [])["comparison.csv"], *registry.of_run(run, "csv").values()):
        assert_harmless(data.decode())
        assert len(data.decode().splitlines()) == len(list(csv.reader(io.StringIO(data.decode()))))


def test_junit_is_read_and_holds_no_command(report: Report) -> None:
    root = ET.fromstring(registry.of_comparison(report, "junit", [])["comparison.junit.xml"])
    for element in root.iter():
        for text in (*element.attrib.values(), element.text or ""):
            assert_harmless(text)


def test_documents_and_pages_hold_no_control_character(run: Run, report: Report, tmp_path: Path) -> None:
    markdown = registry.of_comparison(report, "markdown", [])["comparison.md"].decode()
    assert_harmless(markdown)
    assert_harmless(report_markdown.report(run))
    page = registry.of_comparison(report, "html", [])["comparison.html"].decode()
    for text in (page, report_page.page(run, tmp_path)):
        assert not CONTROL.search(text)


@pytest.mark.parametrize("text", ["aten::mm", "void at::native::cat<4>(float const*)", "50 % ±", "## Title", "C#"])
def test_what_is_no_command_stays_as_it_is(text: str) -> None:
    assert escaping.printable(text) == text
