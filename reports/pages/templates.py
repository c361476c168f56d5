"""Pages that open from disk without a network: templates and scripts of this package, data of the caller.

All that is filled in is escaped, and a policy in the page lets a browser run and load nothing but what stands here.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.records import runs
from ttsbench.reports.escaping import printable
from ttsbench.reports.tables.table import Column, Table

NAME_MAX = 240
STYLES = ("colours.css", "page.css", "plots.css")


@dataclass(frozen=True)
class HtmlCell:
    """`value` is what figures sort by, `kind` the element's classes."""

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
    styles = "".join(_asset(environment, name) for name in (*STYLES, style) if name)
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


def table(shown: Table, rows_max: int | None = None, *, titled: bool = False) -> dict[str, Any]:
    """A table as the templates draw it; `titled` shows its title, which else only a screen reader says."""
    cut = shown if rows_max is None else shown.first(rows_max)
    return {
        "id": cut.id,
        "title": cut.title,
        "titled": titled and bool(cut.title),
        "columns": cut.columns,
        "rows": [
            {"cells": _cells(cut, row), "detail": [clipped(line) for line in cut.detail(row)]} for row in cut.rows
        ],
        "total": None if cut.total is None else _cells(cut, cut.total),
        "notes": cut.notes,
    }


def _cells(shown: Table, row: Any) -> list[HtmlCell]:
    return [_cell(column, row) for column in shown.columns]


def _cell(column: Column, row: Any) -> HtmlCell:
    text = clipped(column.text(row))
    if column.is_text:
        return HtmlCell(text, None, "")
    value = column.value(row)
    kind = "number"
    if column.unit in ("share", "delta ms"):
        kind = f"number {str(column.unit).removesuffix(' ms')}"
    return HtmlCell(text, value if isinstance(value, int | float) and math.isfinite(value) else None, kind)
