from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files, journal, measurements, runs
from ttsbench.records.journal import Journal, JournalHeader
from ttsbench.records.runs import Cell


def header() -> JournalHeader:
    return JournalHeader(
        schema_version=runs.SCHEMA_VERSION, ttsbench_version="0", run_id="r", scenario="s", baseline="upstream",
        started_utc="", environment={}, scenario_given="", scenario_base="", overrides=(), only=(), ablated="",
        scenario_understood={}, jobs_sha256="0" * 64,
    )  # fmt: skip


def test_what_was_appended_is_read(tmp_path: Path, make_cell: Callable[..., Cell]) -> None:
    book = Journal(tmp_path)
    book.append("header", header())
    book.append("cell", make_cell(process=0))
    book.append("cell", make_cell(process=1))
    assert journal.read(tmp_path) == (header(), [make_cell(process=0), make_cell(process=1)], ())


def test_each_line_is_on_the_disk_before_the_next(
    tmp_path: Path, make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    book = Journal(tmp_path)
    book.append("header", header())
    book.append("cell", make_cell())
    assert len(synced) == 2
    assert synced[-1] == (tmp_path / journal.FILE).stat().st_size


@pytest.mark.parametrize("lost", [1, 10, 200])
def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, make_cell: Callable[..., Cell], lost: int) -> None:
    with Journal(tmp_path) as book:
        book.append("header", header())
        book.append("cell", make_cell(process=0))
        book.append("cell", make_cell(process=1))
    file = tmp_path / journal.FILE
    file.write_bytes(file.read_bytes()[:-lost])
    assert journal.read(tmp_path)[1] == [make_cell(process=0)]
    Journal(tmp_path).append("cell", make_cell(process=2))
    assert journal.read(tmp_path)[1] == [make_cell(process=0), make_cell(process=2)]


def test_two_cannot_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as book:
        book.append("header", header())
        before = (tmp_path / journal.FILE).read_bytes()
        with pytest.raises(UsageError, match="another process is running"):
            Journal(tmp_path)
        assert (tmp_path / journal.FILE).read_bytes() == before
    Journal(tmp_path)


def test_a_full_disk_is_told_with_the_way_on(
    tmp_path: Path, make_cell: Callable[..., Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Journal(tmp_path)
    book.append("header", header())

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UsageError, match=r"No space left on device.*--resume"):
        book.append("cell", make_cell())


@pytest.mark.parametrize("content", [b"", b"\n", b'{"cell": {}}\n', b"nonsense\n", b"[1]\n", b'{"header": {}}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / journal.FILE).write_bytes(content)
    with pytest.raises(RecordError):
        journal.read(tmp_path)


def test_no_journal_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no"):
        journal.read(tmp_path)


def test_a_journal_and_a_record_of_any_size_are_read(
    tmp_path: Path, make_cell: Callable[..., Cell], make_run: Callable[..., runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RECORD_BYTES_MAX", 10_000)
    cells = [make_cell(process=process) for process in range(50)]
    with Journal(tmp_path) as book:
        book.append("header", header())
        for cell in cells:
            book.append("cell", cell)
    runs.write_run(tmp_path, make_run(cells=tuple(cells)))
    for name in (journal.FILE, runs.FILE):
        assert (tmp_path / name).stat().st_size > 5 * files.RECORD_BYTES_MAX
    assert journal.read(tmp_path).cells == cells
    assert list(runs.read_run(tmp_path).cells) == cells


def test_reading_a_journal_takes_little_more_memory_than_its_bytes(
    tmp_path: Path, make_cell: Callable[..., Cell], make_utterance: Callable[..., measurements.Utterance]
) -> None:
    stages = {name: measurements.StageTime(1 / 3, 1 / 7) for name in measurements.STAGES}
    with Journal(tmp_path) as book:
        book.append("header", header())
        for process in range(100):
            utterances = tuple(make_utterance(stages=stages, seed=process, wall_seconds=n / 7) for n in range(30))
            book.append("cell", make_cell(process=process, utterances=utterances))
    tracemalloc.start()
    try:
        kept = journal.read(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(kept.cells) == 100
    assert peak < 2 * (tmp_path / journal.FILE).stat().st_size


def test_a_corrupt_line_is_named_and_the_others_are_read(tmp_path: Path, make_cell: Callable[..., Cell]) -> None:
    with Journal(tmp_path) as book:
        book.append("header", header())
        for process in range(3):
            book.append("cell", make_cell(process=process))
    lines = (tmp_path / journal.FILE).read_bytes().splitlines(keepends=True)
    for corrupt in (b"{\n", b"[]\n", b'{"cell": {"key": 1}}\n', b"\xff\n"):
        (tmp_path / journal.FILE).write_bytes(b"".join([*lines[:2], corrupt, *lines[3:]]))
        entries = journal.read(tmp_path)
        assert [cell.process for cell in entries.cells] == [0, 2]
        [warning] = entries.warnings
        assert warning.startswith("a row is lost: journal.jsonl:3")
