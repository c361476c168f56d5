"""`python -m ttsbench.cli.serve`: one side of a gate, which measures with the code that it lies among.

It is asked and answers in lines of JSON, since who asks may be of another version: first what is to be measured, then
one question for each process. It ends where its input ends, and when whoever started it dies.
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
from ttsbench.cli import campaign
from ttsbench.errors import ExitCode, TtsbenchError
from ttsbench.records import runs
from ttsbench.records.jobs import REFERENCE, TIMED, Job
from ttsbench.records.journal import Entries
from ttsbench.running import host, plan, runner, worker
from ttsbench.running.plan import Plan
from ttsbench.scenarios import schema
from ttsbench.scenarios.models import QUALITY

Message = dict[str, Any]
Tell = Callable[[Message], None]


def main() -> None:
    """The process's entry; whatever is printed meanwhile goes to standard error."""
    worker.die_with_parent(signal.SIGTERM)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(message: Message) -> None:
        answers.write(runs.dump(message) + "\n")
        answers.flush()

    try:
        with runner.at_work():
            questions = (json.loads(line) for line in sys.stdin)
            serve(next(questions), questions, tell)
    except TtsbenchError as error:
        tell({"refused": str(error)})
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def serve(asked: Message, questions: Iterator[Message], tell: Tell) -> None:
    """Says what it can measure, and then measures what it is asked for."""
    path, folder = Path(asked["scenario"]), Path(asked["folder"])
    scenario = schema.load(path, asked["overrides"])
    planned = plan.make(scenario, host.machine(), asked["only"])
    header = campaign.header_of(scenario, path, planned, overrides=asked["overrides"], only=asked["only"])

    def measured(job: Job) -> runs.Cell:
        return runner.run_job(job, folder, lambda stage: tell({"stage": stage}))

    runner.prepare(planned.jobs, folder, lambda stage: tell({"stage": stage}))
    references = [measured(job) for job in planned.jobs if job.kind == REFERENCE]
    run = runner.assemble(Entries(replace(header, run_id=folder.name), [*planned.refused, *references]), "unfinished")
    jobs = first_processes(planned)
    tell({"keys": list(jobs), "run": runs.to_json(run), "code": str(Path(ttsbench.__file__).parents[1])})
    for question in questions:
        cell = measured(numbered(jobs[question["key"]], question["process"], question["order"]))
        tell({"schema_version": runs.SCHEMA_VERSION, "cells": [runs.to_json(cell)]})


def first_processes(planned: Plan) -> dict[str, Job]:
    """For each cell, what its first process would be told to do."""
    return {job.key: job for job in planned.jobs if job.kind == TIMED and job.process == 0}


def numbered(first: Job, process: int, order: int) -> Job:
    """The same for any process of the cell; quality has no noise of its own, and the sound is kept once."""
    passes = tuple(name for name in first.passes if name != QUALITY or process == 0)
    return replace(first, process=process, order=order, passes=passes, keep_audio=first.keep_audio and process == 0)


if __name__ == "__main__":
    main()
