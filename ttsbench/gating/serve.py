"""`python -m ttsbench.gating.serve`: one side of a gate, which measures with the code that it is part of.

The gate may be of another version: both talk in lines of JSON. The first says what to measure, each further one asks
for one process. The server ends with its input, or when the gate dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ttsbench
from ttsbench.errors import ExitCode, TtsbenchError
from ttsbench.records import assembly, runs
from ttsbench.records.jobs import REFERENCE, TIMED, Job
from ttsbench.records.journal import Entries
from ttsbench.running import host, plan, run, runner, worker
from ttsbench.running.plan import Plan
from ttsbench.scenarios import schema
from ttsbench.scenarios.models import QUALITY

Message = dict[str, Any]


def main() -> None:
    """Whatever is printed meanwhile goes to standard error."""
    worker.die_with_parent(signal.SIGTERM)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Message) -> None:
        answers.write(runs.dump(message) + "\n")
        answers.flush()

    try:
        with runner.at_work():
            messages = (json.loads(line) for line in sys.stdin)
            serve(next(messages), messages, send)
    except TtsbenchError as error:
        send({"refused": str(error)})
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def serve(selection: Message, requests: Iterator[Message], send: Callable[[Message], None]) -> None:
    path, folder = Path(selection["scenario"]), Path(selection["folder"])
    overrides, only = selection["overrides"], selection["only"]
    scenario = schema.load(path, overrides)
    planned = plan.make(scenario, host.machine(), only)
    header = run.header_of(scenario, path, planned, overrides=overrides, only=only)

    def report_progress(stage: str) -> None:
        send({"stage": stage})

    runner.prepare(planned.jobs, folder, report_progress)
    references = [runner.run_job(job, folder, report_progress) for job in planned.jobs if job.kind == REFERENCE]
    record = assembly.assemble(
        Entries(replace(header, run_id=folder.name), [*planned.refused, *references]), "unfinished"
    )
    jobs = first_processes(planned)
    send({"keys": list(jobs), "run": runs.to_json(record), "code": str(Path(ttsbench.__file__).parents[1])})
    for request in requests:
        job = numbered(jobs[request["key"]], request["process"], request["order"])
        cell = runner.run_job(job, folder, report_progress)
        send({"schema_version": runs.SCHEMA_VERSION, "cells": [runs.to_json(cell)]})


def first_processes(planned: Plan) -> dict[str, Job]:
    """The first timed job of each cell."""
    return {job.key: job for job in planned.jobs if job.kind == TIMED and job.process == 0}


def numbered(first: Job, process: int, order: int) -> Job:
    """The job of any other process of the cell; quality has no noise, so it is measured once, and audio kept once."""
    passes = tuple(name for name in first.passes if name != QUALITY or process == 0)
    return replace(first, process=process, order=order, passes=passes, keep_audio=first.keep_audio and process == 0)


if __name__ == "__main__":
    main()
