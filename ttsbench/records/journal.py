"""The run's journal: one JSON line per finished cell, on the disk before the next cell starts."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ttsbench.errors import RecordError, UsageError
from ttsbench.records import runs

FILE = "journal.jsonl"


@dataclass(frozen=True)
class Header:
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


class Journal:
    """Appends, and lets no other process do so; what was written once is never touched again."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        try:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            _claim(self._descriptor, folder)
            _drop_torn_line(self._path)
        except OSError as error:
            raise UsageError(f"the journal {self._path} cannot be written: {error.strerror}") from None

    def append(self, kind: str, record: Any) -> None:
        """One line, whole and on the disk when this returns."""
        line = runs.dump({kind: runs.to_json(record)}) + "\n"
        data = line.encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise UsageError(
                f"the journal {self._path} cannot be written: {error.strerror}",
                mend="The cells before this one are safe; make room and go on with --resume",
            ) from None

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


def _drop_torn_line(path: Path) -> None:
    """A process killed while writing leaves half a line; without this the next one would be glued to it."""
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def read(folder: Path) -> tuple[Header, list[runs.Cell]]:
    """The header and every finished cell; a torn last line, left by a kill, is passed over."""
    path = folder / FILE
    try:
        lines = runs.read_bytes(path).split(b"\n")
    except FileNotFoundError:
        raise RecordError(f"{folder} holds no {FILE}", mend="Name a run folder below runs/") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}") from None
    entries = [_parse(line, path, number) for number, line in enumerate(lines[:-1], start=1) if line]
    if not entries or not isinstance(entries[0].get("header"), dict):
        raise RecordError(f"{path} does not begin with a header", mend="Nothing was finished; start a new run")
    if entries[0]["header"].get("schema_version") != runs.SCHEMA_VERSION:
        raise RecordError(f"{path} was written by another version of ttsbench", mend="Start a new run")
    header = runs.from_json(Header, entries[0]["header"], f"{path}:1")
    cells = [
        runs.from_json(runs.Cell, entry["cell"], f"{path}:{number}")
        for number, entry in enumerate(entries, start=1)
        if "cell" in entry
    ]
    return header, cells


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise RecordError(f"{path}:{number} is not JSON") from None
    if not isinstance(entry, dict):
        raise RecordError(f"{path}:{number} is not an object")
    return entry
