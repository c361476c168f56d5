"""For github-action-benchmark's tool `customSmallerIsBetter`: a list of name, unit, value, range and extra."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ttsbench.reports import figures
from ttsbench.reports.decide import comparison
from ttsbench.reports.figures import Figure
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import Report

Entry = dict[str, Any]


def of_figures(found: Sequence[Figure]) -> list[Entry]:
    """An entry per stack, point and metric."""
    return [
        _entry(figure.name, figure.metric, figure.median, (figure.low, figure.high), f"{figure.processes} processes")
        for figure in found
    ]


def of_comparison(report: Report) -> list[Entry]:
    """The candidates' own values, which are what a trend is about; what was decided stands in `extra`."""
    return [
        _entry(name, metric, value, (min(values), max(values)), "\n".join((one.told(metric), *report.mismatches)))
        for name, one in zip(verdicts.names(report), report.compared, strict=True)
        for metric in one.found.always_told
        if (values := one.values(comparison.FIGURES[metric]))
        and (value := one.middles(comparison.FIGURES[metric])[1]) is not None
    ]


def _entry(name: str, metric: str, value: float, span: Iterable[float], extra: str) -> Entry:
    told = "–".join(f"{end:.6g}" for end in span)
    return {"name": f"{name}: {metric}", "unit": figures.UNITS[metric], "value": value, "range": told, "extra": extra}
