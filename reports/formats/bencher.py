"""Bencher Metric Format: benchmark → measure → value, with a lower and an upper value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttsbench.reports import metrics
from ttsbench.reports.figures import Figure
from ttsbench.reports.formats.format import Format, as_json
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import CandidateReport, Report

NAME_MAX = 1024
MISMATCH = "MISMATCH: "
Measures = dict[str, dict[str, float]]


def of_figures(figures: Sequence[Figure]) -> dict[str, Measures]:
    """Between the least and the greatest process."""
    benchmarks: dict[str, Measures] = {}
    for figure in figures:
        measures = benchmarks.setdefault(figure.name[:NAME_MAX], {})
        measures[slug(figure.metric)] = _measure(figure.median, figure.low, figure.high)
    return benchmarks


def of_comparison(report: Report) -> dict[str, Measures]:
    """Per metric the candidate's value, and its ratio to the baseline with the interval that was decided on."""
    mark = MISMATCH if report.mismatches else ""
    named = zip(verdicts.names(report, NAME_MAX - len(mark)), report.candidates, strict=True)
    return {f"{mark}{name}": measures for name, candidate in named if (measures := _measures(candidate))}


def _measures(candidate: CandidateReport) -> Measures:
    measures: Measures = {}
    for name, judgement in candidate.comparison.judgements_of_wholes.items():
        metric = metrics.BY_NAME[name]
        values, (_, median) = candidate.values(metric), candidate.medians(metric)
        if values and median is not None:
            measures[slug(name)] = _measure(median, min(values), max(values))
        if math.isfinite(judgement.ratio):
            measures[f"{slug(name)}-ratio"] = _measure(judgement.ratio, judgement.low, judgement.high)
    return measures


def slug(name: str) -> str:
    """As Bencher writes the name of a measure, which says its unit."""
    return name.replace("_", "-")


def _measure(value: float, low: float, high: float) -> dict[str, float]:
    ends = {"value": value, "lower_value": low, "upper_value": high}
    return {name: number for name, number in ends.items() if math.isfinite(number)}


FORMAT = Format(
    "bencher",
    {"comparison.bencher.json": lambda report, fail_on: as_json(of_comparison(report))},
    {"figures.bencher.json": lambda rows: as_json(of_figures(rows))},
)
