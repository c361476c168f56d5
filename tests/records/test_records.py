from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.errors import RecordError
from ttsbench.records import runs
from ttsbench.records.runs import Cell, Run

CELL = {
    "key": "k", "kind": "timed", "stack": "s", "slots": {}, "point": {}, "process": 0, "order": 0, "status": "ok"
}  # fmt: skip

NEXT = runs.SCHEMA_VERSION + 1


def test_a_run_comes_back_as_it_was_written(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run()
    runs.write_run(tmp_path, run)
    assert runs.read_run(tmp_path) == run
    assert runs.read_run(tmp_path / "run.json") == run


def test_no_file_is_left_beside_the_record(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    runs.write_run(tmp_path, make_run())
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_numbers_that_json_lacks_become_null(make_cell: Callable[..., Cell]) -> None:
    cell = make_cell(ladder={"load": math.nan, "import": math.inf})
    assert json.loads(runs.dump(runs.to_json(cell)))["ladder"] == {"load": None, "import": None}


@pytest.mark.parametrize(
    ("change", "output"),
    [
        ({"schema_version": 99}, "reads up to"),
        ({"schema_version": "1"}, "no schema_version"),
        ({"schema_version": None}, "no schema_version"),
        ({"surprise": 1}, "does not know: surprise"),
        ({"cells": "many"}, "cells should be a list"),
        ({"cells": [{}]}, "cells[0] lacks"),
        ({"cells": [CELL | {"elapsed_seconds": 10**400}]}, "cells[0].elapsed_seconds should be a number, not 1000"),
        ({"cells": [CELL | {"elapsed_seconds": True}]}, "cells[0].elapsed_seconds should be a number, not True"),
        ({"scenario": 7}, "scenario should be a str"),
    ],
)
def test_a_hostile_record_is_refused_in_words(
    tmp_path: Path, make_run: Callable[..., Run], change: dict[str, Any], output: str
) -> None:
    data = runs.to_json(make_run()) | change
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(RecordError) as caught:
        runs.read_run(tmp_path)
    assert output in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a":' * 100_000])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RecordError):
        runs.read_run(tmp_path)


def test_a_truncated_record_is_refused(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    file = runs.write_run(tmp_path, make_run())
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RecordError, match="is not JSON"):
        runs.read_run(tmp_path)


def test_a_folder_without_a_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"holds no run\.json"):
        runs.read_run(tmp_path)


def test_a_record_of_the_first_version_is_read() -> None:
    """Written before cells knew of quality."""
    run = runs.read_run(Path(__file__).parents[1] / "data" / "v1")
    assert run.schema_version == runs.SCHEMA_VERSION
    assert all(cell.quality == () for cell in run.cells)


@pytest.mark.parametrize("cells", [5, True, "x", [5], [{"utterances": 7}], [{"utterances": [7]}]])
def test_an_old_record_that_is_broken_is_refused_in_words(
    tmp_path: Path, make_run: Callable[..., Run], cells: Any
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(runs.to_json(make_run()) | {"schema_version": 4, "cells": cells}))
    with pytest.raises(RecordError):
        runs.read_run(tmp_path)


@pytest.mark.parametrize(
    ("version", "paces"),
    [(4, {"pace_us": 7.2}), (5, {"pace_ns": 1056.0}), (6, {"pace_ns": 1056.0, "pace_before_ns": 880.0})],
)
def test_paces_of_another_chain_are_dropped(
    tmp_path: Path, make_run: Callable[..., Run], version: int, paces: dict[str, float]
) -> None:
    old = runs.to_json(make_run()) | {"schema_version": version}
    for utterance in (u for cell in old["cells"] for u in cell["utterances"]):
        del utterance["pace_ns"], utterance["pace_before_ns"]
        utterance.update(paces)
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert not [u.paces_ns for cell in runs.read_run(tmp_path).cells for u in cell.utterances if u.paces_ns]


def test_an_older_version_is_migrated(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(data: dict[str, Any]) -> dict[str, Any]:
        return {**{k: v for k, v in data.items() if k != "title"}, "scenario": data["title"], "schema_version": NEXT}

    old = runs.to_json(make_run())
    old["title"] = old.pop("scenario")
    (tmp_path / "run.json").write_text(json.dumps(old))
    monkeypatch.setattr(runs, "SCHEMA_VERSION", NEXT)
    monkeypatch.setitem(runs.MIGRATIONS, NEXT - 1, rename)
    assert runs.read_run(tmp_path).scenario == "s"


def test_a_failed_write_leaves_the_old_record(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write_run(tmp_path, make_run())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        runs.write_run(tmp_path, make_run(scenario="new"))
    assert runs.read_run(tmp_path).scenario == "s"
    assert len(list(tmp_path.iterdir())) == 1


def test_records_cannot_be_changed(make_cell: Callable[..., Cell]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_cell().status = "failed"  # type: ignore[misc]
