"""What a run leaves behind: immutable, raw, versioned JSON. Statistics are derived on reading, never stored."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttsbench.errors import RecordError
from ttsbench.records import files
from ttsbench.records.from_json import from_json as from_json
from ttsbench.records.measurements import (
    Audio,
    Energy,
    ForwardQuality,
    Guard,
    LoadResult,
    Memory,
    Quality,
    Seams,
    TimedForward,
    Utterance,
    VoicePreparation,
)

SCHEMA_VERSION = 8
# How the stacks of an ablation are called: with these slots alone, and without those.
ONLY, WITHOUT = "only-", "without-"
FILE = "run.json"
# Of run.json: what stands before the cells, each of which is a line, and after them.
CELLS, END = b' "cells": [\n', b"]}\n"

Json = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One stack at one point of the matrix in one process: the unit that later decisions pair."""

    key: str
    kind: str
    stack: str
    slots: dict[str, str]
    point: dict[str, Any]
    process: int
    order: int
    status: str
    reason: str = ""
    changes_output: tuple[str, ...] = ()
    start_method: str = ""
    started_utc: str = ""
    elapsed_seconds: float = 0.0
    ladder: dict[str, float] = field(default_factory=dict)
    warmup_seconds: tuple[float, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    forwards: tuple[TimedForward, ...] = ()
    load: LoadResult | None = None
    streams: bool = False
    memory: Memory | None = None
    energy: Energy | None = None
    guard: Guard | None = None
    audio: tuple[Audio, ...] = ()
    quality: tuple[Quality, ...] = ()
    seams: tuple[Seams, ...] = ()
    voice: VoicePreparation | None = None
    forward_quality: ForwardQuality | None = None
    faults: tuple[str, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    # What could not run here and was replaced: this row is not what was asked for.
    fell_back: tuple[str, ...] = ()
    # Of kind "profile": a `profiles.Profile` as plain data.
    profile: dict[str, Any] = field(default_factory=dict)

    @property
    def job_id(self) -> str:
        return f"{self.key}#{self.kind}{self.process}"

    @property
    def ok(self) -> bool:
        """Whether its figures may be used."""
        return self.status == "ok"

    @property
    def done(self) -> bool:
        """Whether there is nothing left to try: it ran, or it cannot run here."""
        return self.status in ("ok", "skipped")


@dataclass(frozen=True)
class Run:
    """Everything that one `ttsbench run` measured."""

    schema_version: int
    ttsbench_version: str
    run_id: str
    scenario: str
    baseline: str
    started_utc: str
    finished_utc: str
    status: str
    environment: dict[str, Any]
    scenario_given: str
    overrides: tuple[str, ...]
    scenario_understood: dict[str, Any]
    cells: tuple[Cell, ...]
    warnings: tuple[str, ...] = ()
    # The stack whose slots were taken apart, if any was.
    ablated: str = ""


def to_json(record: Any) -> Json:
    return dataclasses.asdict(record)


def _with_whole_references(data: Json) -> Json:
    """Before references could be clipped none was: such work is the same as that which says so."""
    understood = data.get("scenario_understood")
    workload = understood.get("workload") if isinstance(understood, dict) else None
    if not isinstance(understood, dict) or not isinstance(workload, dict):
        return data
    workload = {"streaming": None, "clip_voice": False, **workload}
    return {**data, "scenario_understood": {**understood, "workload": workload}}


def _with_present_keys(data: Json) -> Json:
    """Two keys of a workload got other names; the same work has to look the same."""
    scenario = data.get("scenario_understood")
    workload = scenario.get("workload") if isinstance(scenario, dict) else None
    for section, old, new in (("load", "again", "next_request"), ("streaming", "first_alone", "pause_for_first_chunk")):
        keys = workload.get(section) if isinstance(workload, dict) else None
        if isinstance(keys, dict) and old in keys:
            keys[new] = keys.pop(old)
    return data


def _without_paces(data: Json) -> Json:
    """They were another chain's, whose pace depended on where it came to lie in memory."""
    for cell in _objects(data.get("cells")):
        for utterance in _objects(cell.get("utterances")):
            for name in ("pace_us", "pace_ns", "pace_before_ns"):
                utterance.pop(name, None)
    return data


def _objects(data: Any) -> list[Json]:
    """What is no object is refused when it is read."""
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


# From the version a file was written in to the next; each takes and returns plain data.
MIGRATIONS: dict[int, Callable[[Json], Json]] = {
    1: lambda data: {
        **data,
        "schema_version": 2,
    },  # cells gained fields that may be missing
    2: lambda data: _with_whole_references({**data, "schema_version": 3}),  # and utterances may have a stream
    3: lambda data: {**data, "schema_version": 4},  # cells may have a load
    4: lambda data: {**data, "schema_version": 5},  # utterances may have a pace
    5: lambda data: {**data, "schema_version": 6},  # also one before them
    6: lambda data: _without_paces({**data, "schema_version": 7}),
    7: lambda data: _with_present_keys({**data, "schema_version": 8}),
}


def refuse_newer(data: Json, where: str) -> None:
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordError(
            f"{where} was written in schema version {version}; this ttsbench reads up to {SCHEMA_VERSION}",
            mend="Update ttsbench to read it",
        )


def migrate(data: Json, where: str) -> Json:
    """Brings a record of any version ever written to the present one."""
    version = data.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecordError(f"{where} has no schema_version that can be read: {version!r:.40}")
    refuse_newer(data, where)
    for step in range(version, SCHEMA_VERSION):
        data = MIGRATIONS[step](data)
    return data


def read_run(path: Path) -> Run:
    """The record of a run folder, or of its run.json, however many cells it holds."""
    file = files.locate(path, FILE, mend="Name a folder below runs/, or its run.json")
    with files.errors_of(file):
        lines = files.lines(file)
        head = _head(lines)
        first = next(lines, b"")
        if not first.startswith((b"{", b"]")):  # others wrote it, or we did before a cell was a line
            return from_json(Run, migrate(files.read_json(file), str(file)), str(file))
        fields = files.parse_json(head + b' "cells": []}', str(file))
        run = from_json(Run, migrate(fields, str(file)), str(file))
        cells = tuple(_cells(itertools.chain([first], lines), fields["schema_version"], str(file)))
    return dataclasses.replace(run, cells=cells)


def _head(lines: Iterator[bytes]) -> bytes:
    head = b""
    for line in lines:
        if line == CELLS or len(head) > files.RECORD_BYTES_MAX:
            break
        head += line
    return head


def _cells(lines: Iterable[bytes], version: int, where: str) -> Iterator[Cell]:
    for number, line in enumerate(lines):
        if line == END:
            return
        place = f"{where}: cells[{number}]"
        fields = {"schema_version": version, "cells": [files.parse_json(line.rstrip(b",\n"), place)]}
        yield from_json(Cell, migrate(fields, where)["cells"][0], place)
    raise RecordError(f"{where} is not JSON: it is cut off")


def write_run(folder: Path, run: Run) -> Path:
    return files.write_below(folder, FILE, _lines(run))


def _lines(run: Run) -> Iterator[bytes]:
    """A line for each cell, so that neither writing nor reading holds them all as text."""
    head = dump(to_json(dataclasses.replace(run, cells=())), indent=1)
    yield head.replace(' "cells": [],\n', "").removesuffix("\n}").encode() + b",\n" + CELLS
    for number, cell in enumerate(run.cells, start=1):
        yield files.json_line(cell) + (b",\n" if number < len(run.cells) else b"\n")
    yield END


def dump(data: Any, *, indent: int | None = None) -> str:
    """JSON that every reader accepts: NaN and infinities become null."""
    return json.dumps(_without_nan(data), ensure_ascii=False, allow_nan=False, indent=indent)


def _without_nan(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(k): _without_nan(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(v) for v in data]
    return data
