"""Markdown: tables, and text that is no markup."""

from __future__ import annotations

from collections.abc import Iterable

from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.tables.table import Table


def render(table: Table, level: int = 2) -> str:
    """One table with its notes below."""
    lines = [f"{'#' * level} {in_markdown(table.title)}", ""] if table.title else []
    lines += [
        _row(map(in_markdown, table.header)),
        _row("---" if column.is_text else "---:" for column in table.columns),
    ]
    lines += [_row(map(in_markdown, texts)) for texts in table.texts]
    return "\n".join([*lines, *(f"\n{in_markdown(note)}" for note in table.notes)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def flatten(data: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested data as dotted names and texts; hashes are cut to 12 digits."""
    if isinstance(data, dict):
        return [
            pair for key, value in data.items() for pair in flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(data, list | tuple):
        data = ", ".join(str(item) for item in data)
    text = str(data)
    return [(prefix, text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text)]
