"""Every format by its name: files of this folder declare `FORMAT` or `FORMATS`, distributions `ttsbench.formats`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Iterator

from ttsbench.records.plugins import declare_installed
from ttsbench.records.runs import Run
from ttsbench.reports import figures, formats
from ttsbench.reports.formats import documents
from ttsbench.reports.formats.format import Content, Format
from ttsbench.reports.tables.verdicts import Report

# Of a comparison, written whenever anything is.
ALWAYS = tuple(declared.name for declared in documents.FORMATS)


def _own() -> Iterator[Format]:
    for module in sorted(module.name for module in pkgutil.iter_modules(formats.__path__)):
        if module == "registry":
            continue
        content = importlib.import_module(f"{formats.__name__}.{module}")
        yield from getattr(content, "FORMATS", ())
        if declared := getattr(content, "FORMAT", None):
            yield declared


BY_NAME = {declared.name: declared for declared in _own()}
declare_installed("ttsbench.formats", Format, lambda declared: BY_NAME.setdefault(declared.name, declared))
COMPARISON = tuple(name for name, declared in BY_NAME.items() if declared.comparison)
RUN = tuple(name for name, declared in BY_NAME.items() if declared.run)


def of_comparison(report: Report, name: str, fail_on: Collection[str]) -> dict[str, bytes]:
    return {file: _bytes(write(report, fail_on)) for file, write in BY_NAME[name].comparison.items()}


def of_run(run: Run, name: str) -> dict[str, bytes]:
    rows = figures.figures(run)
    return {file: _bytes(write(rows)) for file, write in BY_NAME[name].run.items()}


def _bytes(content: Content) -> bytes:
    """A lone surrogate, which JSON can smuggle in, is no text."""
    return content if isinstance(content, bytes) else content.encode(errors="replace")
