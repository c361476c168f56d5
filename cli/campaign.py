"""What `run`, `show` and `overhead` do, from the scenario to the printed table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ttsbench import __version__
from ttsbench.cli import console
from ttsbench.errors import ExitCode, NoRecordError, NotComparableError, RecordError, UsageError
from ttsbench.records import files, jobs, journal, runs
from ttsbench.records.journal import Header, Journal
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import drawings, load_plot, profile_page, report_page, stream_plot
from ttsbench.reports.tables import ablation as ablations
from ttsbench.reports.tables import markdown
from ttsbench.running import host, plan, runner
from ttsbench.running.plan import Plan
from ttsbench.scenarios import ablation, schema
from ttsbench.scenarios.schema import Scenario

# What must be the same for a run to be continued.
SAME_MACHINE = ("gpu", "cpu", "packages", "sources_sha256", "python", "torch_build", "ttsbench.sha256", "variables")


@runner.at_work()
def start(
    name: str,
    overrides: Sequence[str],
    only: Sequence[str],
    *,
    ablated: str,
    plan_only: bool,
    output: Path,
    quiet: bool,
) -> ExitCode:
    """A new run, or only its plan."""
    path = schema.resolve(name)
    scenario = taken_apart(schema.load(path, overrides), ablated)
    for note in scenario.notes:
        console.note(note)
    planned = plan.make(scenario, host.machine(), only)
    if plan_only:
        show_plan(scenario, planned)
        return ExitCode.OK
    refuse_nothing_to_measure(planned)
    header = header_of(scenario, path, planned, overrides=overrides, only=only, ablated=ablated)
    folder = runner.new_folder(output, scenario.name)  # now that nothing is left that could go wrong before
    with Journal(folder) as book:
        book.append("header", replace(header, run_id=folder.name))
        for cell in planned.refused:
            book.append("cell", cell)
        return carry_out(folder, book, planned, planned, quiet=quiet)


@runner.at_work()
def resume(folder: Path, *, plan_only: bool, quiet: bool) -> ExitCode:
    """The jobs of a run that have no row yet, or one that says that they failed: the reason may be gone by now."""
    refuse_newer_record(folder)
    header, cells, _ = journal.read(folder)
    scenario = schema.parse(header.scenario_given, f"{folder.name}", Path(header.scenario_base), header.overrides)
    scenario = taken_apart(scenario, header.ablated)
    planned = plan.make(scenario, host.machine(), header.only)
    refuse_other_machine(header, planned)
    refuse_other_work(header, planned)
    if plan_only:
        show_plan(scenario, what_is_left(planned, cells))
        return ExitCode.OK
    with Journal(folder) as book:
        _, cells, _ = journal.read(folder)  # again, now that nobody else writes
        left = what_is_left(planned, cells)
        if not left.jobs and is_complete(folder):
            return conclude(folder, runs.read_run(folder))
        for cell in planned.refused:
            if cell.key not in {told.key for told in cells}:
                book.append("cell", cell)
        return carry_out(folder, book, planned, left, quiet=quiet)


def header_of(
    scenario: Scenario,
    path: Path,
    planned: Plan,
    *,
    overrides: Sequence[str],
    only: Sequence[str] = (),
    ablated: str = "",
) -> Header:
    """What is to be run, where and on what; the run has no name yet."""
    return Header(
        schema_version=runs.SCHEMA_VERSION,
        ttsbench_version=__version__,
        run_id="",
        scenario=scenario.name,
        baseline=scenario.baseline,
        started_utc=runner.now_utc(),
        environment=fingerprint(planned),
        scenario_given=scenario.text,
        scenario_base=str(path.parent.resolve()),
        overrides=tuple(overrides),
        only=tuple(only),
        ablated=ablated,
        scenario_understood=scenario.understood(),
        jobs_sha256=jobs.digest(planned.jobs),
    )


def taken_apart(scenario: Scenario, stack: str) -> Scenario:
    """With the stacks of an ablation in the place of its own, if one is asked for."""
    return ablation.ablate(scenario, stack) if stack else scenario


def what_is_left(planned: Plan, cells: Sequence[runs.Cell]) -> Plan:
    """The plan without the jobs whose rows need no other try."""
    done = {job_id for job_id, cell in runner.latest(cells).items() if cell.done}
    jobs = tuple(job for job in planned.jobs if job.id not in done)
    return Plan(jobs, planned.refused, plan.estimate(jobs))


def refuse_newer_record(folder: Path) -> None:
    """Resumed here, it would be written over in an older schema."""
    with suppress(NoRecordError):
        runs.refuse_newer(files.read_json(folder / runs.FILE), str(folder / runs.FILE))


def is_complete(folder: Path) -> bool:
    """Whether the results of a whole run stand there."""
    try:
        return runs.read_run(folder).status == "complete"
    except RecordError:
        return False


def fingerprint(planned: Plan) -> dict[str, Any]:
    """Of the machine, on the GPU if a job has one."""
    devices = [job.device for job in planned.jobs]
    found = host.fingerprint(next((device for device in devices if device != "cpu"), "cpu"))
    return dict(json.loads(runs.dump(found)))


def refuse_nothing_to_measure(planned: Plan) -> None:
    """A run without a figure is not begun."""
    if not planned.jobs:
        reasons = dict.fromkeys(f"{cell.key}: {cell.reason}" for cell in planned.refused)
        raise UsageError(f"nothing can be measured here; {'; '.join(reasons)}")


def refuse_other_machine(header: Header, planned: Plan) -> None:
    """Cells from two machines, or of two versions of the code, are no one run."""
    now = fingerprint(planned)
    if different := [part for part in SAME_MACHINE if _part(now, part) != _part(header.environment, part)]:
        raise NotComparableError(
            f"{header.run_id} was begun in another environment; different: {', '.join(different)}",
            mend="Start a new run",
        )


def _part(fingerprint: dict[str, Any], dotted: str) -> Any:
    found: Any = fingerprint
    for name in dotted.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def refuse_other_work(header: Header, planned: Plan) -> None:
    """A file of texts, tokens or a voice may have changed since; its cells and those kept are no one run."""
    if jobs.digest(planned.jobs) != header.jobs_sha256:
        raise NotComparableError(
            f"{header.run_id} was begun with other texts, tokens or voice than its files hold now",
            mend="Put the files back as they were, or start a new run",
        )


def carry_out(folder: Path, book: Journal, planned: Plan, left: Plan, *, quiet: bool) -> ExitCode:
    """Runs what is left of the plan, then writes and prints the results, also of a run that was stopped."""
    status = "complete"
    try:
        with console.progress(quiet=quiet, estimated_seconds=left.estimated_seconds) as observer:
            runner.execute(left.jobs, folder, book, observer)
    except (runner.Interrupted, KeyboardInterrupt):
        status = "interrupted"
    return conclude(folder, write_results(folder, planned, status))


def conclude(folder: Path, run: runs.Run) -> ExitCode:
    """Prints the results, and says by the exit code whether they are whole."""
    console.show_run(run)
    console.lines([f"{folder}/{report_page.FILE}", f"{folder}/report.md"])
    if run.status == "interrupted":
        console.lines([f"stopped; go on with: ttsbench run --resume {folder}"])
        return ExitCode.INTERRUPTED
    failed = [cell for cell in run.cells if cell.status not in ("ok", "skipped")]
    if failed:
        return ExitCode.CELL_FAILED
    return ExitCode.QUALITY if any(cell.faults for cell in run.cells) else ExitCode.OK


def write_results(folder: Path, planned: Plan, status: str) -> runs.Run:
    """Everything that is derived from the journal."""
    run = runner.assemble(journal.read(folder), status, planned.job_ids)
    try:
        runs.write_run(folder, run)
        for name, text in documents(folder, run):
            files.write_below(folder, name, text)
    except OSError as error:
        raise UsageError(
            f"the results cannot be written to {folder}: {error.strerror}",
            mend=f"The journal is whole; make room, then: ttsbench run --resume {folder}",
        ) from None
    return run


def documents(folder: Path, run: runs.Run) -> Iterator[tuple[str, str]]:
    """Name and text of each document that a run leaves beside its record, one after the other as they are made."""
    yield "samples.csv", samples.samples(run)
    plots = drawings.drawings(run)
    yield from plots.items()
    yield from stream_plot.drawings(run).items()
    yield from load_plot.drawings(run).items()
    if (taken_apart := ablations.ablation(run)) is not None:
        yield ablations.PLOT, ablations.waterfall(taken_apart)
    yield "report.md", markdown.report(run, plots)
    yield report_page.FILE, report_page.page(run, folder)


def show_plan(scenario: Scenario, planned: Plan) -> None:
    """The jobs in their order, what cannot run here and why, and the time it will take."""
    console.lines([f"{scenario.name}: {len(planned.jobs)} processes"])
    if planned.jobs:
        before = console.duration(plan.preparation_seconds(planned.jobs))
        console.lines([f"   0  preparation: imports and checkpoints, about {before}"])
    for number, job in enumerate(planned.jobs, start=1):
        about = console.duration(plan.job_seconds(job))
        console.lines([f"{number:4}  {job.key}  {job.kind} {job.process + 1}  {job.device}, about {about}"])
    for cell in planned.refused:
        console.lines([f"   -  {cell.key}  cannot run: {cell.reason}"])
    console.lines([f"about {console.duration(planned.estimated_seconds)} in all"])


def show(path: Path, *, evidence: bool, html: Path | None = None) -> None:
    """A run's tables again, from its record alone; from its journal, if a kill left nothing else."""
    run = read_run(path)
    folder = path if path.is_dir() else path.parent
    if html is not None:
        write_page(folder, run, html)
        return
    show_profiles(run)
    if holds_profiles_only(run):
        return
    console.show_run(run)
    if run.status != "complete" and (folder / journal.FILE).exists():
        console.lines([f"{run.status}; go on with: ttsbench run --resume {folder}"])
    if evidence:
        for table in (table for build in markdown.DETAILS for table in build(run) if table.rows):
            console.show_table(table)
        for cell in run.cells:
            console.lines([f"{cell.key} ({cell.kind} {cell.process + 1}): {runs.dump(cell.evidence)}"])


def write_page(folder: Path, run: runs.Run, file: Path) -> None:
    """The page of a run, or of the profile that is all it holds, made again."""
    if holds_profiles_only(run):
        from ttsbench.cli import profile

        text = profile_page.page(profile.of(run.cells[0]))
    else:
        text = report_page.page(run, folder.absolute(), file.absolute().parent)
    try:
        files.write(file, text)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None
    console.lines([str(file)])


def holds_profiles_only(run: runs.Run) -> bool:
    """Whether `profile` made it."""
    return bool(run.cells) and all(cell.profile for cell in run.cells)


def show_profiles(run: runs.Run) -> None:
    """The summary of each."""
    from ttsbench.cli import profile

    for cell in run.cells:
        if cell.profile:
            profile.show(profile.of(cell))


def read_run(path: Path) -> runs.Run:
    """What there is of a run."""
    try:
        return runs.read_run(path)
    except NoRecordError:
        if not (path / journal.FILE).exists():
            raise
        return runner.assemble(journal.read(path), "unfinished")


def overhead(size: str, pairs: int, tokens: int) -> ExitCode:
    """Bare and measured utterances in turn, and the ratio of their medians against what is allowed."""
    from ttsbench.running import overhead as measured

    machine = host.machine()
    size = size or ("full" if machine.has_cuda else "tiny")
    found = measured.compare(size, host.resolve_device("auto", machine), pairs, tokens)
    console.lines([found.describe()])
    return ExitCode.OK if found.ratio <= found.allowed else ExitCode.SLOWER
