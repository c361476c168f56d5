"""Tables no wider than the terminal: columns that do not fit go into a table below, and no figure is cut."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from rich.cells import cell_len, chop_cells

from ttsbench.reports.escaping import one_line, printable
from ttsbench.reports.tables.table import TEXT, Column, Table

# A column of labels may be folded down to this; what is wider than a figure can be is folded too.
LABEL_WIDTH_MIN = 18
FIGURE_WIDTH_MAX = 30


def parts(table: Table, width: int) -> list[Table]:
    """The table, or several with the same labels and some of its columns each."""
    table = _escaped(table)
    widths = _widths(table)
    groups: list[list[int]] = [[]]
    room = width - min(widths[0], LABEL_WIDTH_MIN) - sum(wide + 1 for wide in widths[1 : table.labels])
    for number, wide in enumerate(widths[table.labels :], start=table.labels):
        if groups[-1] and sum(widths[other] + 1 for other in groups[-1]) + wide + 1 > room:
            groups.append([])
        groups[-1].append(number)
    return [_only(table, columns) for columns in groups]


def width_needed(table: Table) -> int:
    """With labels folded as far as allowed."""
    labels, *figures = _widths(table)
    return min(labels, LABEL_WIDTH_MIN) + sum(width + 1 for width in figures)


def _widths(table: Table) -> list[int]:
    return [_width(texts) for texts in zip(table.header, *table.texts, strict=True)]


def _width(texts: Iterable[str]) -> int:
    return max(cell_len(line) for text in texts for line in text.split("\n"))


def _escaped(table: Table) -> Table:
    """Control characters are written out; what is too long for a figure is folded."""
    return replace(table, columns=tuple(_escaped_column(column, number) for number, column in enumerate(table.columns)))


def _escaped_column(column: Column, number: int) -> Column:
    fold = _folded if number else str
    unit = TEXT if column.is_text else "figure"
    return Column(_folded(printable(column.name)), lambda row: fold(one_line(column.text(row))), unit)


def _folded(text: str) -> str:
    """At spaces where there are any."""
    return "\n".join(line for paragraph in text.split("\n") for line in _lines(paragraph))


def _lines(text: str) -> list[str]:
    if cell_len(text) <= FIGURE_WIDTH_MAX:
        return [text]
    lines = [""]
    for word in re.findall(r"\S+\s*", text):
        for piece in chop_cells(word, FIGURE_WIDTH_MAX):
            if cell_len(lines[-1] + piece.rstrip()) > FIGURE_WIDTH_MAX:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines if line]


def _only(table: Table, columns: list[int]) -> Table:
    kept = (*range(table.labels), *columns)
    return replace(table, columns=tuple(table.columns[number] for number in kept), notes=())
