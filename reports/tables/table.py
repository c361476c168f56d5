"""The one model of a table: columns that know name, unit and value. Console, documents, pages and CSV render it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

MISSING = "–"
TEXT = "text"
Value = float | str | None


def signed(value: float, form: str) -> str:
    """With a minus as wide as a plus; what rounds to zero has no sign."""
    text = f"{value:+{form}}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


# How a figure of each unit is written.
FORMS: dict[str, Callable[[Any], str]] = {
    TEXT: str,
    "figure": str,
    "count": lambda value: f"{value:,.0f}",
    "per step": lambda value: f"{value:,.1f}",
    "s": lambda value: f"{value:,.2f}",
    "distance": lambda value: f"{value:.3f}",
    "ms1": lambda value: f"{value * 1e3:,.1f}",
    "ms": lambda value: f"{value * 1e3:,.2f}",
    "ms3": lambda value: f"{value * 1e3:,.3f}",
    "us": lambda value: f"{value * 1e6:,.1f}",
    "delta ms": lambda value: signed(value * 1e3, ",.2f"),
    "delta": lambda value: signed(value, ",.0f"),
    "signed share": lambda value: signed(value, ".1%"),
    "share": lambda value: f"{value:.1%}",  # of a whole: a page draws a bar behind it
    "percent": lambda value: f"{value:.1%}",
    "MiB": lambda value: f"{value / 2**20:,.1f}",
    "GB/s": lambda value: f"{value / 1e9:,.0f}",
    "TFLOP/s": lambda value: f"{value / 1e12:,.3g}",
    "ratio": lambda value: f"{value:,.3g}",
    "times": lambda value: f"{value:,.2f}×",
    "scientific": lambda value: f"{value:.1e}" if value else "0",
}


@dataclass(frozen=True)
class Column:
    """One value of each row; `unit` is a name in FORMS or writes the figure itself, `hint` explains the name."""

    name: str
    value: Callable[[Any], Value]
    unit: str | Callable[[Any], str] = TEXT
    hint: str = ""

    @property
    def is_text(self) -> bool:
        return self.unit == TEXT

    def text(self, row: Any) -> str:
        """A word in a column of figures, such as "baseline" or "never", stands as it is."""
        value = self.value(row)
        if value is None or isinstance(value, str):
            return MISSING if value is None else value
        return FORMS[self.unit](value) if isinstance(self.unit, str) else self.unit(value)


@dataclass(frozen=True)
class Table:
    """Rows as they are, with what is shown of them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Any, ...]
    notes: tuple[str, ...] = ()
    # How many of the columns, from the left, name a row.
    labels: int = 1
    id: str = ""
    # Closes the table where rows add up.
    total: Any = None
    # What a page can unfold below a row's name.
    detail: Callable[[Any], tuple[str, ...]] = lambda _: ()
    emphasized: Callable[[Any], bool] = lambda _: False

    @classmethod
    def of(
        cls, title: str, header: Sequence[str], rows: Iterable[Sequence[Any]], notes: Sequence[str] = (),
        *, labels: int = 1, unit: str = "figure",
    ) -> Table:  # fmt: skip
        """Of values that are ready to be written: the labels are text, the others of that unit."""
        columns = (Column(name, itemgetter(n), TEXT if n < labels else unit) for n, name in enumerate(header))
        return cls(title, tuple(columns), tuple(rows), tuple(notes), labels)

    @property
    def header(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """Every row as it is written, the total last."""
        rows = (*self.rows, *(() if self.total is None else (self.total,)))
        return tuple(tuple(column.text(row) for column in self.columns) for row in rows)

    @property
    def values(self) -> Iterator[list[Value]]:
        """Every row as other tools read it."""
        return ([column.value(row) for column in self.columns] for row in self.rows)

    @property
    def is_prose(self) -> bool:
        """Words may wrap, figures may not."""
        return all(column.is_text for column in self.columns)

    def first(self, rows_max: int) -> Table:
        """At most so many rows, with a note where that leaves some out."""
        if len(self.rows) <= rows_max:
            return self
        note = f"the first {rows_max:,} of {len(self.rows):,} rows"
        return replace(self, rows=self.rows[:rows_max], notes=(note, *self.notes))

    def without_empty_columns(self, kept: int = 1) -> Table:
        """The first ones stay, whatever they hold."""
        first, others = self.columns[:kept], self.columns[kept:]
        filled = (column for column in others if any(column.value(row) is not None for row in self.rows))
        return replace(self, columns=(*first, *filled))


def of_field(name: str) -> Callable[[Any], Any]:
    return lambda row: getattr(row, name)


def ratio_of(part: Callable[[Any], float], whole: Callable[[Any], float]) -> Callable[[Any], float | None]:
    """None where there is nothing to divide by."""
    return lambda row: part(row) / whole(row) if whole(row) else None


def with_rows(tables: Iterable[Table]) -> list[Table]:
    return [table for table in tables if table.rows]
