"""Every command, registered under its group. What is heavy is imported by the command that needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ttsbench import __version__
from ttsbench.cli import (
    bisect,
    calibrate,
    checkpoint,
    compare,
    doctor,
    export,
    gate,
    history,
    kernels,
    listing,
    overhead,
    profile,
    run,
    schema,
    selftest,
    show,
    validate,
)
from ttsbench.errors import ExitCode

GROUPS: Mapping[str, Sequence[Callable[..., ExitCode]]] = {
    "Measure": (run.run, profile.profile, kernels.kernels),
    "Understand": (show.show, history.history, export.export),
    "Decide": (compare.compare, gate.gate, bisect.bisect, calibrate.calibrate, selftest.selftest),
    "Maintain": (
        doctor.doctor,
        listing.list_,
        validate.validate,
        schema.schema,
        checkpoint.checkpoint,
        overhead.overhead,
    ),
}
EXIT_CODES = "Exit codes:\n\n\b\n" + "\n".join(f"{code.value:>5}  {code.meaning}" for code in ExitCode)


class GroupedCommands(TyperGroup):
    """Lists the commands under their groups, with whole summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.commands))
        for group in GROUPS:
            rows = [
                (name.ljust(width), (command.help or "").partition("\n")[0])
                for name, command in self.commands.items()
                if getattr(command, "rich_help_panel", None) == group
            ]
            with formatter.section(group):
                formatter.write_dl(rows)


def end(code: ExitCode, **_: object) -> None:
    raise typer.Exit(code)


app = typer.Typer(
    name="ttsbench",
    cls=GroupedCommands,
    result_callback=end,
    help="Which optimizations make Chatterbox faster on this machine, by how much, and at what cost.",
    epilog=f"{EXIT_CODES}\n\nTTSBENCH_DEBUG=1 shows the traceback of an internal error.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich's help costs 0.6 s to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group, functions in GROUPS.items():
    for function in functions:
        app.command(function.__name__.rstrip("_"), rich_help_panel=group)(function)


def print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"ttsbench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
