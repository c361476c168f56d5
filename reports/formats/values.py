"""Tables for other tools, as CSV and as Parquet: values as they are, in the units that the columns name."""

from __future__ import annotations

import csv
import importlib.util
import io
from typing import Any

from ttsbench.errors import UsageError
from ttsbench.reports.escaping import in_cell
from ttsbench.reports.tables.table import Table


def as_csv(table: Table) -> bytes:
    """With the columns' names in the first line; what a spreadsheet would calculate has an apostrophe before it."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([in_cell(value) for value in row] for row in table.values)
    return file.getvalue().encode(errors="replace")


def storable(value: Any) -> Any:
    """Text without lone surrogates, which a name on the command line may hold and UTF-8 cannot."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def can_write_parquet() -> bool:
    """Whether pyarrow, an extra, is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def require_parquet() -> None:
    if not can_write_parquet():
        raise UsageError(
            "Parquet needs pyarrow, which is not installed", mend="Install it with: pip install 'ttsbench[parquet]'"
        )


def as_parquet(table: Table) -> bytes:
    """With types, which a CSV loses."""
    import pyarrow
    from pyarrow import parquet

    columns = {column.name: [storable(column.value(row)) for row in table.rows] for column in table.columns}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()
