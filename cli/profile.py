"""`ttsbench profile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import OptionalScenario, Overrides, Quiet
from ttsbench.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from ttsbench.records.profiles import Profile
    from ttsbench.running.profile_run import ProfileRun

STEPS = 32
DIFFERENCES_MAX = 12


def profile(
    scenario: OptionalScenario = "",
    stack: Annotated[str, typer.Option(metavar="NAME", help="Which stack; the baseline if left out.")] = "",
    overrides: Overrides = [],  # noqa: B006
    steps: Annotated[int, typer.Option(metavar="N", help="Decode steps of the utterance.")] = STEPS,
    memory: Annotated[bool, typer.Option("--memory", help="Also what is allocated, in a pass of its own.")] = False,
    stacks: Annotated[bool, typer.Option("--stacks", help="Also Python's functions, at some cost.")] = False,
    tensorboard: Annotated[Path | None, typer.Option(metavar="DIR", help="The trace there too.")] = None,
    trace_mb: Annotated[float, typer.Option(min=0.1, metavar="MB", help="The trace is cut to this size.")] = 50.0,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where profile folders go.")] = Path("runs"),
    quiet: Quiet = False,
    diff: Annotated[tuple[Path, Path] | None, typer.Option(metavar="A B", help="Two profiles, side by side.")] = None,
) -> ExitCode:
    """Show where one stack's time goes: stages, modules, ops, kernels.

    Example: ttsbench profile chatterbox --stack upstream --set model.size=tiny
    """
    if bool(scenario) == bool(diff):
        raise UsageError("give a SCENARIO, or --diff A B", mend="See ttsbench list scenarios")
    if diff:
        if stack or overrides or memory or stacks or tensorboard or steps != STEPS:
            raise UsageError("--diff A B profiles nothing", mend="Leave the other options out")
        return show_difference(*diff)
    from ttsbench.cli.progress import observers
    from ttsbench.records.jobs import Window
    from ttsbench.running import profile_run, runner

    folder = "" if tensorboard is None else str(tensorboard.absolute())
    window = Window("", steps, stacks, memory, trace_bytes_max=round(trace_mb * 1e6), tensorboard=folder)
    with runner.at_work():
        return show_finished(
            profile_run.profile(scenario, stack, overrides, window, output=output, observe=observers(quiet))
        )


def show_finished(done: ProfileRun) -> ExitCode:
    from ttsbench.cli.console import print_lines
    from ttsbench.reports.pages import profile_page

    if done.profile is None:
        print_lines([f"{done.cell.status}: {done.cell.reason}", f"{done.folder}/run.json"])
    else:
        show_profile(done.profile)
        print_lines([*(f"not written: {file}" for file in done.not_written), f"{done.folder}/{profile_page.FILE}"])
    return done.exit_code


def show_profile(profile: Profile) -> None:
    from ttsbench.cli import console
    from ttsbench.reports.tables import profile_summary

    console.print_lines(profile_summary.lede(profile))
    for table in profile_summary.tables(profile):
        console.show_table(table)
    console.print_lines(profile_summary.findings(profile))
    for caution in profile_summary.cautions(profile):
        console.print_note(caution)


def show_difference(before: Path, after: Path) -> ExitCode:
    """What changes from one profile to another, also written beside the second."""
    from ttsbench.cli import console
    from ttsbench.records import profiles
    from ttsbench.reports.tables import profile_diff
    from ttsbench.running.profile_run import problem_of

    difference = profile_diff.difference(profiles.read(before), profiles.read(after))
    console.print_lines([f"{difference.before} → {difference.after}", profile_diff.explanation(difference)])
    for table in profile_diff.tables(difference):
        console.show_table(table.first(DIFFERENCES_MAX))
    console.print_lines([f"no longer found: {headline}" for _, headline in difference.gone])
    console.print_lines([f"found anew: {headline}" for _, headline in difference.new])
    for note in difference.notes:
        console.print_note(note)
    folder = after if after.is_dir() else after.parent
    problem = problem_of(lambda: profile_diff.write(difference, folder))
    console.print_lines([f"not written: {problem}" if problem else f"{folder}/{profile_diff.FILE}"])
    return ExitCode.INTERNAL if problem else ExitCode.OK
