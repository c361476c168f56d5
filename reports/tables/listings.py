"""Rows that know their figures: a table that a console draws, a document renders, and a page sorts and filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ttsbench.reports.tables.run_tables import Table

MISSING = "–"
Value = float | str | None


def signed(value: float, form: str) -> str:
    """With a minus as wide as a plus; what rounds to nothing has no sign."""
    text = f"{value:+{form}}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


# How a figure of each unit is written.
FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": lambda value: f"{value:,.0f}",
    "per step": lambda value: f"{value:,.1f}",
    "ms": lambda value: f"{value * 1e3:,.2f}",
    "ms3": lambda value: f"{value * 1e3:,.3f}",
    "us": lambda value: f"{value * 1e6:,.1f}",
    "delta ms": lambda value: signed(value * 1e3, ",.2f"),
    "delta": lambda value: signed(value, ",.0f"),
    "signed share": lambda value: signed(value, ".1%"),
    "share": lambda value: f"{value:.1%}",
    "MiB": lambda value: f"{value / 2**20:,.1f}",
    "GB/s": lambda value: f"{value / 1e9:,.0f}",
    "TFLOP/s": lambda value: f"{value / 1e12:,.3g}",
    "ratio": lambda value: f"{value:,.3g}",
    "times": lambda value: f"{value:,.2f}×",
}


@dataclass(frozen=True)
class Column:
    """One figure or word of each row; `hint` defines it where its label does not."""

    label: str
    of: Callable[[Any], Value]
    unit: str = "text"
    hint: str = ""

    def text(self, row: Any) -> str:
        """As it stands in a table."""
        value = self.of(row)
        return MISSING if value is None else FORMS[self.unit](value)


@dataclass(frozen=True)
class Listing:
    """Rows as they are, with what is to be shown of them; `total` closes the table where rows add up."""

    id: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Any, ...]
    notes: tuple[str, ...] = ()
    total: Any = None
    # What a page can unfold below a row's name.
    detail: Callable[[Any], tuple[str, ...]] = lambda _: ()

    def table(self, rows_max: int | None = None) -> Table:
        """As text, the first rows only where there are more."""
        rows = self.rows[:rows_max]
        cut = () if len(rows) == len(self.rows) else (f"the first {len(rows):,} of {len(self.rows):,}",)
        drawn = [*rows, *([self.total] if self.total is not None else [])]
        texts = tuple(tuple(column.text(row) for column in self.columns) for row in drawn)
        return Table(self.title, tuple(column.label for column in self.columns), texts, (*cut, *self.notes))


def of_field(name: str) -> Callable[[Any], Any]:
    """Reads one field or property of a row."""
    return lambda row: getattr(row, name)


def ratio_of(part: Callable[[Any], float], whole: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """None where there is nothing to divide by."""
    return lambda row: part(row) / whole(row) if whole(row) else None


def shown(found: Iterable[Listing]) -> list[Listing]:
    """Those that have rows."""
    return [listing for listing in found if listing.rows]
