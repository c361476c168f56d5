"""Pages that open from disk without a network: templates and scripts of this package, data of whoever asks.

All that is filled in is escaped, and a policy in the page lets a browser run and load nothing but what stands here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.records import runs
from ttsbench.reports.escaping import printable
from ttsbench.reports.tables.listings import Column, Listing
from ttsbench.reports.tables.run_tables import Table

NAME_MAX = 240
FIGURE = re.compile(r"[-+−]?\d+(\.\d+)?(e[-+]?\d{1,2})?")
STYLE = "page.css"


@dataclass(frozen=True)
class Cell:
    """`value` is what figures sort by."""

    text: str
    value: float | None
    kind: str


def render(
    template: str, scripts: Sequence[str], data: Any, *, style: str = "", media: bool = False, **context: Any
) -> str:  # fmt: skip
    """One document. Each script `x_y.js` brings a function `startXY`, called in this order once all are there.

    `style` is a sheet beside the common one; `media` lets the page play waves that it holds or that lie beside it.
    """
    environment = _environment()
    styles = "".join(_asset(environment, name) for name in (STYLE, style) if name)
    script = _script(environment, scripts)
    hashes = {"style_hash": _hash(styles), "script_hash": _hash(script)}
    filled = {"style": styles, "script": script, "data": data, "media": media, **hashes, **context}
    return str(environment.get_template(template).render(filled))


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ttsbench.reports", "assets"),
        autoescape=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    # JSON knows no NaN; `tojson` escapes what would end the script element.
    environment.policies["json.dumps_function"] = runs.dump
    environment.policies["json.dumps_kwargs"] = {}
    return environment


def _asset(environment: Any, name: str) -> str:
    source, _, _ = environment.loader.get_source(environment, name)
    return str(source)


def _script(environment: Any, scripts: Sequence[str]) -> str:
    parts = [_asset(environment, f"{name}.js") for name in scripts]
    starts = [f"start{name.title().replace('_', '')}();" for name in scripts]
    return "\n".join(["(() => {", "'use strict';", *parts, *starts, "})();", ""])


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def clipped(text: str, letters_max: int = NAME_MAX) -> str:
    """Some kernels' names run to thousands of letters."""
    return text if len(text) <= letters_max else text[: letters_max - 1] + "…"


def listing(found: Listing, rows_max: int) -> dict[str, Any]:
    """A table as the templates draw it; where rows are left out, its caption says how many there are."""
    rows, whole = found.rows[:rows_max], len(found.rows)
    capped = len(rows) < whole
    return {
        "id": found.id,
        "title": found.title,
        "caption": f"{found.title}: the first {len(rows):,} of {whole:,} rows" if capped else found.title,
        "capped": capped,
        "columns": [
            {"label": column.label, "hint": column.hint, "number": column.unit != "text"} for column in found.columns
        ],
        "rows": [
            {"cells": _cells(found, row), "detail": [clipped(line) for line in found.detail(row)]} for row in rows
        ],
        "total": _cells(found, found.total) if found.total is not None else None,
        "notes": found.notes,
    }


def table(found: Table, id_: str, *, words: bool = False) -> dict[str, Any]:
    """A table of texts as the templates draw it; columns that hold figures stand right, unless all are words."""
    numbers = [number for number in range(1, len(found.columns)) if not words and _holds_figures(found, number)]
    return {
        "id": id_,
        "title": found.title,
        "caption": found.title,
        "capped": bool(found.title),
        "columns": [
            {"label": label, "hint": "", "number": number in numbers} for number, label in enumerate(found.columns)
        ],
        "rows": [
            {"cells": [_plain(text, number in numbers) for number, text in enumerate(row)], "detail": []}
            for row in found.rows
        ],
        "total": None,
        "notes": found.notes,
    }


def _holds_figures(found: Table, number: int) -> bool:
    return any(re.match(FIGURE, row[number]) for row in found.rows)


def _plain(text: str, number: bool) -> Cell:
    if not number:
        return Cell(clipped(text), None, "")
    leading = re.match(FIGURE, text.replace(",", ""))
    return Cell(clipped(text), float(leading[0].replace("−", "-")) if leading else None, "number")


def _cells(found: Listing, row: Any) -> list[Cell]:
    return [_cell(column, row) for column in found.columns]


def _cell(column: Column, row: Any) -> Cell:
    text, value = clipped(column.text(row)), column.of(row)
    if column.unit == "text":
        return Cell(text, None, "")
    kind = {"share": "number share", "delta ms": "number delta"}.get(column.unit, "number")
    return Cell(text, value if isinstance(value, int | float) else None, kind)
