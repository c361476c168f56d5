"""A comparison as one table: a row per candidate and figure, counts among them, values in the units of the record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ttsbench.reports import figures
from ttsbench.reports.formats.format import Format
from ttsbench.reports.formats.values import as_csv, as_parquet
from ttsbench.reports.tables.table import Table
from ttsbench.reports.tables.verdicts import CandidateReport, Report

COLUMNS = (
    "candidate", "baseline", "point", "kind", "figure", "unit", "baseline_value", "candidate_value", "ratio", "low",
    "high", "threshold", "mde", "pairs", "verdict", "reason", "quality", "mismatch",
)  # fmt: skip


def rows(report: Report) -> Table:
    mismatch = "; ".join(report.mismatches)
    rows = ((*row, "; ".join(c.faults), mismatch) for c in report.candidates for row in _rows(c))
    return Table.of("", COLUMNS, tuple(rows))


def _rows(candidate: CandidateReport) -> Iterator[tuple[Any, ...]]:
    match = candidate.match
    labels, pairs = (match.candidate, match.baseline, match.point), len(match.pairing.valid)
    for change in candidate.comparison.counts:
        values = (change.baseline, change.candidate)
        unit, verdict = change.count.unit.recorded, str(change.verdict)
        yield (*labels, "count", change.count.name, unit, *values, *(None,) * 5, pairs, verdict, change.reason)
    for metric, judgement in candidate.judged:
        estimates = map(_finite, (judgement.ratio, judgement.low, judgement.high, judgement.threshold, judgement.mde))
        medians = candidate.medians(metric)
        judged = (judgement.pairs, str(judgement.verdict), judgement.reason)
        yield (*labels, "figure", metric.name, metric.unit.recorded, *medians, *estimates, *judged)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


CSV = Format(
    "csv",
    {"comparison.csv": lambda report, fail_on: as_csv(rows(report))},
    {"figures.csv": lambda figure_rows: as_csv(figures.rows(figure_rows))},
)
PARQUET = Format(
    "parquet",
    {"comparison.parquet": lambda report, fail_on: as_parquet(rows(report))},
    {"figures.parquet": lambda figure_rows: as_parquet(figures.rows(figure_rows))},
)
FORMATS = (CSV, PARQUET)
