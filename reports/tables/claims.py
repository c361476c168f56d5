"""What others claim, what was measured here, and a verdict for each. Pure: a record is all it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ttsbench.errors import RecordError
from ttsbench.records.points import holds_at
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult
from ttsbench.reports.tables.table import Table

HOLDS, DOES_NOT_HOLD, NOT_SHOWN, NOT_MEASURABLE = "holds", "does not hold", "not shown", "not measurable here"


@dataclass(frozen=True)
class ClaimResult:
    """One claim at one point: what was measured here, and what follows for the claim."""

    claim: Mapping[str, Any]
    point: str
    claimed: str
    ours: str
    verdict: str
    because: str

    @property
    def sentence(self) -> str:
        name = f"{self.claim['id']} ({self.point})" if self.point else str(self.claim["id"])
        return f"{name}: {self.verdict}: {self.because}"


@dataclass(frozen=True)
class _Range:
    """Our figure in the claim's own terms, larger meaning more of what is claimed; `bound` is what it has to reach."""

    middle: float
    least: float
    most: float
    processes: int


def overview(run: Run) -> list[Table]:
    """One table of all claims, a sentence for each below it; none where nothing is claimed."""
    judged = results(run)
    if not judged:
        return []
    rows = tuple((named(result), result.claimed, result.ours, result.verdict) for result in judged)
    notes = tuple(result.sentence for result in judged)
    return [Table.of("Claims", ("claim", "claimed", "ours", "verdict"), rows, notes)]


def results(run: Run) -> list[ClaimResult]:
    """Every claim at every point that it is about."""
    claims = run.scenario_understood.get("claims") or ()
    if not isinstance(claims, list | tuple) or not all(map(_is_claim, claims)):
        raise RecordError(f"{run.run_id} holds claims that are none", mend="Its record is broken; run it again")
    return [_judged(run, claim, stacks) for claim in claims for stacks in _points(run, claim.get("at") or {})]


def _is_claim(data: Any) -> bool:
    """As a scenario has them; a record may have been written by anybody."""
    return (
        isinstance(data, dict)
        and all(isinstance(data.get(name), str) for name in ("id", "stack", "metric", "kind"))
        and data["metric"] in metrics.BY_NAME
        and data["kind"] in _KINDS
        and isinstance(data.get("at") or {}, dict)
        and isinstance(data.get("high" if data["kind"] == "value" else "low"), int | float)
        and isinstance(data.get("high", 0.0) or 0.0, int | float)
    )


def _points(run: Run, at: Mapping[str, Any]) -> Iterator[list[StackResult]]:
    for stacks in run_tables.results(run):
        if holds_at(at, stacks[0].point):
            yield stacks


def _judged(run: Run, claim: Mapping[str, Any], stacks: list[StackResult]) -> ClaimResult:
    metric, point = metrics.BY_NAME[claim["metric"]], run_tables.point_name(stacks[0].point)
    cells = [c for c in run.cells if c.kind == "timed" and run_tables.point_name(c.point) == point]
    by_label = {stack.label: stack for stack in stacks}
    needed = [claim["stack"]] if claim["kind"] == "value" else [claim["stack"], run.baseline]
    reason = next((r for label in needed if (r := _hindrance(label, cells, by_label.get(label), metric))), "")
    if reason:
        ours, verdict, because = "–", NOT_MEASURABLE, reason
    else:
        mine = by_label[claim["stack"]].estimate(metric)
        theirs = by_label[run.baseline].estimate(metric) if run.baseline in by_label else None
        assert mine is not None
        measured = _KINDS[claim["kind"]](mine, theirs or mine)
        verdict, because = _verdict(claim, measured, metric)
        ours = _written(claim, metric, measured.middle)
        if wrong := [c for c in cells if c.stack == claim["stack"] and c.faults]:
            verdict, because = DOES_NOT_HOLD, f"its quality failed: {wrong[0].faults[0]}"
    return ClaimResult(claim, point, _claimed(claim, metric), ours, verdict, because)


def _hindrance(label: str, cells: list[Cell], stack: StackResult | None, metric: Metric) -> str:
    """Why no figure of this stack can be compared with the claim; empty when there is one."""
    own = [cell for cell in cells if cell.stack == label]
    if not any(cell.ok for cell in own):
        reason = next((f"{cell.status}: {cell.reason}" for cell in own), "it is left out at this point")
        return f"{label} has no figures: {reason}"
    if fell_back := next((cell.fell_back for cell in own if cell.fell_back), ()):
        return f"{label} {'; '.join(fell_back)}"
    if stack is None or stack.estimate(metric) is None:
        return f"{label} has no {metric.name} on this device or in these passes"
    return ""


def _speedup(mine: Estimate, theirs: Estimate) -> _Range:
    return _Range(theirs.median / mine.median, theirs.low / mine.high, theirs.high / mine.low, _fewer(mine, theirs))


def _saving(mine: Estimate, theirs: Estimate) -> _Range:
    least, most = 1 - mine.high / theirs.low, 1 - mine.low / theirs.high
    return _Range(1 - mine.median / theirs.median, least, most, _fewer(mine, theirs))


def _difference(mine: Estimate, theirs: Estimate) -> _Range:
    least, most = theirs.low - mine.high, theirs.high - mine.low
    return _Range(theirs.median - mine.median, least, most, _fewer(mine, theirs))


def _value(mine: Estimate, _: Estimate) -> _Range:
    return _Range(mine.median, mine.low, mine.high, mine.processes)


def _fewer(mine: Estimate, theirs: Estimate) -> int:
    return min(mine.processes, theirs.processes)


_KINDS: Mapping[str, Callable[[Estimate, Estimate], _Range]] = {
    "speedup": _speedup,
    "saving": _saving,
    "difference": _difference,
    "value": _value,
}


def _verdict(claim: Mapping[str, Any], measured: _Range, metric: Metric) -> tuple[str, str]:
    """Our median against the claim, unless the processes lie so far apart that it could be either."""
    ours, least, most = (_written(claim, metric, v) for v in (measured.middle, measured.least, measured.most))
    if claim["kind"] == "value":
        reached, straddles = measured.middle <= claim["high"], measured.least <= claim["high"] < measured.most
    else:
        reached, straddles = measured.middle >= claim["low"], measured.least < claim["low"] <= measured.most
    if measured.processes < 2 and not metric.exact:
        return NOT_SHOWN, f"ours is {ours}, but one process does not show the spread"
    if straddles:
        return NOT_SHOWN, f"ours is {ours}, but the processes lie between {least} and {most}"
    return (HOLDS if reached else DOES_NOT_HOLD), f"ours is {ours}, claimed is {_claimed(claim, metric)}"


def _claimed(claim: Mapping[str, Any], metric: Metric) -> str:
    low, high = claim.get("low"), claim.get("high")
    if claim["kind"] == "value":
        return f"≤ {_written(claim, metric, high)}"
    if high is None or high == low:
        return _written(claim, metric, low)
    return f"{_written(claim, metric, low)} to {_written(claim, metric, high)}"


def _written(claim: Mapping[str, Any], metric: Metric, value: Any) -> str:
    if claim["kind"] == "speedup":
        return f"{value:.2f}×"
    if claim["kind"] == "saving":
        return f"{value:.1%} less"
    less = " less" if claim["kind"] == "difference" else ""
    return f"{metric.text(value)} {metric.unit.shown}".strip() + less


def named(result: ClaimResult) -> str:
    """Its id, and where it is about one of several points, which."""
    return f"{result.claim['id']}, {result.point}" if result.point else str(result.claim["id"])
