"""Tables as wide as a terminal: what does not fit beside the rest stands below it, and no figure is cut."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len, chop_cells

from ttsbench.reports.escaping import printable
from ttsbench.reports.tables.table import TEXT, Column, Table

# A column of labels may be folded down to this; what is wider than a figure can be is folded too.
LABEL_WIDTH_MIN = 18
FIGURE_WIDTH_MAX = 30


def fitted(table: Table, width: int) -> list[Table]:
    """The table, or several with the same labels where its columns do not fit beside each other."""
    table = _spelled_out(table)
    widths = _widths(table)
    parts: list[list[int]] = [[]]
    room = width - min(widths[0], LABEL_WIDTH_MIN) - sum(wide + 1 for wide in widths[1 : table.labels])
    for number, wide in enumerate(widths[table.labels :], start=table.labels):
        if parts[-1] and sum(widths[other] + 1 for other in parts[-1]) + wide + 1 > room:
            parts.append([])
        parts[-1].append(number)
    return [_only(table, columns) for columns in parts]


def width_needed(table: Table) -> int:
    """What the figures take beside labels that are folded as far as may be."""
    labels, *figures = _widths(table)
    return min(labels, LABEL_WIDTH_MIN) + sum(width + 1 for width in figures)


def _widths(table: Table) -> list[int]:
    return [_width(texts) for texts in zip(table.header, *table.texts, strict=True)]


def _width(texts: Iterable[str]) -> int:
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def _spelled_out(table: Table) -> Table:
    """What would move the cursor is written out, and what is no figure but a name is folded."""
    return replace(
        table, columns=tuple(_spelled_out_column(column, number) for number, column in enumerate(table.columns))
    )


def _spelled_out_column(column: Column, number: int) -> Column:
    fold = _folded if number else str
    unit = TEXT if column.is_text else "figure"
    return Column(_folded(printable(column.name)), lambda row: fold(printable(column.text(row))), unit)


def _folded(text: str) -> str:
    """At spaces where there are any."""
    lines = [line for given in text.split("\n") for line in _lines(given)]
    return "\n".join(lines)


def _lines(text: str) -> list[str]:
    if cell_len(text) <= FIGURE_WIDTH_MAX:
        return [text]
    found = [""]
    for word in re.findall(r"\S+\s*", text):
        for piece in chop_cells(word, FIGURE_WIDTH_MAX):
            if cell_len(found[-1] + piece.rstrip()) > FIGURE_WIDTH_MAX:
                found.append("")
            found[-1] += piece
    return [line.rstrip() for line in found if line]


def _only(table: Table, columns: list[int]) -> Table:
    """The labels and these columns."""
    kept = (*range(table.labels), *columns)
    return replace(table, columns=tuple(table.columns[number] for number in kept), notes=())
