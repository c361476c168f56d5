"""What `profile` measures: one cell of a scenario, once, and the files of its profile."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ttsbench.errors import ExitCode, UsageError, suggest
from ttsbench.records import assembly, files, profiles, runs
from ttsbench.records.jobs import PROFILE, TIMED, Job, ProfileJob
from ttsbench.records.journal import Entries
from ttsbench.records.profiles import Profile
from ttsbench.reports.formats import profile_files
from ttsbench.reports.pages import profile_page
from ttsbench.reports.tables import profile_text
from ttsbench.running import host, plan, run, runner
from ttsbench.running.cells.profile import TRACE
from ttsbench.running.run import Observe
from ttsbench.scenarios import schema
from ttsbench.scenarios.schema import CellPlan, Scenario

STEPS_MAX = 1000  # upstream's own limit of an utterance
TIMEOUT_SECONDS_MIN = 1800.0  # of compiling twice, profiling twice and reading a million events


@dataclass(frozen=True)
class ProfileRun:
    """What became of the cell, and which files could not be written."""

    folder: Path
    cell: runs.Cell
    profile: Profile | None
    not_written: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        if self.profile is None:
            return ExitCode.CELL_FAILED
        if self.not_written or TRACE not in self.profile.files:
            return ExitCode.INTERNAL
        return ExitCode.CELL_FAILED if self.profile.not_attested else ExitCode.OK


def profile(
    name: str, stack: str, overrides: Sequence[str], window: ProfileJob, *, output: Path, observe: Observe
) -> ProfileRun:  # fmt: skip
    if not 1 <= window.steps <= STEPS_MAX:
        raise UsageError(
            f"a window of {window.steps} decode steps cannot be profiled; 1 to {STEPS_MAX} are allowed",
            mend="Give --steps 32, or leave it out",
        )
    path = schema.resolve(name)
    scenario = schema.load(path, overrides)
    chosen = chosen_cell(scenario, stack)
    planned = plan.make(scenario, host.machine(), (glob.escape(chosen.key),))
    run.refuse_nothing_to_measure(planned)
    job = profile_job(next(job for job in planned.jobs if job.kind == TIMED), replace(window, scenario=scenario.name))
    planned = plan.Plan((job,), (), plan.job_seconds(job))
    header = run.header_of(scenario, path, planned, overrides=overrides, only=(chosen.key,))
    folder = runner.new_folder(output, f"{scenario.name}-{job.file_stem}-profile")
    with observe(plan.estimate((job,))) as observer:
        runner.prepare((job,), folder, observer.preparing)
        observer.cell_started(job, 1, 1)
        cell = runner.run_job(job, folder, lambda stage: observer.stage(job, stage))
        observer.cell_finished(cell)
    return write_results(
        folder, assembly.assemble(Entries(replace(header, run_id=folder.name), [cell]), "complete"), cell
    )


def chosen_cell(scenario: Scenario, stack: str) -> CellPlan:
    """By its stack, or by its key where a matrix makes several of one stack."""
    cells, name = scenario.cells(), stack or scenario.baseline
    chosen = [cell for cell in cells if cell.key == name] or [cell for cell in cells if cell.stack == name]
    if not chosen:
        raise UsageError(f"{scenario.name} has no stack '{name}'; {suggest(name, {cell.stack for cell in cells})}")
    if chosen[0].fake is not None:
        raise UsageError(f"{scenario.name} has the fake engine, which runs nothing that could be profiled")
    if chosen[0].workload.forward is not None:
        raise UsageError(
            f"{scenario.name} measures forwards of the backbone alone; a profile is of a whole utterance",
            mend="Take a scenario without workload.forward",
        )
    if len(chosen) > 1:
        keys = ", ".join(f"'{cell.key}'" for cell in chosen)
        raise UsageError(f"the matrix makes {len(chosen)} cells of the stack '{name}'", mend=f"Give --stack {keys}")
    return chosen[0]


def profile_job(job: Job, window: ProfileJob) -> Job:
    """The same cell, profiled and nothing else."""
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


def write_results(folder: Path, record: runs.Run, cell: runs.Cell) -> ProfileRun:
    """Every file that can be written."""
    if not cell.ok:
        runs.write_run(folder, record)
        return ProfileRun(folder, cell, None)
    profile = profiles.of_cell(cell)
    tables = profile_files.files(profile)
    profile = replace(profile, files=(*profile.files, *tables, profile_text.FILE, profile_page.FILE))
    documents = {
        profile_text.FILE: profile_text.markdown(profile).encode(),
        profile_page.FILE: profile_page.page(profile).encode(),
    }
    writing: list[Callable[[], object]] = [
        lambda: profiles.write(folder, profile),
        lambda: runs.write_run(folder, record),
        *(lambda n=n, t=t: files.write_below(folder, n, t) for n, t in (documents | tables).items()),
    ]
    problems = [problem for write in writing if (problem := problem_of(write))]
    return ProfileRun(folder, cell, profile, tuple(dict.fromkeys(problems)))


def problem_of(write: Callable[[], object]) -> str:
    """Why a file could not be written; the others may fit yet."""
    try:
        write()
    except OSError as error:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return ""
