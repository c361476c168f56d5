"""Runs jobs one after the other, each in a fresh process, and writes down each cell before the next one starts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ttsbench.errors import UsageError
from ttsbench.records import assembly, files, runs
from ttsbench.records.jobs import Job
from ttsbench.records.journal import Journal
from ttsbench.running import worker
from ttsbench.running.progress import Observer, ProgressCallback

FORKSERVER, BARE = "forkserver", "bare"
# The environment of every process that measures. See ttsbench.running.preload for the first; the second lets CUDA
# number GPUs as NVML does, so that the guard watches the one that works.
WORKER_ENVIRONMENT = {
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "TOKENIZERS_PARALLELISM": "false",
}
POLL_SECONDS = 0.5
EXIT_SECONDS = 10.0
LOG_TAIL_BYTES = 64 * 1024


class Interrupted(Exception):
    """Ctrl-C or a termination signal; everything finished so far is in the journal."""


def execute(jobs: Sequence[Job], folder: Path, journal: Journal, observer: Observer) -> None:
    """Every job in turn; a cell that fails is a row, and the next one runs. Raises `Interrupted` after writing down.

    To be called within `at_work`.
    """
    prepare(jobs, folder, observer.preparing)
    for number, job in enumerate(jobs, start=1):
        try:
            observer.cell_started(job, number, len(jobs))
            cell = run_job(job, folder, lambda stage, job=job: observer.stage(job, stage))  # type: ignore[misc]
            journal.append("cell", cell)
            observer.cell_finished(cell)
        except KeyboardInterrupt:
            journal.append("cell", failed_cell(job, "interrupted", "stopped by the user"))
            raise Interrupted from None


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """From the plan to the report: the workers' environment, and that every signal ends it as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    os.environ.update(WORKER_ENVIRONMENT)
    ends = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in ends}  # nohup ignores SIGHUP, and so do we then
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def prepare(jobs: Sequence[Job], folder: Path, report_progress: ProgressCallback) -> None:
    """What the first cell would pay for otherwise: the fork server's imports, and checkpoints that are not there."""
    models = list(dict.fromkeys(job.checkpoint for job in jobs if job.fake is None))
    if not models:
        return
    forks = any(job.start_method == FORKSERVER for job in jobs)
    report_progress("importing torch and chatterbox" if forks else "starting")
    with (
        contextlib.suppress(EOFError, ConnectionError),
        process(FORKSERVER if forks else BARE, worker.make_ready, models, str(folder)) as (_, receiver),
    ):
        while True:
            report_progress(json.loads(receiver.recv())["stage"])


def run_job(job: Job, folder: Path, report_progress: ProgressCallback) -> runs.Cell:
    """One job in one process, from start to its record."""
    job_json, began = runs.dump(runs.to_json(job)), time.monotonic()
    try:
        with process(job.start_method, worker.main, job_json, str(folder), time.time()) as (started, receiver):
            cell = listen(receiver, job, began + job.timeout_seconds, report_progress)
            started.join(EXIT_SECONDS)
            if cell is None:
                cell = failed_cell(job, "crashed", death(started.exitcode, folder, job))
    except TimeoutError:
        cell = failed_cell(job, "timeout", f"not done after {job.timeout_seconds:g} s (measure.timeout_seconds)")
    except (EOFError, ConnectionError):
        cell = failed_cell(job, "crashed", "the fork server ended before the process began; memory may have run out")
    return with_elapsed(cell, time.monotonic() - began)


@contextlib.contextmanager
def process(start_method: str, entry: Callable[..., None], *arguments: Any) -> Iterator[tuple[Any, Connection]]:
    """A process and the end of a pipe that it writes to; it is gone when the block ends."""
    context = start_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    started = context.Process(target=entry, args=(sender, *arguments))
    try:
        # Stopped in the middle of it, the process would run without our knowing of it. The one exception takes long.
        waits_for_imports = start_method == FORKSERVER and entry is worker.make_ready
        with contextlib.nullcontext() if waits_for_imports else interrupts_held_back():
            started.start()
        sender.close()
        yield started, receiver
    finally:
        end(started)
        receiver.close()


def start_context(start_method: str) -> Any:
    """A fork server that has imported torch and chatterbox, or a bare interpreter that has imported nothing."""
    if start_method == BARE:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ttsbench.running.preload"])
    with interrupts_held_back():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Ctrl-C is held back until the block ends, so it cannot kill a process that is just starting, with a traceback.

    A terminal sends it to every process of the group. The block must be short: not all of the fork server's imports.
    """
    resource_tracker.ensure_running()  # it would start within, and lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen(receiver: Connection, job: Job, deadline: float, report_progress: ProgressCallback) -> runs.Cell | None:
    """The cell that the process sends, or None if it died without one; raises `TimeoutError` at the deadline."""
    while True:
        if time.monotonic() > deadline:
            raise TimeoutError
        if not receiver.poll(POLL_SECONDS):
            continue
        try:
            message = json.loads(receiver.recv())
        except (EOFError, ConnectionResetError):
            return None
        if "cell" in message:
            return runs.from_json(runs.Cell, message["cell"])
        report_progress(message["stage"])


def end(process: Any) -> None:
    """The process and whatever it started are gone when this returns."""
    if process.pid is None:  # stopped before there was one
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()  # in the moment before it has made its own group
    process.join(EXIT_SECONDS)


def death(exitcode: int | None, folder: Path, job: Job) -> str:
    """Why a process ended without a word."""
    last_words = log_tail(folder, job.log)
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{hint}{last_words}"
    return f"the process ended with exit code {exitcode}{last_words}"


def log_tail(folder: Path, log: str) -> str:
    """The last line that a process wrote, for the reason of its row."""
    try:
        with open(files.open_below(folder, log, os.O_RDONLY), "rb") as file:  # noqa: PTH123  (a descriptor)
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except (OSError, UsageError):
        return ""
    return f"; its last words: {lines[-1].strip()[:200]}" if lines else ""


def failed_cell(job: Job, status: str, reason: str) -> runs.Cell:
    """The row of a job that brought no record of its own."""
    return worker.row(job, status=status, reason=reason, started_utc=assembly.now_utc())


def with_elapsed(cell: runs.Cell, seconds: float) -> runs.Cell:
    return dataclasses.replace(cell, elapsed_seconds=seconds)


def new_folder(parent: Path, name: str) -> Path:
    """`<parent>/<scenario>-<UTC>`, made now; a second run in the same second gets a number."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        folder = parent / f"{name}-{stamp}{suffix}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            if not parent.is_dir():
                raise UsageError(
                    f"{parent} is a file, not a folder for runs", mend="Name another with --output"
                ) from None
            continue
        except OSError as error:
            raise UsageError(
                f"the run folder {folder} cannot be made: {error.strerror}", mend="Name another with --output"
            ) from None
        return folder
    raise UsageError(f"{parent} holds too many runs of this second")
