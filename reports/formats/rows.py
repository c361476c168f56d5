"""Tables for other tools: values in the units that the columns name, as CSV and as Parquet."""

from __future__ import annotations

import csv
import importlib.util
import io
from dataclasses import dataclass
from typing import Any

from ttsbench.reports.escaping import in_cell


@dataclass(frozen=True)
class Rows:
    """A table of values."""

    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]


def as_csv(rows: Rows) -> bytes:
    """With the columns' names in the first line; what a spreadsheet would calculate has an apostrophe before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows.columns)
    writer.writerows([in_cell(value) for value in row] for row in rows.values)
    return file.getvalue().encode(errors="replace")


def storable(value: Any) -> Any:
    """Text without lone surrogates, which a name on the command line may hold and UTF-8 cannot."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def can_write_parquet() -> bool:
    """Whether pyarrow, an extra, is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def as_parquet(rows: Rows) -> bytes:
    """With types, which a CSV loses."""
    import pyarrow
    from pyarrow import parquet

    values = ([storable(value) for value in row] for row in rows.values)
    columns = zip(*values, strict=True) if rows.values else ((),) * len(rows.columns)
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(zip(rows.columns, map(list, columns), strict=True))), file)
    return file.getvalue()
