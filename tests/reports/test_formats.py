from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttsbench.cli import compare as command
from ttsbench.cli import export
from ttsbench.errors import ExitCode, RecordError, UsageError
from ttsbench.gating.compare import exit_code
from ttsbench.records import runs
from ttsbench.records.runs import Cell
from ttsbench.reports import escaping, metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.decide.pairing import Pairing, pair_up
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.formats import bencher, github, registry
from ttsbench.reports.formats.values import as_csv
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.table import Table
from ttsbench.reports.tables.verdicts import REASONS, CandidateReport, Report

HOSTILE = (
    "<script>alert(1)</script>|`x`",
    "=HYPERLINK(1)",
    "a\x00b\x1b[31mc\ud800",
    "@team see https://example.com #12",
    "line\r\n::error::planted",
    "]]>&amp;\"'--><!-- x",
    "x" * 3000,
    "a\u2028# b\x85| c",
)
Make = Callable[..., CandidateReport]
MakeCells = Callable[..., tuple[Cell, ...]]
Walls = Callable[..., tuple[float, ...]]


@pytest.fixture
def make(make_cells: MakeCells, walls: Walls) -> Make:
    """A candidate that takes so much more than its baseline."""

    def compared(name: str = "lean", factor: float = 1.1, point: str = "", **changes: Any) -> CandidateReport:
        pairing = pair_up(make_cells(walls(factor), name, **changes), make_cells(walls()))
        return CandidateReport(Match(name, "upstream", point, pairing), comparison.judge_recorded(pairing))

    return compared


@pytest.fixture
def report(make: Make) -> Report:
    """One of each kind."""
    crashed = make("crashed", status="crashed", reason="SIGKILL")
    return Report(
        (
            make("slow", 1.1),
            make("fast", 0.8),
            make("same", 1.001),
            make("open", 1.029),
            make("wrong", 0.8, faults=("text 0: no speech",)),
            crashed,
        ),
        ("only in one: old",),
    )


def only(report: Report, name: str) -> Report:
    return dataclasses.replace(report, candidates=tuple(item for item in report.candidates if item.name == name))


def files(report: Report, name: str, fail_on: Sequence[str] = REASONS) -> list[bytes]:
    return list(registry.of_comparison(report, name, fail_on).values())


def text(report: Report, name: str, fail_on: Sequence[str] = REASONS) -> str:
    [data] = files(report, name, fail_on)
    return data.decode()


def unread(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


# The shapes that the formats' own documentation gives.
# Jenkins' junit-10: of each element its attributes, those that must be there, and what may stand in it.
JUNIT: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package",
         "file", "log", "url"},
        {"name", "tests", "failures", "errors"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, {"name", "value"}, set()),
    "testcase": (
        {"name", "time", "classname", "group"},
        {"name"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set(), set()),
    "skipped": ({"type", "message"}, set(), set()),
    "system-out": (set(), set(), set()),
}  # fmt: skip


def check_junit(document: bytes) -> ET.Element:
    root = ET.fromstring(document)
    assert root.tag == "testsuites"
    for element in root.iter():
        allowed, needed, children = JUNIT[element.tag]
        assert needed <= set(element.attrib) <= allowed, element.tag
        assert {child.tag for child in element} <= children, element.tag
        assert children or not len(element)
    for part in (root, *root):
        cases = list(part.iter("testcase"))
        assert int(part.attrib["tests"]) == len(cases)
        assert int(part.attrib["failures"]) == sum(case.find("failure") is not None for case in cases)
    return root


def check_action_benchmark(document: bytes) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(document, parse_constant=unread)
    assert isinstance(entries, list)
    for entry in entries:
        assert {"name", "unit", "value"} <= set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], int | float)
        assert all(isinstance(value, str) for key, value in entry.items() if key != "value")
    assert len({entry["name"] for entry in entries}) == len(entries)
    return entries


def check_bencher(document: bytes) -> dict[str, dict[str, dict[str, float]]]:
    benchmarks: dict[str, dict[str, dict[str, float]]] = json.loads(document, parse_constant=unread)
    for name, measures in benchmarks.items():
        assert 0 < len(name) <= 1024
        for measure, values in measures.items():
            assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", measure)
            assert len(measure) <= 64
            assert {"value"} <= set(values) <= {"value", "lower_value", "upper_value"}
            assert values.get("lower_value", -math.inf) <= values["value"] <= values.get("upper_value", math.inf)
    return benchmarks


def outcomes(root: ET.Element) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for case in root.iter("testcase"):
        [outcome] = case
        result.setdefault(case.attrib["classname"], []).append(outcome.tag)
    return result


def test_junit_has_a_test_per_figure_and_one_for_quality(report: Report) -> None:
    [document] = files(report, "junit")
    root = check_junit(document)
    result = outcomes(root)
    assert {name: set(kinds) for name, kinds in result.items()} == {
        "slow": {"failure"}, "fast": {"system-out"}, "same": {"system-out"}, "open": {"failure"},
        "wrong": {"system-out", "failure"}, "crashed": {"failure"},
    }  # fmt: skip
    [wrong] = [case for case in root.iter("testcase") if case.attrib["name"] == "quality"]
    assert wrong[0].attrib == {"type": "quality", "message": "text 0: no speech"}
    [slow] = [case for case in root.iter("testcase") if case.attrib["classname"] == "slow"]
    assert "RTF 0.500 → 0.550, slower: 10.1% more" in slow[0].attrib["message"]
    assert "crashed: SIGKILL" in document.decode()


def test_junit_skips_what_stays_open_and_is_no_failure(report: Report) -> None:
    [document] = files(report, "junit", ["slower"])
    result = outcomes(check_junit(document))
    assert result["open"] == ["skipped"]
    assert result["crashed"] == ["skipped"]
    assert result["wrong"] == ["system-out", "system-out"]
    assert "the interval crosses a limit" in document.decode()


@pytest.mark.parametrize("fail_on", [[], ["slower"], ["quality"], ["inconclusive"], ["quality", "inconclusive"]])
@pytest.mark.parametrize("name", ["slow", "fast", "same", "open", "wrong", "crashed"])
def test_junit_and_annotations_fail_where_the_exit_code_does(report: Report, name: str, fail_on: list[str]) -> None:
    item = only(report, name)
    code = exit_code(item, fail_on)
    [document] = files(item, "junit", fail_on or REASONS)
    _, commands = files(item, "github", fail_on or REASONS)
    assert (int(check_junit(document).attrib["failures"]) > 0) is (code is not ExitCode.OK)
    assert (b"::error " in commands) is (code is not ExitCode.OK)


def test_a_figure_left_open_beside_a_slower_one_fails_where_only_that_counts(make: Make) -> None:
    item = make("lean", 1.1)
    still_open = Judgement(Verdict.INCONCLUSIVE, 6, 0.03, reason="too wide")
    judgements = {**item.comparison.judgements, "peak_memory_bytes": still_open}
    both = Report((dataclasses.replace(item, comparison=dataclasses.replace(item.comparison, judgements=judgements)),))
    assert exit_code(both, ["inconclusive"]) is ExitCode.INCONCLUSIVE
    assert exit_code(both, []) is ExitCode.SLOWER


def test_csv_and_parquet_hold_the_same(report: Report, tmp_path: Path) -> None:
    [typed] = files(report, "parquet")
    (tmp_path / "x.parquet").write_bytes(typed)
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    lines = list(csv.DictReader(io.StringIO(text(report, "csv"))))
    assert list(frame.columns) == list(lines[0])
    assert len(frame) == len(lines)
    slow = next(line for line in lines if (line["candidate"], line["figure"]) == ("slow", "rtf"))
    assert (slow["verdict"], slow["unit"], slow["pairs"]) == ("slower", "s/s", "6")
    assert float(slow["low"]) < float(slow["ratio"]) < float(slow["high"])
    assert frame.loc[frame.kind == "count", "ratio"].isna().all()
    row = frame[(frame.candidate == "slow") & (frame.figure == "rtf")].iloc[0]
    assert row.ratio == pytest.approx(float(slow["ratio"]))


def test_action_benchmark_and_bencher_hold_the_candidates_values(report: Report) -> None:
    entries = {entry["name"]: entry for entry in check_action_benchmark(files(report, "action-benchmark")[0])}
    assert entries["slow: rtf"]["value"] == pytest.approx(0.5508, abs=1e-3)
    assert "slower" in entries["slow: rtf"]["extra"]
    measures = check_bencher(files(report, "bencher")[0])["slow"]
    assert measures["rtf"]["value"] == entries["slow: rtf"]["value"]
    assert measures["rtf-ratio"]["lower_value"] > 1.03
    assert "crashed" not in check_bencher(files(report, "bencher")[0])


def test_candidates_of_one_name_are_told_apart(make: Make) -> None:
    twice = Report((make("lean", 1.1), make("lean", 0.9), make("y" * 5000), make("y" * 5000)))
    assert verdicts.names(twice)[:2] == ["lean", "lean #2"]
    assert len(check_bencher(files(twice, "bencher")[0])) == 4
    check_action_benchmark(files(twice, "action-benchmark")[0])


def test_a_mismatch_is_marked_in_every_format(report: Report) -> None:
    marked = dataclasses.replace(only(report, "fast"), mismatches=("gpu.name: A against B",))
    for name in registry.COMPARISON:
        data = files(marked, name)[0]
        assert b"gpu.name" in data or b"MISMATCH" in data, name
    assert "(these runs are not comparable)" in files(marked, "github")[0].decode().splitlines()[1]


class Tags(HTMLParser):
    """What a browser would see of raw HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)


def check_comment(comment: str) -> None:
    assert comment.startswith(github.MARKER)
    assert len(comment) < 65_536
    parser = Tags()
    parser.feed(re.sub(r"\\<", "", comment))
    assert set(parser.seen) <= {"details", "summary"}
    assert comment.count("<details>") == comment.count("</details>")
    assert not re.search(r"@\w|://", comment)


def test_a_comment_says_the_verdict_first_and_folds_the_rest(report: Report) -> None:
    comment = files(report, "github")[0].decode()
    check_comment(comment)
    lines = comment.splitlines()
    assert lines[:2] == [github.MARKER, "## ttsbench: slower"]
    assert "- open: **inconclusive**" in lines
    assert any(line.startswith("| slow | RTF | 0.500 |") for line in lines)
    folded = comment.partition("<details>")[2]
    assert "decode took" in folded
    assert "only in one: old" in folded


@pytest.mark.parametrize(("name", "heading"), [("fast", "faster"), ("same", "no change"), ("wrong", "quality failed")])
def test_the_heading_of_a_comment(report: Report, name: str, heading: str) -> None:
    assert f"## ttsbench: {heading}" in files(only(report, name), "github")[0].decode()


def test_a_comment_that_would_be_refused_is_cut(make: Make) -> None:
    item = make("lean", 1.1)
    many = [
        dataclasses.replace(item, match=dataclasses.replace(item.match, candidate=f"stack-{n}")) for n in range(2000)
    ]
    comment, commands = (data.decode() for data in files(Report(tuple(many)), "github"))
    check_comment(comment)
    assert "more lines stand in comparison.md" in comment
    assert comment.rstrip().endswith("</details>")
    assert commands.count("::error ") == github.ANNOTATIONS_MAX
    assert "1991 more; the job summary has them all" in commands


def test_the_gravest_annotation_is_not_among_those_left_out(make: Make) -> None:
    still_open = [make("open", 1.029)] * 20
    commands = files(Report((*still_open, make("slow", 1.1))), "github")[1].decode().splitlines()
    assert commands[0].startswith("::error title=ttsbench%3A slower::slow: ")
    assert len(commands) == github.ANNOTATIONS_MAX


def test_annotations_are_one_line_each_and_escaped(make: Make) -> None:
    [line] = files(Report((make("a%b\n::set-output name=x::y", 1.1),)), "github")[1].decode().splitlines()
    assert line.startswith("::error title=ttsbench%3A slower::a%25b\\n:\\:set-output name=x::y: RTF")


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_typed_breaks_a_file(make: Make, name: str, tmp_path: Path) -> None:
    hostile = Report((make(name, 1.1, point=name, faults=(name,)), make(name, 0.9)), (name,), (name,))
    check_junit(files(hostile, "junit")[0])
    check_action_benchmark(files(hostile, "action-benchmark")[0])
    check_bencher(files(hostile, "bencher")[0])
    comment, commands = (data.decode() for data in files(hostile, "github"))
    check_comment(comment)
    assert all(re.match("::(error|warning) title=[^:,]*::", line) for line in commands.split("\n")[:-1])
    rows_ = [line for line in comment.split("\n") if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows_} <= {8}
    lines = list(csv.reader(io.StringIO(text(hostile, "csv"), newline="")))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert not any(cell.startswith("=") for line in lines for cell in line)
    (tmp_path / "x.parquet").write_bytes(files(hostile, "parquet")[0])
    assert name.replace("\ud800", "?") in set(pandas.read_parquet(tmp_path / "x.parquet").candidate)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_text_is_escaped(make: Make, name: str) -> None:
    item = make("lean", 1.1)
    given_ = dataclasses.replace(item, match=dataclasses.replace(item.match, candidate=name))
    check_junit(files(Report((given_,), (name,)), "junit")[0])
    check_comment(files(Report((given_,), (name,)), "github")[0].decode())


def test_a_spreadsheet_calculates_nothing_of_a_csv() -> None:
    result = as_csv(Table.of("", ("a", "b"), (("=1+1", -1.5), ("+x", "plain"), ("a,b\n", '"'))))
    assert result.decode() == 'a,b\n\'=1+1,-1.5\n\'+x,plain\n"a,b\\n",""""\n'


@pytest.fixture
def run_folder(
    tmp_path: Path, make_cell: Callable[..., Cell], make_cells: MakeCells, keep_run: Callable[..., Path]
) -> Path:
    seconds = (0.5, 0.6, 0.52)
    cells = (*make_cells(seconds, calls=3), *make_cells(seconds, "lean", calls=3, point={"workload.seed": 1}))
    spoiled = make_cell(stack="lean", process=9, status="crashed", reason="x", utterances=())
    return keep_run(tmp_path / "run", (*cells, spoiled))


def test_a_runs_figures_as_files(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.export(run_folder, list(registry.RUN), None)
    assert {file.name for file in run_folder.iterdir()} == {
        "run.json",
        *(file for name in registry.RUN for file in registry.BY_NAME[name].run),
    }
    assert "figures.bencher.json" in capsys.readouterr().out
    measures = check_bencher((run_folder / "figures.bencher.json").read_bytes())["lean (workload.seed=1)"]
    assert measures["rtf"] == {"value": 0.52, "lower_value": 0.5, "upper_value": 0.6}
    entries = check_action_benchmark((run_folder / "figures.action-benchmark.json").read_bytes())
    assert {
        "name": "upstream: rtf",
        "unit": "s/s",
        "value": 0.52,
        "range": "0.5–0.6",
        "extra": "3 processes",
    } in entries
    frame = pandas.read_parquet(run_folder / "figures.parquet")
    assert set(frame.metric) == {"rtf", "decode_seconds_per_token"}
    assert frame.processes.eq(3).all()


def test_every_metric_has_a_slug_of_its_own() -> None:
    assert len({bencher.slug(name) for name in metrics.BY_NAME}) == len(metrics.BY_NAME)


def test_what_cannot_be_written_is_told_before_anything_is_read(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(*formats: str, output: Path | None = None) -> None:
        command.compare(["nowhere"], output=output, formats=list(formats))

    with pytest.raises(UsageError, match="there is no format 'junit5'; did you mean 'junit'"):
        compare("junit5")
    with pytest.raises(UsageError, match=r"no folder for it. Give --output DIR"):
        compare("junit")
    with pytest.raises(UsageError, match=r"no format 'junit'.*allowed: action-benchmark, bencher, csv, parquet"):
        export.export(run_folder, ["junit"], None)
    monkeypatch.setattr("ttsbench.reports.formats.values.can_write_parquet", lambda: False)
    with pytest.raises(UsageError, match=r"pip install 'ttsbench\[parquet\]'"):
        export.export(run_folder, ["parquet"], None)


def test_a_run_without_figures_has_nothing_to_export(run_folder: Path) -> None:
    run = runs.read_run(run_folder)
    runs.write_run(run_folder, dataclasses.replace(run, cells=run.cells[-1:]))
    with pytest.raises(RecordError, match="has no figure to export"):
        export.export(run_folder, ["csv"], None)


def test_compare_writes_the_formats_that_are_asked_for(run_folder: Path, tmp_path: Path) -> None:
    names = [f"{run_folder}:upstream", f"{run_folder}:upstream"]
    out = tmp_path / "out"
    code = command.compare(names, output=out, formats=list(registry.COMPARISON))
    assert code is ExitCode.OK
    assert {file.name for file in out.iterdir()} == {
        file for name in registry.COMPARISON for file in registry.BY_NAME[name].comparison
    }
    assert "## ttsbench: no change" in (out / "comment.md").read_text()
    assert (out / "annotations.txt").read_text() == ""


def test_nothing_to_judge_is_no_crash(make: Make) -> None:
    empty = CandidateReport(Match("lean", "upstream", "", Pairing(())), comparison.judge_recorded(Pairing(())))
    for name in registry.COMPARISON:
        files(Report((empty,)), name)
    assert "::error title=ttsbench%3A inconclusive::lean: " in files(Report((empty,)), "github")[1].decode()


def test_a_name_of_c_plus_plus_is_no_command_of_a_ci_runner() -> None:
    kernel = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>"
    assert escaping.in_cell(kernel) == escaping.printable(kernel) == kernel
    assert escaping.printable("::stop-commands::x") == ":\\:stop-commands::x"
