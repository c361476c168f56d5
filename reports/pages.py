"""Pages that open from disk without a network: templates and scripts of this package, data of whoever asks.

All that is filled in is escaped, and a policy in the page lets a browser run and load nothing but what stands here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench import records
from ttsbench.reports.listings import Column, Listing

NAME_MAX = 240
STYLE = "page.css"


@dataclass(frozen=True)
class Cell:
    """`value` is what figures sort by."""

    text: str
    value: float | None
    kind: str


def render(template: str, scripts: Sequence[str], data: Any, **context: Any) -> str:
    """One document. Each script `x_y.js` brings a function `startXY`, called in this order once all are there."""
    environment = _environment()
    style, script = _asset(environment, STYLE), _script(environment, scripts)
    hashes = {"style_hash": _hash(style), "script_hash": _hash(script)}
    return str(environment.get_template(template).render(style=style, script=script, data=data, **hashes, **context))


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ttsbench.reports", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    # JSON knows no NaN; `tojson` escapes what would end the script element.
    environment.policies["json.dumps_function"] = records.dump
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


def clipped(text: str) -> str:
    """Some kernels' names run to thousands of letters."""
    return text if len(text) <= NAME_MAX else text[: NAME_MAX - 1] + "…"


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


def _cells(found: Listing, row: Any) -> list[Cell]:
    return [_cell(column, row) for column in found.columns]


def _cell(column: Column, row: Any) -> Cell:
    text, value = clipped(column.text(row)), column.of(row)
    if column.unit == "text":
        return Cell(text, None, "")
    kind = {"share": "number share", "delta ms": "number delta"}.get(column.unit, "number")
    return Cell(text, value if isinstance(value, int | float) else None, kind)
