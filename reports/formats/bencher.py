"""Bencher Metric Format: benchmark → measure → value, with a lower and an upper value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttsbench.reports.decide import comparison
from ttsbench.reports.figures import Figure
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import Compared, Report

NAME_MAX = 1024
MISMATCH = "MISMATCH: "
Measures = dict[str, dict[str, float]]


def of_figures(found: Sequence[Figure]) -> dict[str, Measures]:
    """Between the least and the greatest process."""
    benchmarks: dict[str, Measures] = {}
    for figure in found:
        measures = benchmarks.setdefault(figure.name[:NAME_MAX], {})
        measures[slug(figure.metric)] = _measure(figure.median, figure.low, figure.high)
    return benchmarks


def of_comparison(report: Report) -> dict[str, Measures]:
    """Per figure the candidate's value, and its ratio to the baseline with the interval that was decided on."""
    mark = MISMATCH if report.mismatches else ""
    found = zip(verdicts.names(report, NAME_MAX - len(mark)), report.compared, strict=True)
    return {f"{mark}{name}": measures for name, one in found if (measures := _measures(one))}


def _measures(one: Compared) -> Measures:
    found: Measures = {}
    for name, judgement in one.found.always_told.items():
        metric = comparison.FIGURES[name]
        values, (_, value) = one.values(metric), one.middles(metric)
        if values and value is not None:
            found[slug(name)] = _measure(value, min(values), max(values))
        if math.isfinite(judgement.ratio):
            found[f"{slug(name)}-ratio"] = _measure(judgement.ratio, judgement.low, judgement.high)
    return found


def slug(name: str) -> str:
    """As Bencher writes the name of a measure, which says its unit."""
    return name.replace("_", "-")


def _measure(value: float, low: float, high: float) -> dict[str, float]:
    given = {"value": value, "lower_value": low, "upper_value": high}
    return {name: number for name, number in given.items() if math.isfinite(number)}
