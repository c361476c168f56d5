"""Tables no wider than the terminal: columns that do not fit go into a table below, and no figure is cut."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.cells import cell_len, chop_cells

from ttsbench.reports.escaping import one_line, printable
from ttsbench.reports.tables.table import TEXT, Column, Table

# A column of labels may be folded down to this; what is wider than a figure can be is folded too.
LABEL_WIDTH_MIN = 18
FIGURE_WIDTH_MAX = 30


def parts(table: Table, width: int) -> list[Table]:
    """The table, or several with the same labels and some of its columns each."""
    table = _written(table)
    widths = column_widths(table)
    groups: list[list[int]] = [[]]
    room = width - min(widths[0], LABEL_WIDTH_MIN) - sum(wide + 1 for wide in widths[1 : table.labels])
    for number, wide in enumerate(widths[table.labels :], start=table.labels):
        if groups[-1] and sum(widths[other] + 1 for other in groups[-1]) + wide + 1 > room:
            groups.append([])
        groups[-1].append(number)
    return [_only(table, columns) for columns in groups]


def lines(table: Table, width: int) -> Iterator[tuple[str, bool]]:
    """The header and the rows as text, and whether each stands out; labels are folded where they leave no room."""
    widths = column_widths(table)
    widths[0] = min(widths[0], max(LABEL_WIDTH_MIN, width - sum(wide + 1 for wide in widths[1:])))
    align = ["<" if column.is_text else ">" for column in table.columns]
    for texts, stands_out in ((table.header, True), *((row.texts, row.emphasized) for row in _rows(table))):
        label = "\n".join(piece for line in texts[0].split("\n") for piece in _pieces(line, widths[0]))
        cells = [text.split("\n") for text in (label, *texts[1:])]
        for line in itertools.zip_longest(*cells, fillvalue=""):
            yield " ".join(map(_padded, line, widths, align)).rstrip(), stands_out


def column_widths(table: Table) -> list[int]:
    return [max(_width(text) for text in texts) for texts in zip(table.header, *table.texts, strict=True)]


def _width(text: str) -> int:
    return len(text) if text.isascii() and "\n" not in text else max(map(cell_len, text.split("\n")))


def _padded(text: str, width: int, align: str) -> str:
    space = " " * (width - _width(text))
    return text + space if align == "<" else space + text


@dataclass(frozen=True)
class _Row:
    texts: tuple[str, ...]
    emphasized: bool


def _rows(table: Table) -> Iterator[_Row]:
    """The rows of a part, whose texts are already formatted."""
    return (replace(row, texts=texts) for row, texts in zip(table.rows, table.texts, strict=True))


def _written(table: Table) -> Table:
    """Every text once, with control characters spelled out and folded where it is too long for a figure."""
    flags = (*map(table.emphasized, table.rows), *(() if table.total is None else (False,)))
    rows = tuple(
        _Row((one_line(label), *(_folded(one_line(text)) for text in texts)), flag)
        for (label, *texts), flag in zip(table.texts, flags, strict=True)
    )
    columns = tuple(
        Column(_folded(printable(column.name)), lambda row, n=n: row.texts[n], TEXT if column.is_text else "figure")  # type: ignore[misc]
        for n, column in enumerate(table.columns)
    )
    return replace(table, columns=columns, rows=rows, total=None)


def _folded(text: str) -> str:
    return "\n".join(piece for line in text.split("\n") for piece in _pieces(line, FIGURE_WIDTH_MAX))


def _pieces(text: str, width: int) -> list[str]:
    """Folded at spaces where there are any."""
    if _width(text) <= width:
        return [text]
    pieces = [""]
    for word in re.findall(r"\S+\s*", text):
        for piece in chop_cells(word, width):
            if cell_len(pieces[-1] + piece.rstrip()) > width:
                pieces.append("")
            pieces[-1] += piece
    return [piece.rstrip() for piece in pieces if piece]


def _only(table: Table, columns: list[int]) -> Table:
    kept = (*range(table.labels), *columns)
    return replace(table, columns=tuple(table.columns[number] for number in kept), notes=())
