"""One cell in one fresh process: apart from the parent, with a log of its own, and a record whatever happens.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ttsbench.errors import TtsbenchError, UsageError, first_line
from ttsbench.optimizations.stacks import changes_output
from ttsbench.records import files, runs
from ttsbench.records.jobs import COLD, PROFILE, TIMED, Job
from ttsbench.running import fake_engine
from ttsbench.running.cells import forward, load, profile, utterance
from ttsbench.running.cells.common import CellFields
from ttsbench.running.progress import ProgressCallback


def main(connection: Connection, job_json: str, folder: str, asked_at: float) -> None:
    """The process's entry: runs the job, sends its record and nothing else, and never raises."""
    job = runs.from_json(Job, json.loads(job_json))
    no_log = isolate(Path(folder), job.log)
    ladder = {"interpreter": time.time() - asked_at}
    if job.kind == COLD:
        give_compilers_a_cache(Path(folder), job.file_stem)

    def report_progress(stage: str) -> None:
        connection.send(json.dumps({"stage": stage}))

    cell = run(job, Path(folder), report_progress, ladder)
    if no_log:
        cell = replace(cell, warnings=(*cell.warnings, f"its log was not kept: {no_log}"))
    connection.send(files.json_line({"cell": cell}))
    connection.close()


def make_ready(connection: Connection, models: Sequence[tuple[str, str, str, str, int]], folder: str) -> None:
    """The entry of a process before any cell: makes or fetches checkpoints; one that fails fails again in a cell."""
    isolate(Path(folder), "logs/preparation.log")
    from ttsbench.model import checkpoint

    for model in models:
        connection.send(json.dumps({"stage": f"checkpoint {model[0]} {model[1]}"}))
        with suppress(TtsbenchError):
            checkpoint.locate(*model)


def give_compilers_a_cache(folder: Path, stem: str) -> None:
    """Empty at a stack's first cold start and full at its second; set before anything that compiles is imported."""
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ[variable] = str(files.folder_below(folder, f"compiled/{stem}/{name}"))


def isolate(folder: Path, log: str) -> str:
    """A process group of its own that dies with its parent, leaves Ctrl-C to it, and writes to a log.

    Returns why there is no log; the cell can do without.
    """
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        die_with_parent(signal.SIGKILL)
        if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
            os._exit(1)  # it died before the line above
    problem = ""
    try:
        descriptor = files.open_below(folder, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except (OSError, UsageError) as error:
        problem = str(error)
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    return problem


def die_with_parent(number: signal.Signals) -> None:
    """The kernel sends this signal when the process dies that started this one; only Linux knows how."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG


def run(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> runs.Cell:
    """The cell's record, whatever happens: a failure is a row with its reason."""
    started_utc, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    try:
        fields: CellFields = {"status": "ok", **measure(job, folder, report_progress, ladder)}
    except TtsbenchError as error:
        fields = {"status": "failed", "reason": str(error)}
    except MemoryError:
        fields = {"status": "oom", "reason": "the host has no memory left"}
    except Exception as error:  # noqa: BLE001  (whatever a model may raise must become a row)
        with suppress(OSError):  # a full disk takes no log either
            traceback.print_exc()
        fields = failure(error)
    fields["warnings"] = (*job.fell_back, *fields.get("warnings", ()))
    fields |= {"elapsed_seconds": time.perf_counter() - began, "ladder": ladder, "fell_back": job.fell_back}
    return row(job, started_utc=started_utc, **fields)


def row(job: Job, **fields: Any) -> runs.Cell:
    return runs.Cell(
        key=job.key,
        kind=job.kind,
        stack=job.stack,
        slots=job.slots,
        point=job.point,
        process=job.process,
        order=job.order,
        changes_output=changes_output(job.slots),
        start_method=job.start_method,
        **fields,
    )


def failure(error: Exception) -> CellFields:
    """An exception as fields of a row: its class, its first line and where it was raised."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return {"status": "oom", "reason": f"the GPU has no memory left: {first_line(error)}"}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {
        "status": "failed",
        "reason": f"{type(error).__name__}: {first_line(error)} ({Path(frame.filename).name}:{frame.lineno})",
    }


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    under_load = job.load is not None and job.kind == TIMED
    kind: Any = profile if job.kind == PROFILE else forward if job.forward else load if under_load else utterance
    fields: CellFields = (fake_engine if job.fake else kind).measure(job, folder, report_progress, ladder)
    return fields
