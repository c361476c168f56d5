"""`ttsbench`: one short function per command. What is heavy is imported by the command that needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ttsbench import __version__
from ttsbench.cli.arguments import (
    Calibration,
    FailOn,
    Formats,
    Only,
    OptionalScenario,
    Overrides,
    Quiet,
    RunFolder,
    Scenario,
)
from ttsbench.cli.endings import drop_what_nobody_takes, foreseen_by_nobody, tell
from ttsbench.errors import ExitCode, TtsbenchError
from ttsbench.model.families import SIZES, Family, names

app = typer.Typer(
    name="ttsbench",
    help="Which optimizations make Chatterbox faster on this machine, by how much, and at what cost.",
    epilog="Exit codes: 0 fine, 1 slower, 2 wrong usage or scenario, 3 inconclusive, 4 not comparable, "
    "5 quality failed, 6 a cell failed to run, 70 internal error or unwritable output, 130 interrupted, "
    "141 the reader of the output left. TTSBENCH_DEBUG=1 shows the traceback of an internal error.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs 0.6 s to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog="Example: ttsbench run quickstart --set measure.processes=5 --only 'lean*'")
def run(
    scenario: OptionalScenario = "",
    overrides: Overrides = [],  # noqa: B006  (typer copies it)
    only: Only = [],  # noqa: B006
    ablate: Annotated[str, typer.Option(metavar="STACK", help="Its slots one by one, alone and taken back.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would run, and start nothing.")] = False,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an unfinished run.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Where run folders go; runs/ if left out.")] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure every stack of a scenario and print the comparison."""
    from ttsbench.cli import campaign

    if (resume is None) == (not scenario):
        raise TtsbenchError("give a SCENARIO, or --resume RUN", mend="See ttsbench list scenarios")
    if resume is not None:
        given = {"--set": overrides, "--only": only, "--ablate": ablate, "--output": output}
        if told := [name for name, value in given.items() if value]:
            raise TtsbenchError(f"{' and '.join(told)} cannot change a run that was begun", mend="Start a new run")
        sys.exit(campaign.resume(resume, plan_only=plan, quiet=quiet))
    output = output or Path("runs")
    sys.exit(campaign.start(scenario, overrides, only, ablated=ablate, plan_only=plan, output=output, quiet=quiet))


@app.command(epilog="Example: ttsbench validate my-scenario.yaml")
def validate(scenario: Scenario, overrides: Overrides = []) -> None:  # noqa: B006
    """Check a scenario without running it; every mistake is told at once, with its line."""
    from ttsbench.scenarios import schema

    found = schema.load(schema.resolve(scenario), overrides)
    typer.echo("\n".join([f"{found.name}: fine, {len(found.cells())} cells", *found.notes]))


@app.command("list", epilog="Example: ttsbench list options")
def list_(what: Annotated[str, typer.Argument(help="scenarios, slots or options.")] = "") -> None:
    """List the shipped scenarios, the slots of a stack, or every option."""
    from ttsbench.cli import listing

    listing.show(what)


@app.command(epilog="Example: ttsbench doctor")
def doctor() -> None:
    """Say what this machine can run and, for what it cannot, why and how to get it."""
    from ttsbench.cli import listing

    listing.doctor()


@app.command(epilog="Example: ttsbench checkpoint /tmp/model --family turbo --size tiny")
def checkpoint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it; made if it is not there.")],
    family: Annotated[str, typer.Option(help=f"{', '.join(names(Family.speaks))}.")] = "chatterbox",
    size: Annotated[str, typer.Option(help="full (the true architecture) or tiny.")] = "full",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write a synthetic checkpoint: the files that upstream loads, with seeded random weights."""
    from ttsbench.cli import listing

    listing.require("family", family, names(Family.speaks))
    listing.require("size", size, SIZES)
    listing.require("dtype", dtype, ("fp32", "fp16", "bf16"))
    from ttsbench.model import checkpoint as checkpoints

    typer.echo(checkpoints.write(folder, family, size=size, dtype=dtype, seed=seed))


@app.command(epilog="Example: ttsbench show runs/quickstart-20261120T180000Z --evidence")
def show(
    run: RunFolder,
    evidence: Annotated[bool, typer.Option("--evidence", help="What each option can show for itself.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write its page there instead.")] = None,
) -> None:
    """Print a run again, from its record, or write its report.html again."""
    from ttsbench.cli import campaign

    campaign.show(run, evidence=evidence, html=html)


@app.command(epilog="Example: ttsbench schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON Schema of scenarios, for editors."""
    import json

    from ttsbench.scenarios import schema as scenarios

    typer.echo(json.dumps(scenarios.json_schema(), indent=2))


@app.command(epilog="Example: ttsbench overhead --size tiny --pairs 100")
def overhead(
    size: Annotated[str, typer.Option(help="full or tiny; full where there is a GPU.")] = "",
    pairs: Annotated[int, typer.Option(min=3, help="How many pairs of utterances.")] = 60,
    tokens: Annotated[int, typer.Option(min=1, help="Speech tokens per utterance.")] = 25,
) -> None:
    """Show that the harness does not slow down what it measures: the same utterances bare and inside it."""
    from ttsbench.cli import campaign, listing

    if size:
        listing.require("size", size, SIZES)
    sys.exit(campaign.overhead(size, pairs, tokens))


@app.command(epilog="Example: ttsbench kernels rms_norm gate_up --quick --output runs/kernels")
def kernels(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Only these; all when none is given.")] = [],  # noqa: B006
    dtypes: Annotated[list[str], typer.Option("--dtype", metavar="DTYPE", help="fp32, fp16 or bf16; repeatable. All "
                                              "when none is given.")] = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write table.md, CSV, JSON and a plot.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="bf16 unless --dtype is given, two shapes each, fewer "
                                        "repeats.")] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Check our Triton kernels against float64, and time them against eager, compiled and Liger twins."""
    from ttsbench.cli import kernels as comparison

    sys.exit(comparison.compare(names, dtypes, output=output, quick=quick, quiet=quiet))


STEPS = 32


@app.command(epilog="Example: ttsbench profile chatterbox --stack upstream --set model.size=tiny")
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
) -> None:  # fmt: skip
    """Say where the time of one stack goes: by stage, module, op and kernel, on the GPU and on the host."""
    from ttsbench.cli import profile as profiling
    from ttsbench.records.jobs import Window

    if bool(scenario) == bool(diff):
        raise TtsbenchError("give a SCENARIO, or --diff A B", mend="See ttsbench list scenarios")
    if diff:
        if stack or overrides or memory or stacks or tensorboard or steps != STEPS:
            raise TtsbenchError("--diff A B profiles nothing", mend="Leave the other options out")
        sys.exit(profiling.difference(*diff))
    folder = "" if tensorboard is None else str(tensorboard.absolute())
    window = Window("", steps, stacks, memory, trace_bytes_max=round(trace_mb * 1e6), tensorboard=folder)
    sys.exit(profiling.start(scenario, stack, overrides, window, output=output, quiet=quiet))


@app.command(epilog="Example: ttsbench compare runs/before runs/after --fail-on slower --output runs/comparison")
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN[:STACK]...", help="The baseline, then candidates: runs, or "
                                              "folders of runs. One run alone: its stacks against its baseline.")],
    fail_on: FailOn = [],  # noqa: B006
    allow_mismatch: Annotated[bool, typer.Option("--allow-mismatch", help="Compare all the same, marked so.")] = False,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Write comparison.html, .md and .json.")] = None,
    formats: Formats = [],  # noqa: B006
    calibration: Calibration = None,
) -> None:  # fmt: skip
    """Decide whether stacks or runs are slower, faster or the same; exit code 1 means slower, 3 that it stays open."""
    from ttsbench.cli import compare as comparing

    code = comparing.compare(
        runs,
        fail_on=fail_on,
        allow_mismatch=allow_mismatch,
        output=output,
        formats=formats,
        calibration=calibration,
    )
    sys.exit(code)


@app.command(epilog="Example: ttsbench gate quickstart --base main --only lean --fail-on slower")
def gate(
    scenario: Scenario,
    base: Annotated[str, typer.Option(metavar="REF", help="The commit to compare with, measured now.")] = "",
    head: Annotated[str, typer.Option(metavar="REF", help="The commit that is judged; the working tree as it is, "
                                      "if left out.")] = "",
    base_run: Annotated[Path | None, typer.Option(metavar="RUN", help="A run of the past in the base's place.")] = None,
    overrides: Overrides = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    fail_on: FailOn = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="What is measured and found goes there; a folder "
                                                "in runs/ if left out.")] = None,
    formats: Formats = [],  # noqa: B006
    calibration: Calibration = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Decide whether a change made anything slower: both versions take turns, and what is slower has to be so twice."""
    from ttsbench.cli import gate as gating
    from ttsbench.cli.series import Asked

    asked = Asked(scenario, tuple(overrides), tuple(only), output, calibration, quiet)
    sys.exit(gating.gate(asked, gating.Versions(base, head, base_run), fail_on, formats))


@app.command(epilog="Example: ttsbench bisect quickstart --good v1.0 --bad main --stack lean --metric rtf")
def bisect(
    scenario: Scenario,
    good: Annotated[str, typer.Option(metavar="REF", help="A commit that was fast, before the bad one.")],
    bad: Annotated[str, typer.Option(metavar="REF", help="A commit that is slower.")],
    stack: Annotated[str, typer.Option(metavar="NAME", help="Which stack; the one that lost most if left out.")] = "",
    metric: Annotated[str, typer.Option(metavar="NAME", help="Which figure; the one that lost most if left out.")] = "",
    overrides: Overrides = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="What is measured goes there; a folder in runs/ "
                                                "if left out.")] = None,
    calibration: Calibration = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Find the commit that made a stack slower, by gating the commits between a good and a bad one."""
    from ttsbench.cli import bisect as bisection
    from ttsbench.cli.series import Asked

    asked = Asked(scenario, tuple(overrides), (), output, calibration, quiet)
    sys.exit(bisection.bisect(asked, good, bad, stack=stack, metric=metric))


@app.command(epilog="Example: ttsbench calibrate quickstart --only lean")
def calibrate(
    scenario: Scenario,
    series: Annotated[int, typer.Option(metavar="N", min=1, help="How many series; a floor takes 20.")] = 20,
    only: Only = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep it there; in the user's data folder, where "
                                                "compare and gate look for it, if left out.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what is kept, and measure nothing.")] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Find out how far apart the same code comes out on this machine, and so which differences count."""
    from ttsbench.cli import calibrate as calibration
    from ttsbench.cli.series import Asked

    asked = Asked(scenario, tuple(overrides), tuple(only), output, quiet=quiet)
    sys.exit(calibration.show(asked) if show else calibration.calibrate(asked, series))


@app.command(epilog="Example: ttsbench export runs/quickstart-20261120T180000Z --format csv --format bencher")
def export(
    run: RunFolder,
    formats: Annotated[list[str], typer.Option("--format", metavar="NAME", help="csv, parquet, action-benchmark or "
                                               "bencher. Repeatable.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's own folder if left out.")] = None,
) -> None:  # fmt: skip
    """Write a run's figures, one per stack and metric, for other tools."""
    from ttsbench.cli import exporting

    exporting.export(run, formats, output)


@app.command(epilog="Example: ttsbench history runs --output trends")
def history(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="A folder of runs.")] = Path("runs"),
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="For history.md, its plots and the store; the "
                                                "folder itself if left out.")] = None,
) -> None:  # fmt: skip
    """Draw how figures went over many runs, and say between which commits one stepped; advisory, so it ends with 0."""
    from ttsbench.cli import history as trends

    trends.show(folder, output)


@app.command(epilog="Example: ttsbench selftest --quick")
def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="100 comparisons a row in the place of 1,000.")] = False,
) -> None:
    """Show how often the tool itself errs: false alarms and power over simulated comparisons whose truth is known."""
    from ttsbench.cli import selftest as simulation

    sys.exit(simulation.run(quick=quick))


def version(wanted: bool) -> None:
    """--version."""
    if wanted:
        typer.echo(f"ttsbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Takes what stands before the command."""


def main() -> None:
    """The console script: errors are told in words, with the exit code that they stand for."""
    try:
        app()
    except SystemExit as ended:
        # typer ends so where a pipe is closed; 1 would be read as a regression.
        code = ExitCode.PIPE_CLOSED if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except TtsbenchError as error:
        code = tell(error, error.exit_code)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  (whatever nobody foresaw must not end with 1)
        code = tell(foreseen_by_nobody(error), ExitCode.INTERNAL)
    drop_what_nobody_takes()
    sys.exit(code)
