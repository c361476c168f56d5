"""A comparison as one table: a row per candidate and figure, counts among them, values in the units of the record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ttsbench.reports.decide import comparison
from ttsbench.reports.figures import UNITS
from ttsbench.reports.tables.table import Table
from ttsbench.reports.tables.verdicts import Compared, Report

COLUMNS = (
    "candidate", "baseline", "point", "kind", "figure", "unit", "baseline_value", "candidate_value", "ratio", "low",
    "high", "threshold", "mde", "pairs", "verdict", "reason", "quality", "mismatch",
)  # fmt: skip


def rows(report: Report) -> Table:
    """Of all candidates."""
    mismatch = "; ".join(report.mismatches)
    found = ((*row, "; ".join(one.faults), mismatch) for one in report.compared for row in _rows(one))
    return Table.of("", COLUMNS, tuple(found))


def _rows(one: Compared) -> Iterator[tuple[Any, ...]]:
    who = (one.match.candidate, one.match.baseline, one.match.point)
    pairs = len(one.match.pairing.valid)
    for change in one.found.counts:
        values = (change.baseline, change.candidate)
        yield (*who, "count", change.count.name, "", *values, *(None,) * 5, pairs, str(change.change), change.reason)
    for name, found in one.found.judgements.items():
        estimates = map(_finite, (found.ratio, found.low, found.high, found.threshold, found.mde))
        values = one.middles(comparison.FIGURES[name])
        judged = (found.pairs, str(found.verdict), found.reason)
        yield (*who, "figure", name, UNITS[name], *values, *estimates, *judged)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
