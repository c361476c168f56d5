"""`ttsbench doctor`."""

from __future__ import annotations

from ttsbench.errors import ExitCode


def doctor() -> ExitCode:
    """Say what runs on this machine, and for the rest why not.

    Example: ttsbench doctor
    """
    from ttsbench.cli import console
    from ttsbench.model.families import FAMILIES
    from ttsbench.optimizations import registry
    from ttsbench.reports.tables.table import TEXT, Table
    from ttsbench.running import host

    machine = host.machine()
    console.print_lines(host.describe(machine))
    families = tuple((family.name, family.missing() or "runs here") for family in FAMILIES.values())
    console.show_table(Table.of("Families", ("family", "here"), families, unit=TEXT))
    rows = tuple(
        (f"{slot.name}: {option.name}", host.missing(option, machine) or "runs here")
        for slot in registry.SLOTS
        for option in slot.options
    )
    console.show_table(Table.of("Options", ("option", "here"), rows, unit=TEXT))
    return ExitCode.OK
