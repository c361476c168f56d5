"""`ttsbench profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttsbench.cli.arguments import OptionalScenario, Overrides, Quiet
from ttsbench.cli.profile_printing import show_difference, show_finished
from ttsbench.errors import ExitCode, UsageError

STEPS = 32


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
    from ttsbench.records.jobs import ProfileJob
    from ttsbench.running import profile_run, runner

    folder = "" if tensorboard is None else str(tensorboard.absolute())
    window = ProfileJob("", steps, stacks, memory, trace_bytes_max=round(trace_mb * 1e6), tensorboard=folder)
    with runner.at_work():
        return show_finished(
            profile_run.profile(scenario, stack, overrides, window, output=output, observe=observers(quiet))
        )
