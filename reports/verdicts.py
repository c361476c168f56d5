"""A comparison as it is read: tables for the console and Markdown, and plain data for programs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench import records
from ttsbench.records import Cell
from ttsbench.reports import comparison, markdown, metrics
from ttsbench.reports.comparison import Comparison
from ttsbench.reports.decision import DIFFERENT, Judgement, Verdict
from ttsbench.reports.exact import Change
from ttsbench.reports.metrics import Metric
from ttsbench.reports.pairing import Pair
from ttsbench.reports.sides import Match
from ttsbench.reports.statistics import finite
from ttsbench.reports.tables import Table

SCHEMA_VERSION = 1
FIGURES = {metric.name: metric for metric in comparison.GATING}
COLUMNS = ("stack", "figure", "baseline", "candidate", "ratio", "95 %", "verdict")
REASONS_MAX = 3
QUALITY = "quality"
# Why a comparison may fail, the gravest first.
REASONS = (Verdict.SLOWER, QUALITY, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Compared:
    """One candidate, decided."""

    match: Match
    found: Comparison

    @property
    def name(self) -> str:
        """The candidate, at its point."""
        return f"{self.match.candidate} ({self.match.point})" if self.match.point else self.match.candidate

    @property
    def faults(self) -> tuple[str, ...]:
        """How the candidate's output is beyond the limits of quality."""
        cells = [cell for pair in self.match.pairing.pairs for cell in pair.candidate]
        return tuple(dict.fromkeys(fault for cell in cells for fault in cell.faults))

    def values(self, metric: Metric) -> list[float]:
        """The candidate's, of each process that counts."""
        return finite(metric.of(cell) for pair in self.match.pairing.valid for cell in pair.candidate)

    def middles(self, metric: Metric) -> tuple[float | None, float | None]:
        """The medians of baseline and candidate."""
        valid = self.match.pairing.valid
        return middle(metric, valid, "baseline"), middle(metric, valid, "candidate")

    def told(self, name: str) -> str:
        """One figure in a line."""
        metric, judgement = FIGURES[name], self.found.judgements[name]
        before, after = map(metric.text, self.middles(metric))
        ratio, interval = _interval(judgement)
        return f"{metric.label} {before} → {after}, ratio {ratio} ({interval}): {judgement.verdict}" + (
            f", {judgement.reason}" if judgement.reason else ""
        )


@dataclass(frozen=True)
class Report:
    """All candidates, and what a reader has to know of all of them."""

    compared: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()


def names(report: Report, length_max: int = 1000) -> list[str]:
    """The candidates', each unlike the others: two runs may have a stack of one name."""
    found: list[str] = []
    for one in report.compared:
        short, number = one.name[:length_max], 1
        name = short
        while name in found:
            number += 1
            name = f"{short[: length_max - 8]} #{number}"
        found.append(name)
    return found


def complaints(one: Compared) -> list[tuple[str, str]]:
    """Which reasons to fail hold for a candidate, each with what there is to say of it; the gravest first."""
    judged = [(judgement.verdict, one.told(name)) for name, judgement in one.found.judgements.items()]
    if not judged:
        judged = [(Verdict.INCONCLUSIVE, "; ".join(notes(one)) or "there is no figure")]
    found = [*judged, *((QUALITY, fault) for fault in one.faults)]
    return [(reason, told) for reason in REASONS for kind, told in found if kind == reason]


def gravest(compared: Sequence[Compared]) -> str:
    """What a reader has to know first: a reason to fail, or the verdict."""
    held = {reason for one in compared for reason, _ in complaints(one)}
    said = {one.found.verdict for one in compared}
    return next(kind for kind in (*REASONS, Verdict.FASTER, Verdict.SAME) if kind in held | said)


def tables(report: Report) -> list[Table]:
    """A table per baseline and point."""
    groups: dict[tuple[str, str], list[Compared]] = {}
    for one in report.compared:
        groups.setdefault((one.match.baseline, one.match.point), []).append(one)
    return [
        Table(
            ", ".join(part for part in (f"against {baseline}", point, "MISMATCH" * bool(report.mismatches)) if part),
            COLUMNS,
            tuple(row for one in group for row in _rows(one)),
            (*(note for one in group for note in notes(one)), *(f"MISMATCH: {told}" for told in report.mismatches)),
        )
        for (baseline, point), group in groups.items()
    ]


def _rows(one: Compared) -> Iterator[tuple[str, ...]]:
    for change in one.found.counts:
        if change.change in (Change.MORE, Change.FEWER):
            counts = [change.count.text(value) for value in (change.baseline, change.candidate)]
            yield (one.match.candidate, change.count.label, *counts, "", "", str(change.change))
    for name, judgement in one.found.judgements.items():
        metric = FIGURES[name]
        middles = map(metric.text, one.middles(metric))
        yield (one.match.candidate, metric.label, *middles, *_interval(judgement), str(judgement.verdict))
    if not one.found.judgements:
        yield (one.match.candidate, "–", "–", "–", "–", "–", str(Verdict.INCONCLUSIVE))


def _interval(judgement: Judgement) -> tuple[str, str]:
    if not math.isfinite(judgement.ratio):
        return "–", "–"
    return f"{judgement.ratio:.3f}", f"{judgement.low:.3f}–{judgement.high:.3f}"


def middle(metric: Metric, pairs: Sequence[Pair], side: str) -> float | None:
    """The median over the processes that count."""
    cells: list[Cell] = [cell for pair in pairs for cell in getattr(pair, side)]
    values = [value for cell in cells if (value := metric.of(cell)) is not None]
    return statistics.median(values) if values else None


def notes(one: Compared) -> list[str]:
    """What explains a verdict, or the lack of one."""
    told = [*one.match.notes, *_explained(one)]
    open_for: dict[str, list[str]] = {}
    for name, judgement in one.found.judgements.items():
        if not judgement.decided:
            open_for.setdefault(_undecided(judgement), []).append(FIGURES[name].label)
    told += [f"{', '.join(labels)}: {reason}" for reason, labels in open_for.items()]
    told += [f"{change.count.label}: {change.reason}" for change in one.found.counts if change.reason]
    void = list(dict.fromkeys(reason for pair in one.match.pairing.void for reason in pair.void))
    told += [f"{len(one.match.pairing.void)} pairs are void: {'; '.join(void[:REASONS_MAX])}"] if void else []
    told += [f"quality failed: {fault}" for fault in one.faults]
    return [f"{one.match.candidate}: {text}" for text in told]


def _undecided(judgement: Judgement) -> str:
    seen = f"; {judgement.pairs} pairs like these show slowdowns from {judgement.mde:.0%} on"
    return judgement.reason + (seen if math.isfinite(judgement.mde) else "")


def _explained(one: Compared) -> list[str]:
    """Which stage a change of the whole comes from."""
    whole = one.found.judgements.get(metrics.RTF.name)
    stages = stage_changes(one.match.pairing.valid)
    if whole is None or whole.verdict not in DIFFERENT or not stages:
        return []
    name, (before, after) = max(stages.items(), key=lambda item: abs(item[1][1] - item[1][0]))
    total = sum(after - before for before, after in stages.values())
    more, of_all = (after - before) * 1e3, total * 1e3
    return [f"{name} took {before * 1e3:,.1f} ms and takes {after * 1e3:,.1f} ({more:+,.1f} of {of_all:+,.1f} ms)"]


def stage_changes(pairs: Sequence[Pair]) -> dict[str, tuple[float, float]]:
    """Seconds of each stage on both sides, by the host's clock; those that both have."""
    found = {}
    for stage in metrics.STAGES:
        metric = Metric(stage, stage, metrics.over_utterances(metrics.stage_seconds(stage)))
        before, after = (middle(metric, pairs, side) for side in ("baseline", "candidate"))
        if before is not None and after is not None:
            found[stage] = (before, after)
    return found


def to_markdown(report: Report) -> str:
    """The whole document."""
    warned = [f"**These runs are not comparable: {markdown.escape(told)}.**" for told in report.mismatches]
    said = [f"- {markdown.escape(one.name)}: **{one.found.verdict}**" for one in report.compared]
    told = [f"- {markdown.escape(note)}" for note in report.notes]
    parts = ["# Comparison", *warned, "\n".join(said), *map(markdown.render, tables(report)), "\n".join(told)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_data(report: Report) -> Mapping[str, Any]:
    """Plain data, every figure of it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "mismatches": list(report.mismatches),
        "notes": list(report.notes),
        "comparisons": [_data(one) for one in report.compared],
    }


def _data(one: Compared) -> Mapping[str, Any]:
    return {
        "candidate": one.match.candidate,
        "baseline": one.match.baseline,
        "point": one.match.point,
        "verdict": str(one.found.verdict),
        "figures": {name: records.to_json(judgement) for name, judgement in one.found.judgements.items()},
        "counts": {
            change.count.name: {"baseline": change.baseline, "candidate": change.candidate, "change": change.change}
            for change in one.found.counts
        },
        "stages": {name: {"baseline": a, "candidate": b} for name, (a, b) in _stages(one).items()},
        "pairs": len(one.match.pairing.pairs),
        "void": [list(pair.void) for pair in one.match.pairing.void],
        "faults": list(one.faults),
        "notes": notes(one),
    }


def _stages(one: Compared) -> dict[str, tuple[float, float]]:
    return stage_changes(one.match.pairing.valid)
