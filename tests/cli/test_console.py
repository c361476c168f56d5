from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ttsbench.cli import compare as comparing
from ttsbench.cli import run_printing, show, table_splitting
from ttsbench.records import runs
from ttsbench.records.measurements import Energy, Memory, Quality, StageTime
from ttsbench.reports import metrics
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.table import Table

Make = Callable[..., Any]
NAMES = ("upstream", "a-stack-whose-name-goes-on-and-on-" * 3, "統計" * 20, "s" * 64, "lean")


@pytest.fixture
def wide(make_run: Make, make_cell: Make, make_utterance: Make, tmp_path: Path) -> Path:
    """A run with every figure there is, of stacks with names of any length, on a GPU."""
    stages = {stage: StageTime(1.2345 + n, 2.3456 + n) for n, stage in enumerate(metrics.STAGES)}
    cells = [
        make_cell(
            stack=name, key=name, process=process, slots={},
            utterances=(make_utterance(wall_seconds=11.5 + 0.1 * process + number, stages=stages),) * 3,
            memory=Memory(2**36, 2**35, 2**30, 2**36, 2**36 + process, 2**37, 2**37),
            energy=Energy(20_000, 60, 30, 30), changes_output=("it carries no watermark",) * (number == 1),
            quality=(Quality(0, 250, 41, 1e-2, 1e-4, 1e-3, 0.94, 2e-2, 1e-2, 20.0, finite=True, silent=False),),
        )
        for number, name in enumerate(NAMES) for process in range(6)
    ]  # fmt: skip
    cells += [make_cell(kind="cold", stack=NAMES[1], utterances=(),
                        ladder={rung: 123.456 for rung, _ in run_tables.LADDER})]  # fmt: skip
    runs.write_run(tmp_path, make_run(cells=tuple(cells)))
    return tmp_path


def widest(printed: str) -> int:
    return max(cell_len(line.rstrip()) for line in printed.splitlines())


@pytest.mark.parametrize("columns", ["80", "100", ""])
def test_tables_fit_80_columns_whatever_the_names(
    wide: Path, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    else:
        monkeypatch.delenv("COLUMNS", raising=False)
    show.show(wide, evidence=True)
    printed = capsys.readouterr().out
    tables_only = "\n".join(line for line in printed.splitlines() if "(timed " not in line and "(cold " not in line)
    assert widest(tables_only) <= int(columns or 80)
    comparing.compare([str(wide)])
    assert widest(capsys.readouterr().out) <= int(columns or 80)


def test_columns_that_do_not_fit_stand_below_with_their_labels() -> None:
    table = Table.of(
        "t", ("stack", *(f"column {n}" for n in range(12))), (("upstream", *map(str, range(12))),), ("note",)
    )
    parts = table_splitting.parts(table, 80)
    assert len(parts) == 2
    assert [part.header[0] for part in parts] == ["stack", "stack"]
    assert [text for part in parts for text in part.texts[0][1:]] == [str(n) for n in range(12)]
    assert all(len(line) <= 80 for part in parts for line, _ in table_splitting.lines(part, 80))
    assert len(table_splitting.parts(table, 300)) == 1


def test_all_labels_of_a_row_stand_in_every_part() -> None:
    columns = ("stack", "load", *(f"column {n}" for n in range(6)))
    parts = table_splitting.parts(Table.of("t", columns, (("upstream", "64 listening", *"012345"),), labels=2), 60)
    assert [part.header[:2] for part in parts] == [columns[:2]] * 2
    assert [part.texts[0][:2] for part in parts] == [("upstream", "64 listening")] * 2
    assert "".join(text for part in parts for text in part.texts[0][2:]) == "012345"


def test_one_column_stands_even_where_there_is_no_room() -> None:
    parts = table_splitting.parts(Table.of("", ("stack", "a", "b"), (("x", "1" * 29, "2"),)), 20)
    assert [part.header for part in parts] == [("stack", "a"), ("stack", "b")]
    assert parts[0].texts == (("x", "1" * 29),)


def test_no_name_moves_the_cursor(
    make_run: Make, make_cell: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "evil\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x08[red]"
    cells = (make_cell(stack=name, key=name), make_cell(stack="b", key=name, status=name, reason=name),
             make_cell(stack="b", key="b", faults=(name,), warnings=(name,)))  # fmt: skip
    run_printing.show_run(make_run(cells=cells, baseline=name, warnings=(name,)))
    printed = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\x08"} & set(printed)
    assert "[red]" in printed.replace("\n", "")
    assert r"\x1b" in printed
