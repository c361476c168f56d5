"""`ttsbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import Only, OptionalScenario, Overrides, Quiet
from ttsbench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ttsbench.records.runs import Cell
    from ttsbench.running.plan import Plan


def run(
    scenario: OptionalScenario = "",
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    only: Only = [],  # noqa: B006
    ablate: Annotated[str, typer.Option(metavar="STACK", help="Its slots one by one, alone and taken back.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run, and start nothing.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an unfinished run.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Where run folders go; runs/ if left out.")] = None,
    quiet: Quiet = False,
) -> ExitCode:
    """Measure every stack of a scenario and print the comparison.

    Example: ttsbench run quickstart --set measure.processes=5 --only 'lean*'
    """
    from ttsbench.cli.console import print_note
    from ttsbench.cli.progress import observers
    from ttsbench.cli.run_printing import show_finished
    from ttsbench.running import run as engine
    from ttsbench.running import runner

    if (resume is None) == (not scenario):
        raise UsageError("give a SCENARIO, or --resume RUN", mend="See ttsbench list scenarios")
    options = {"--set": overrides, "--only": only, "--ablate": ablate, "--output": output}
    if resume is not None and (refused := [name for name, value in options.items() if value]):
        raise UsageError(f"{' and '.join(refused)} cannot change a run that was begun", mend="Start a new run")
    with runner.at_work():
        planned: engine.NewRun | engine.UnfinishedRun
        if resume is None:
            planned = engine.new(scenario, overrides, only, ablated=ablate, output=output or Path("runs"))
            for note in planned.scenario.notes:
                print_note(note)
        else:
            planned = engine.unfinished(resume)
        if plan:
            show_plan(planned.scenario.name, planned.plan)
            return ExitCode.OK
        folder, record = planned.execute(observers(quiet))
        show_finished(folder, record)
        return engine.exit_code(record)


def show_plan(scenario: str, planned: Plan) -> None:
    """The jobs in their order, what cannot run here and why, and the time it will take."""
    from ttsbench.cli.console import print_lines
    from ttsbench.running.plan import job_seconds, preparation_seconds
    from ttsbench.running.progress import duration

    lines = [f"{scenario}: {len(planned.jobs)} processes"]
    if planned.jobs:
        seconds = preparation_seconds(planned.jobs)
        lines.append(f"   0  preparation: imports and checkpoints, about {duration(seconds)}")
    for number, job in enumerate(planned.jobs, start=1):
        about = duration(job_seconds(job))
        lines.append(f"{number:4}  {job.key}  {job.kind} {job.process + 1}  {job.device}, about {about}")
    lines += [f"   -  {cell.key}  {_no_job(cell)}" for cell in planned.refused]
    print_lines([*lines, f"about {duration(planned.estimated_seconds)} in all"])


def _no_job(cell: Cell) -> str:
    from ttsbench.records.assembly import MEASURED_AS

    return cell.reason if MEASURED_AS in cell.evidence else f"cannot run: {cell.reason}"
