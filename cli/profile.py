"""What `profile` does, from the scenario and the name of a stack to the printed summary and the folder."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ttsbench.cli import campaign, console
from ttsbench.errors import ExitCode, UsageError, suggest
from ttsbench.records import files, profiles, runs
from ttsbench.records.jobs import PROFILE, TIMED, Job, Window
from ttsbench.records.journal import Entries
from ttsbench.records.profiles import Profile
from ttsbench.reports.formats import profile_files
from ttsbench.reports.pages import profile_page
from ttsbench.reports.tables import profile_diff, profile_summary, profile_text
from ttsbench.running import host, plan, runner
from ttsbench.running.cells.profile import TRACE
from ttsbench.scenarios import schema
from ttsbench.scenarios.schema import CellPlan, Scenario

STEPS_MAX = 1000  # upstream's own limit of an utterance
TIMEOUT_SECONDS_MIN = 1800.0  # of compiling twice, profiling twice and reading a million events


@runner.at_work()
def start(
    name: str, stack: str, overrides: Sequence[str], window: Window, *, output: Path, quiet: bool
) -> ExitCode:  # fmt: skip
    """Profiles one stack, then writes and prints what was found."""
    if not 1 <= window.steps <= STEPS_MAX:
        raise UsageError(
            f"a window of {window.steps} decode steps cannot be profiled; 1 to {STEPS_MAX} are allowed",
            mend="Give --steps 32, or leave it out",
        )
    path = schema.resolve(name)
    scenario = schema.load(path, overrides)
    cell = chosen(scenario, stack)
    planned = plan.make(scenario, host.machine(), (glob.escape(cell.key),))
    campaign.refuse_nothing_to_measure(planned)
    job = job_of(next(job for job in planned.jobs if job.kind == TIMED), replace(window, scenario=scenario.name))
    planned = plan.Plan((job,), (), plan.job_seconds(job))
    header = campaign.header_of(scenario, path, planned, overrides=overrides, only=(cell.key,))
    folder = runner.new_folder(output, f"{scenario.name}-{job.file_stem}-profile")
    with console.progress(quiet=quiet, estimated_seconds=plan.estimate((job,))) as observer:
        runner.prepare((job,), folder, observer.preparing)
        observer.cell_started(job, 1, 1)
        found = runner.run_job(job, folder, lambda stage: observer.stage(job, stage))
        observer.cell_finished(found)
    run = runner.assemble(Entries(replace(header, run_id=folder.name), [found]), "complete")
    return conclude(folder, run, found)


def chosen(scenario: Scenario, stack: str) -> CellPlan:
    """The one cell that is meant: by its stack, or by its key where a matrix makes several of one stack."""
    cells, wanted = scenario.cells(), stack or scenario.baseline
    found = [cell for cell in cells if cell.key == wanted] or [cell for cell in cells if cell.stack == wanted]
    if not found:
        raise UsageError(f"{scenario.name} has no stack '{wanted}'; {suggest(wanted, {cell.stack for cell in cells})}")
    if found[0].fake is not None:
        raise UsageError(f"{scenario.name} has the fake engine, which runs nothing that could be profiled")
    if found[0].workload.forward is not None:
        raise UsageError(
            f"{scenario.name} measures forwards of the backbone alone; a profile is of a whole utterance",
            mend="Take a scenario without workload.forward",
        )
    if len(found) > 1:
        keys = ", ".join(f"'{cell.key}'" for cell in found)
        raise UsageError(f"the matrix makes {len(found)} cells of the stack '{wanted}'", mend=f"Give --stack {keys}")
    return found[0]


def job_of(job: Job, window: Window) -> Job:
    """The same cell, to be profiled and nothing else."""
    return replace(
        job,
        kind=PROFILE,
        order=0,
        passes=(),
        keep_audio=False,
        reference="",
        timeout_seconds=max(job.timeout_seconds, TIMEOUT_SECONDS_MIN),
        window=window,
    )


def conclude(folder: Path, run: runs.Run, cell: runs.Cell) -> ExitCode:
    """Everything that can be written is; what cannot is told, after the summary."""
    if not cell.ok:
        runs.write_run(folder, run)
        console.lines([f"{cell.status}: {cell.reason}", f"{folder}/run.json"])
        return ExitCode.CELL_FAILED
    profile = of(cell)
    tables = profile_files.files(profile)
    profile = replace(profile, files=(*profile.files, *tables, profile_text.FILE, profile_page.FILE))
    documents = {
        profile_text.FILE: profile_text.markdown(profile).encode(),
        profile_page.FILE: profile_page.page(profile).encode(),
    }
    writing: list[Callable[[], object]] = [
        lambda: profiles.write(folder, profile),
        lambda: runs.write_run(folder, run),
        *(lambda n=n, t=t: files.write_below(folder, n, t) for n, t in (documents | tables).items()),
    ]
    problems = [problem for write in writing if (problem := problem_of(write))]
    show(profile)
    console.lines(
        [*(f"not written: {problem}" for problem in dict.fromkeys(problems)), f"{folder}/{profile_page.FILE}"]
    )
    if problems or TRACE not in profile.files:
        return ExitCode.INTERNAL
    return ExitCode.CELL_FAILED if profile.not_attested else ExitCode.OK


def of(cell: runs.Cell) -> Profile:
    """What the cell's record holds."""
    return profiles.decoded(cell.profile, f"{cell.key}: profile")


DIFFERENCES_MAX = 12


def difference(before: Path, after: Path) -> ExitCode:
    """Prints what changes from one profile to another, and writes it beside the second."""
    found = profile_diff.difference(profiles.read(before), profiles.read(after))
    console.lines([f"{found.before} → {found.after}", profile_diff.explanation(found)])
    for table in profile_diff.tables(found):
        console.show_table(table.first(DIFFERENCES_MAX))
    console.lines([f"no longer found: {headline}" for _, headline in found.gone])
    console.lines([f"found anew: {headline}" for _, headline in found.new])
    for note in found.notes:
        console.note(note)
    folder = after if after.is_dir() else after.parent
    problem = problem_of(lambda: profile_diff.write(found, folder))
    console.lines([f"not written: {problem}" if problem else f"{folder}/{profile_diff.FILE}"])
    return ExitCode.INTERNAL if problem else ExitCode.OK


def problem_of(write: Callable[[], object]) -> str:
    """Why a file could not be written; the others may fit yet."""
    try:
        write()
    except OSError as error:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return ""


def show(profile: Profile) -> None:
    """The summary."""
    console.lines(profile_summary.lede(profile))
    for table in profile_summary.tables(profile):
        console.show_table(table)
    console.lines(profile_summary.decode(profile))
    console.lines(profile_summary.findings(profile))
    for caution in profile_summary.cautions(profile):
        console.note(caution)
