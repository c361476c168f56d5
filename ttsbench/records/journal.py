"""The run's journal: one JSON line per finished cell, on the disk before the next cell starts."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files, runs

FILE = "journal.jsonl"
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class JournalHeader:
    """The journal's first line: what was to be run, where and on what."""

    schema_version: int
    ttsbench_version: str
    run_id: str
    scenario: str
    baseline: str
    started_utc: str
    environment: dict[str, Any]
    scenario_given: str
    scenario_base: str
    overrides: tuple[str, ...]
    only: tuple[str, ...]
    ablated: str
    scenario_understood: dict[str, Any]
    jobs_sha256: str


class Entries(NamedTuple):
    """What a journal holds; `warnings` names the lines that cannot be read."""

    header: JournalHeader
    cells: list[runs.Cell]
    warnings: tuple[str, ...] = ()


class Journal:
    """Appends, and lets no other process do so; what was written once is never touched again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE
        try:
            self._descriptor = files.open_below(folder, FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            _claim(self._descriptor, folder)
            _drop_torn_line(self._descriptor)
        except OSError as error:
            raise UsageError(f"the journal {self._path} cannot be written: {error.strerror}") from None

    def append(self, kind: str, record: Any) -> None:
        """One line, whole and on the disk when this returns."""
        data = files.json_line({kind: record}) + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise UsageError(
                f"the journal {self._path} cannot be written: {error.strerror}",
                mend="The cells before this one are safe; make room and go on with --resume",
            ) from None
        self._refuse_other_place()

    def _refuse_other_place(self) -> None:
        """The journal is written wherever it is; logs, waves and results go by the folder's name."""
        try:
            if os.path.samestat(os.fstat(self._descriptor), self._path.stat()):
                return
        except OSError:
            pass
        raise UsageError(f"{self._folder} was moved or removed during the run", mend=self._way_on())

    def _way_on(self) -> str:
        try:
            now = Path(f"/proc/self/fd/{self._descriptor}").readlink()
        except OSError:  # not Linux
            return "Go on with: ttsbench run --resume and where it is now"
        return f"Go on with: ttsbench run --resume {now.parent}" if now.exists() else "Start a new run"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _claim(descriptor: int, folder: Path) -> None:
    """One process at a time, as long as it keeps the file open; the lock goes with it, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(f"another process is running {folder}", mend="Wait for it, or stop it") from None
    except OSError:
        return  # a file system without locks


def _drop_torn_line(descriptor: int) -> None:
    """A process killed while writing leaves half a line; without this the next one would be glued to it."""
    end = size = os.fstat(descriptor).st_size
    while end:
        begin = max(0, end - BLOCK_BYTES)
        if (line_end := os.pread(descriptor, end - begin, begin).rfind(b"\n")) >= 0:
            end = begin + line_end + 1
            break
        end = begin
    if end != size:
        os.ftruncate(descriptor, end)


def read(folder: Path) -> Entries:
    """Line by line, so that memory holds the cells alone; a torn last line, left by a kill, is passed over."""
    path = files.locate(folder, FILE, mend="Name a run folder below runs/")
    header: JournalHeader | None = None
    cells: list[runs.Cell] = []
    warnings: list[str] = []
    with files.errors_of(path):
        for number, line in enumerate(files.lines(path), start=1):
            if header is None:
                header = _header(line, path)
                continue
            try:
                entry = files.parse_json(line, f"{FILE}:{number}")
                cells.append(runs.from_json(runs.Cell, entry.get("cell"), f"{FILE}:{number}"))
            except RecordError as error:
                warnings.append(f"a row is lost: {error}")
    if header is None:
        raise RecordError(f"{path} is empty", mend="Nothing was finished; start a new run")
    return Entries(header, cells, tuple(warnings))


def _header(line: bytes, path: Path) -> JournalHeader:
    fields = files.parse_json(line, f"{path}:1").get("header")
    if not isinstance(fields, dict):
        raise RecordError(f"{path} does not begin with a header", mend="Nothing was finished; start a new run")
    if fields.get("schema_version") != runs.SCHEMA_VERSION:
        raise RecordError(f"{path} was written by another version of ttsbench", mend="Start a new run")
    return runs.from_json(JournalHeader, fields, f"{path}:1")
