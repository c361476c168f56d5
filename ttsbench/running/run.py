"""A run from its scenario to its record and documents: begun, continued after a stop, and read again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttsbench import __version__
from ttsbench.errors import ExitCode, NoRecordError, NotComparableError, RecordError, UsageError
from ttsbench.records import assembly, files, jobs, journal, profiles, runs
from ttsbench.records.bulk_reading import paused_garbage_collection
from ttsbench.records.fingerprint import ENVIRONMENT, differing
from ttsbench.records.journal import Journal, JournalHeader
from ttsbench.reports import run_documents
from ttsbench.reports.pages import profile_page, report_page
from ttsbench.running import host, plan, runner
from ttsbench.running.plan import Plan
from ttsbench.running.progress import Observer
from ttsbench.scenarios import ablation, schema
from ttsbench.scenarios.schema import Scenario

# Shows how far a run is, given how many seconds it will take.
Observe = Callable[[float], AbstractContextManager[Observer]]


@dataclass(frozen=True)
class NewRun:
    """A scenario that is planned and has no folder yet."""

    scenario: Scenario
    plan: Plan
    output: Path
    path: Path
    overrides: Sequence[str]
    only: Sequence[str]
    ablated: str

    def execute(self, observe: Observe) -> tuple[Path, runs.Run]:
        refuse_nothing_to_measure(self.plan)
        overrides, only = self.overrides, self.only
        header = header_of(self.scenario, self.path, self.plan, overrides=overrides, only=only, ablated=self.ablated)
        folder = runner.new_folder(self.output, self.scenario.name)  # nothing else can go wrong before the first job
        with Journal(folder) as book:
            book.append("header", replace(header, run_id=folder.name))
            for cell in self.plan.refused:
                book.append("cell", cell)
            return folder, carry_out(folder, book, self.plan, self.plan, observe)


@dataclass(frozen=True)
class UnfinishedRun:
    """A run of the past, and the jobs that have no row yet or a failed one: the reason may be gone by now."""

    scenario: Scenario
    whole_plan: Plan
    plan: Plan
    folder: Path

    def execute(self, observe: Observe) -> tuple[Path, runs.Run]:
        with Journal(self.folder) as book:
            _, cells, _ = journal.read(self.folder)  # again, now that nobody else writes
            left = what_is_left(self.whole_plan, cells)
            if not left.jobs and is_complete(self.folder):
                return self.folder, runs.read_run(self.folder)
            for cell in self.whole_plan.refused:
                if cell.key not in {row.key for row in cells}:
                    book.append("cell", cell)
            return self.folder, carry_out(self.folder, book, self.whole_plan, left, observe)


def new(name: str, overrides: Sequence[str], only: Sequence[str], *, ablated: str, output: Path) -> NewRun:
    path = schema.resolve(name)
    scenario = with_ablation(schema.load(path, overrides), ablated)
    planned = plan.make(scenario, host.machine(), only)
    return NewRun(scenario, planned, output, path, overrides, only, ablated)


def unfinished(folder: Path) -> UnfinishedRun:
    refuse_newer_record(folder)
    header, cells, _ = journal.read(folder)
    scenario = schema.parse(header.scenario_given, f"{folder.name}", Path(header.scenario_base), header.overrides)
    scenario = with_ablation(scenario, header.ablated)
    planned = plan.make(scenario, host.machine(), header.only)
    refuse_other_machine(header, planned)
    refuse_other_work(header, planned)
    return UnfinishedRun(scenario, planned, what_is_left(planned, cells), folder)


def header_of(
    scenario: Scenario,
    path: Path,
    planned: Plan,
    *,
    overrides: Sequence[str],
    only: Sequence[str] = (),
    ablated: str = "",
) -> JournalHeader:
    """The run has no name yet."""
    return JournalHeader(
        schema_version=runs.SCHEMA_VERSION,
        ttsbench_version=__version__,
        run_id="",
        scenario=scenario.name,
        baseline=scenario.baseline,
        started_utc=assembly.now_utc(),
        environment=fingerprint(planned),
        scenario_given=scenario.text,
        scenario_base=str(path.parent.resolve()),
        overrides=tuple(overrides),
        only=tuple(only),
        ablated=ablated,
        scenario_understood=scenario.understood(),
        jobs_sha256=jobs.digest(planned.jobs),
    )


def with_ablation(scenario: Scenario, stack: str) -> Scenario:
    return ablation.ablate(scenario, stack) if stack else scenario


def what_is_left(planned: Plan, cells: Sequence[runs.Cell]) -> Plan:
    done = {job_id for job_id, cell in assembly.latest(cells).items() if cell.done}
    jobs = tuple(job for job in planned.jobs if job.id not in done)
    return Plan(jobs, planned.refused, plan.estimate(jobs))


def refuse_newer_record(folder: Path) -> None:
    """Resumed here, it would be written over in an older schema."""
    with suppress(NoRecordError):
        runs.refuse_newer(files.read_json(folder / runs.FILE), str(folder / runs.FILE))


def is_complete(folder: Path) -> bool:
    try:
        return runs.read_run(folder).status == "complete"
    except RecordError:
        return False


def fingerprint(planned: Plan) -> dict[str, Any]:
    """On the GPU if a job has one."""
    devices = [job.device for job in planned.jobs]
    facts = host.fingerprint(next((device for device in devices if device != "cpu"), "cpu"))
    return dict(json.loads(runs.dump(facts)))


def refuse_nothing_to_measure(planned: Plan) -> None:
    if not planned.jobs:
        reasons = dict.fromkeys(f"{cell.key}: {cell.reason}" for cell in planned.refused)
        raise UsageError(f"nothing can be measured here; {'; '.join(reasons)}")


def refuse_other_machine(header: JournalHeader, planned: Plan) -> None:
    """Cells from two machines, or of two versions of the code, are no one run."""
    now = fingerprint(planned)
    if different := differing(ENVIRONMENT, now, header.environment):
        raise NotComparableError(
            f"{header.run_id} was begun in another environment; different: {', '.join(different)}",
            mend="Start a new run",
        )


def refuse_other_work(header: JournalHeader, planned: Plan) -> None:
    """A file of texts, tokens or a voice may have changed since; its cells and those kept are no one run."""
    if jobs.digest(planned.jobs) != header.jobs_sha256:
        raise NotComparableError(
            f"{header.run_id} was begun with other texts, tokens or voice than its files hold now",
            mend="Put the files back as they were, or start a new run",
        )


def carry_out(folder: Path, book: Journal, planned: Plan, left: Plan, observe: Observe) -> runs.Run:
    """Runs the jobs that are left, then writes the results, also of a run that was stopped."""
    status = "complete"
    try:
        with observe(left.estimated_seconds) as observer:
            runner.execute(left.jobs, folder, book, observer)
    except (runner.Interrupted, KeyboardInterrupt):
        status = "interrupted"
    return write_results(folder, planned, status)


def write_results(folder: Path, planned: Plan, status: str) -> runs.Run:
    """Everything that is derived from the journal."""
    with paused_garbage_collection():
        run = assembly.assemble(journal.read(folder), status, planned.job_ids)
    try:
        runs.write_run(folder, run)
        for name, text in run_documents.documents(folder, run):
            files.write_below(folder, name, text)
    except OSError as error:
        raise UsageError(
            f"the results cannot be written to {folder}: {error.strerror}",
            mend=f"The journal is whole; make room, then: ttsbench run --resume {folder}",
        ) from None
    return run


def exit_code(run: runs.Run) -> ExitCode:
    if run.status == "interrupted":
        return ExitCode.INTERRUPTED
    if any(cell.status not in ("ok", "skipped") for cell in run.cells):
        return ExitCode.CELL_FAILED
    return ExitCode.QUALITY if any(cell.faults for cell in run.cells) else ExitCode.OK


def write_page(folder: Path, run: runs.Run, file: Path) -> None:
    """The page of a run, or of the profile that is all it holds, made again."""
    if profiles.are_all(run):
        text = profile_page.page(profiles.of_cell(run.cells[0]))
    else:
        text = report_page.page(run, folder.absolute(), file.absolute().parent)
    try:
        files.write(file, text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
