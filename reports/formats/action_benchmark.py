"""For github-action-benchmark's tool `customSmallerIsBetter`: a list of name, unit, value, range and extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ttsbench.reports import metrics
from ttsbench.reports.figures import Figure
from ttsbench.reports.formats.format import Format, as_json
from ttsbench.reports.metrics import LOWER, Metric
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import CandidateReport, Report

Entry = dict[str, Any]


def of_figures(figures: Sequence[Figure]) -> list[Entry]:
    """An entry per stack, point and metric."""
    return [
        _entry(figure.name, metric, figure.median, [figure.low, figure.high], f"{figure.processes} processes")
        for figure in figures
        if (metric := metrics.BY_NAME[figure.metric]).better == LOWER
    ]


def of_comparison(report: Report) -> list[Entry]:
    """The candidates' own values, which are what a trend is about; what was decided stands in `extra`."""
    named = zip(verdicts.names(report), report.candidates, strict=True)
    return [entry for name, candidate in named for entry in _entries(name, candidate, report.mismatches)]


def _entries(name: str, candidate: CandidateReport, mismatches: Sequence[str]) -> Iterator[Entry]:
    for metric_name in candidate.comparison.judgements_of_wholes:
        metric = metrics.BY_NAME[metric_name]
        values, (_, median) = candidate.values(metric), candidate.medians(metric)
        if values and median is not None and metric.better == LOWER:
            yield _entry(name, metric, median, values, "\n".join((candidate.line(metric_name), *mismatches)))


def _entry(name: str, metric: Metric, value: float, values: Sequence[float], extra: str) -> Entry:
    span = f"{min(values):.6g}–{max(values):.6g}"
    unit = metric.unit.recorded
    return {"name": f"{name}: {metric.name}", "unit": unit, "value": value, "range": span, "extra": extra}


FORMAT = Format(
    "action-benchmark",
    {"comparison.action-benchmark.json": lambda report, fail_on: as_json(of_comparison(report))},
    {"figures.action-benchmark.json": lambda rows: as_json(of_figures(rows))},
)
