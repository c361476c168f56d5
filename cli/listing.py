"""`ttsbench list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import require
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.reports.tables.table import Table


def list_(kind: Annotated[str, typer.Argument(help="scenarios, slots or options.")] = "") -> ExitCode:
    """List the shipped scenarios, the slots, or every option.

    Example: ttsbench list options
    """
    from ttsbench.cli.console import show_table

    tables = {"scenarios": scenarios, "slots": slots, "options": options}
    if kind:
        require("listing", kind, tuple(tables))
    for name, build in tables.items():
        if kind in ("", name):
            show_table(build())
    return ExitCode.OK


def scenarios() -> Table:
    from ttsbench.reports.tables.table import TEXT, Table
    from ttsbench.scenarios.shipped import descriptions

    return Table.of("Scenarios", ("name", "what it answers"), tuple(descriptions().items()), unit=TEXT)


def slots() -> Table:
    from ttsbench.optimizations import registry
    from ttsbench.reports.tables.table import TEXT, Table

    rows = tuple((slot.name, slot.default, slot.summary) for slot in registry.SLOTS)
    return Table.of("Slots", ("slot", "default", "what it decides"), rows, unit=TEXT)


def options() -> Table:
    from ttsbench.optimizations import registry
    from ttsbench.reports.tables.table import TEXT, Table

    rows = tuple(
        (f"{slot.name}: {option.name}", option.summary + (" (changes output)" if option.changes_output else ""))
        for slot in registry.SLOTS
        for option in slot.options
    )
    return Table.of("Options", ("option", "what it does"), rows, unit=TEXT)
