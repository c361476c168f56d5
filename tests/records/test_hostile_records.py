"""Records that nobody wrote with care: refused in one clear line, or shown harmlessly; never a traceback."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli import app, show
from ttsbench.errors import ExitCode, RecordError, TtsbenchError
from ttsbench.gating.compare import compare
from ttsbench.records import journal, profiles, runs
from ttsbench.records.profiles import Profile
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import run_documents
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import comparison_page, report_markdown
from ttsbench.reports.tables import verdicts

RESULTS = Path(__file__).parents[2] / "docs" / "results"
NAMES = ("h200-fastest", "h200-chatterbox-cold", "h200-claims-d", "h200-multilingual", "h200-streaming")
SCRIPT = "</script><script>alert(1)</script>"
VALUES: tuple[Any, ...] = (
    None, True, "", SCRIPT, "=1+1", "\x1b[31m", -1, 0, 1, 10**30, 1e308, -1e308, 1e-320, [], {}, [1, "a"],
    {"a": {"b": 1}}, "x" * 5000, "$\\frac", "NaN", 2.5, {"id": []}, [{"metric": []}],
)  # fmt: skip
FREE = {"environment", "scenario_understood", "evidence", "model", "point"}


def paths(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*above, key)
        yield from paths(value, (*above, key))


@pytest.fixture(scope="module")
def real() -> list[dict[str, Any]]:
    """Records of all kinds, cut to their first cells."""
    result = [json.loads((RESULTS / name / "run.json").read_text()) for name in NAMES]
    return [data | {"cells": data["cells"][:7]} for data in result]


@pytest.mark.parametrize("seed", range(40))
def test_whatever_stands_in_a_record_is_refused_or_shown(
    real: list[dict[str, Any]], tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(seed)
    data = copy.deepcopy(draw.choice(real))
    places = list(paths(data))
    free = [place for place in places if FREE & set(place)]
    for _ in range(draw.choice((1, 1, 3))):
        *above, last = draw.choice(free if draw.random() < 0.6 else places)
        target = data
        try:
            for key in above:
                target = target[key]
            target[last] = draw.choice(VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # what was above it has been replaced
    (tmp_path / "run.json").write_text(json.dumps(data))
    try:
        run = runs.read_run(tmp_path)
        documents = dict(run_documents.documents(tmp_path, run))
        show.show(tmp_path, evidence=True)
    except TtsbenchError as error:
        output = str(error)
    else:
        output = ""
    assert "\n" not in output
    assert len(output) < 600
    if output:
        return
    assert all(SCRIPT not in text for name, text in documents.items() if not name.endswith(".csv"))
    assert "\x1b[31m" not in capsys.readouterr().out + documents["report.md"] + documents["report.html"]
    try:
        report = compare([str(tmp_path)], allow_mismatch=True)
    except TtsbenchError:
        return
    assert SCRIPT not in comparison_page.page(report) + verdicts.to_markdown(report)
    json.loads(runs.dump(verdicts.to_data(report)))


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ttsbench", *arguments])
    with pytest.raises(SystemExit) as result:
        app.main()
    return int(result.value.code or 0)


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    ("content", "output"),
    [
        ('{"schema_version": 2', "is not JSON"),
        ('{"schema_version": 999}', "Update ttsbench to read it"),
        ('{"schema_version": -1}', "no schema_version that can be read"),
        ('{"schema_version": 2, "x": NaN}', "is not JSON"),
        ('{"schema_version": 2, "x": -Infinity}', "is not JSON"),
        (deep(100_000), "is not JSON"),
        ('{"schema_version": 2, "environment": ' + deep(180) + "}", "lacks"),
        ('{"schema_version": 2, "' + "x" * 100_000 + '": 1}', "does not know: xxx"),
        ('{"schema_version": 2, "\\u001b[31mred\\r\\n": 1}', r"does not know: \x1b[31mred"),
        ('{"schema_version": 1, "schema_version": 2}', "lacks"),
        ("\ufeff{}", "is not JSON"),
        ("2", "is no record but a int"),
    ],
)
@pytest.mark.parametrize("command", [("show", "."), ("show", ".", "--html", "r.html"), ("compare", ".", ".")])
def test_one_line_says_why_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...], content: str, output: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.json").write_text(content)
    assert ended(monkeypatch, *command) == ExitCode.USAGE
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert output in line
    assert len(line) < 700
    assert (printed.out, "\x1b" in line) == ("", False)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("name", ["run.json", journal.FILE, profiles.FILE])
def test_100_mb_are_refused_unread(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    with file.open("wb") as out:
        out.truncate(100_000_000)
    read = {"run.json": runs.read_run, journal.FILE: journal.read, profiles.FILE: profiles.read}[name]
    began = time.process_time()
    with pytest.raises(RecordError, match=r"(has 100 MB; a record has at most|:1 is longer than the) 67 MB"):
        read(tmp_path)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("walls", [[], [0.0], [None], [-1.0], "x"])
def test_a_profile_without_a_wall_is_refused(
    make_profile: Callable[..., Profile], tmp_path: Path, walls: object
) -> None:
    data = runs.to_json(make_profile())
    data["header"]["unprofiled_wall_seconds"] = walls
    (tmp_path / profiles.FILE).write_text(runs.dump(data))
    with pytest.raises(RecordError, match=r"header\.unprofiled_wall_seconds should"):
        profiles.read(tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(RecordError, match="no file of ours but a pipe"):
        runs.read_run(tmp_path)
    with pytest.raises(RecordError, match="no file of ours but a device"):
        runs.read_run(Path("/dev/zero"))


def test_of_two_values_of_one_name_the_last_counts(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    text = runs.dump(runs.to_json(make_run()))
    (tmp_path / "run.json").write_text('{"scenario": "first", ' + text[1:])
    assert runs.read_run(tmp_path).scenario == "s"


def test_a_spreadsheet_computes_nothing(make_run: Callable[..., Run], make_cell: Callable[..., Cell]) -> None:
    names = ("=cmd|' /C calc'!A1", "+1", "-1", "@sum", "\t=1", "plain", "a=b")
    cells = tuple(make_cell(stack=name, key=name, point={"": name}) for name in names)
    result = list(csv.DictReader(io.StringIO(samples.samples(make_run(cells=cells)))))
    escaped = [*(f"'{name}" for name in names[:4]), "'\\t=1"]
    assert [row["stack"] for row in result[::3]] == [*escaped, "plain", "a=b"]
    assert all(row["point"].startswith("'=") for row in result)
    assert all(row["wall_seconds"] == "0.5" for row in result)


def test_markdown_shows_every_mark_as_it_was_typed(
    make_run: Callable[..., Run], make_cell: Callable[..., Cell]
) -> None:
    name = "a`b*c_d|e[f](g)<h>#i~j$k&amp;l\\m\r\nn\x1b[31m\u202e"
    run = make_run(
        scenario=name, run_id=name, status=name, warnings=(name,), overrides=(name,), environment={name: name},
        cells=(make_cell(stack=name, key=name), make_cell(stack=name, key=name, status=name, reason=name, process=1)),
    )  # fmt: skip
    text = report_markdown.report(run)
    escaped = r"a\`b\*c\_d\|e\[f\](g)\<h\>\#i\~j\$k\&amp;l\\m n\x1b\[31m\u202e"
    assert text.count(escaped) >= 9
    assert not any(mark in text.replace(escaped, "") for mark in ("\x1b", "\u202e", "<h>", "`b", "$k"))
