"""What `list`, `doctor` and `checkpoint` say about names: of scenarios, slots and options."""

from __future__ import annotations

from collections.abc import Sequence

from ttsbench.cli import console
from ttsbench.errors import UsageError, suggest
from ttsbench.optimizations import registry
from ttsbench.reports.tables.table import TEXT, Table


def require(what: str, given: str, allowed: Sequence[str]) -> None:
    """Refuses a name that is none of the allowed."""
    if given not in allowed:
        raise UsageError(f"there is no {what} '{given}'; {suggest(given, allowed)}")


def show(what: str) -> None:
    """One listing, or all."""
    listings = {"scenarios": scenarios, "slots": slots, "options": options}
    if what:
        require("listing", what, tuple(listings))
    for name, listing in listings.items():
        if what in ("", name):
            console.show_table(listing())


def scenarios() -> Table:
    """The shipped ones."""
    from ttsbench.scenarios import schema

    rows = tuple((name, schema.load(path).description) for name, path in schema.shipped().items())
    return Table.of("Scenarios", ("name", "what it answers"), rows, unit=TEXT)


def slots() -> Table:
    """The slots, with upstream's own option."""
    rows = tuple((slot.name, slot.default, slot.summary) for slot in registry.SLOTS)
    return Table.of("Slots", ("slot", "default", "what it decides"), rows, unit=TEXT)


def options() -> Table:
    """Every option of every slot."""
    rows = tuple(
        (f"{slot.name}: {option.name}", option.summary + (" (changes output)" if option.changes_output else ""))
        for slot in registry.SLOTS
        for option in slot.options
    )
    return Table.of("Options", ("option", "what it does"), rows, unit=TEXT)


def doctor() -> None:
    """The machine, then each family and each option with what stands against it."""
    from ttsbench.model.families import FAMILIES
    from ttsbench.running import host

    machine = host.machine()
    console.lines(host.describe(machine))
    families = tuple((family.name, family.missing() or "runs here") for family in FAMILIES.values())
    console.show_table(Table.of("Families", ("family", "here"), families, unit=TEXT))
    rows = [
        (f"{slot.name}: {option.name}", host.missing(option, machine) or "runs here")
        for slot in registry.SLOTS
        for option in slot.options
    ]
    console.show_table(Table.of("Options", ("option", "here"), tuple(rows), unit=TEXT))
