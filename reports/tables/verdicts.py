"""A comparison as it is read: tables for the console and Markdown, and plain data for programs."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ttsbench.records import runs
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide.comparison import FIGURES, Comparison
from ttsbench.reports.decide.decision import DIFFERENT, Judgement, Verdict
from ttsbench.reports.decide.exact_counts import Change
from ttsbench.reports.decide.pairing import Pair
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.decide.statistics import finite
from ttsbench.reports.metrics import S3GEN_STAGES, Metric
from ttsbench.reports.tables import markdown, profile_diff, tradeoffs, words
from ttsbench.reports.tables.profile_diff import Difference
from ttsbench.reports.tables.table import TEXT, Table

SCHEMA_VERSION = 1
COLUMNS = ("stack", "figure", "baseline", "candidate", "ratio", "95 %", "verdict")
ENVIRONMENT_FIELDS = ("name", "baseline", "candidate")
REASONS_MAX = 3
QUALITY = "quality"
# Why a comparison may fail, the gravest first.
REASONS = (Verdict.SLOWER, QUALITY, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class Compared:
    """One candidate, decided."""

    match: Match
    found: Comparison
    # From a profile of the baseline to one of the candidate, where there are both.
    profile: Difference | None = None

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
        return finite(metric.of(cell) for pair in self.match.pairing.behind(metric) for cell in pair.candidate)

    def middles(self, metric: Metric) -> tuple[float | None, float | None]:
        """The medians of baseline and candidate."""
        pairs = self.match.pairing.behind(metric)
        return middle(metric, pairs, "baseline"), middle(metric, pairs, "candidate")

    def told(self, name: str) -> str:
        """One figure in a line."""
        metric, judgement = FIGURES[name], self.found.judgements[name]
        before, after = map(metric.text, self.middles(metric))
        ratio, interval = _interval(judgement)
        return f"{metric.label} {before} → {after}, ratio {ratio} ({interval}): {judgement.verdict}" + (
            f", {judgement.reason}" if judgement.reason else ""
        )

    @property
    def sentence(self) -> str:
        """What came of it, in words."""
        return words.sentence(self.match, self.found)

    @functools.cached_property
    def stage_seconds(self) -> dict[str, tuple[float, float]]:
        """Of each stage on both sides."""
        return stage_changes(self.match.pairing.at_one_pace)

    def seconds_of(self, stages: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Of these stages; S3Gen's by the device's clock where there is one, since the host runs ahead."""
        on_device = stage_changes(self.match.pairing.at_one_pace, device=True) if stages == S3GEN_STAGES else {}
        found = on_device if on_device.keys() >= set(stages) else self.stage_seconds
        return {stage: found[stage] for stage in stages if stage in found}

    @functools.cached_property
    def stages(self) -> Difference | None:
        """Where the time of an utterance goes on both sides, by the host's clock."""
        changes = [profile_diff.Change(stage, *seconds) for stage, seconds in self.stage_seconds.items()]
        changes.sort(key=lambda change: -abs(change.seconds))
        walls = self.middles(metrics.WALL)
        if not changes or walls[0] is None or walls[1] is None:
            return None
        before, after = profile_diff.labels(self.match.baseline, self.match.candidate)
        return Difference(before, after, walls[0], walls[1], False, tuple(changes), (), ())


@dataclass(frozen=True)
class Report:
    """All candidates, and what a reader has to know of all of them."""

    compared: tuple[Compared, ...]
    notes: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    # What else differs in what the sides ran on: its name, the baseline's and the candidate's.
    environments: tuple[tuple[str, str, str], ...] = ()
    # Of the sides, the baseline's first; one alone, where a run's stacks are compared with each other.
    names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What is compared with what."""
        if len(self.names) < 2:
            return "".join(self.names) or "Comparison"
        return f"{', '.join(self.names[1:])} against {self.names[0]}"


# What each time is made of, the whole first.
STAGES_OF = {
    metrics.RTF.name: metrics.STAGES,
    metrics.DECODE.name: ("decode",),
    metrics.S3GEN_RTF.name: S3GEN_STAGES,
}


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
    hungrier = [] if one.found.hungrier is None else [(Verdict.SLOWER, words.hunger(one.found.hungrier))]
    found = [*judged, *hungrier, *((QUALITY, fault) for fault in one.faults)]
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
        Table.of(
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
    """What explains a verdict, or the lack of one, and whose."""
    return [f"{one.match.candidate}: {text}" for text in reasons(one)]


def reasons(one: Compared) -> list[str]:
    """What explains a verdict, or the lack of one."""
    told = [*one.match.notes, *_explained(one), *_by_kernels(one)]
    open_for: dict[str, list[str]] = {}
    for name, judgement in one.found.judgements.items():
        if not judgement.decided:
            open_for.setdefault(_undecided(judgement), []).append(FIGURES[name].label)
    told += [f"{', '.join(labels)}: {reason}" for reason, labels in open_for.items()]
    told += [f"{change.count.label}: {change.reason}" for change in one.found.counts if change.reason]
    void = list(dict.fromkeys(reason for pair in one.match.pairing.void for reason in pair.void))
    told += [f"{len(one.match.pairing.void)} pairs are void: {'; '.join(void[:REASONS_MAX])}"] if void else []
    left_out, spoken = one.match.pairing.left_out
    told += [f"{left_out} of {spoken} utterances do not count: none beside them at the same pace"] if left_out else []
    return told + [f"quality failed: {fault}" for fault in one.faults]


def _undecided(judgement: Judgement) -> str:
    seen = f"; {judgement.pairs} pairs like these show slowdowns from {judgement.mde:.0%} on"
    return judgement.reason + (seen if math.isfinite(judgement.mde) else "")


def _explained(one: Compared) -> Iterator[str]:
    """Which stage a change of the whole comes from, or where only a part differs, which of that part."""
    for name, stages in STAGES_OF.items():
        judgement = one.found.judgements.get(name)
        if judgement is not None and judgement.verdict in DIFFERENT and (seconds := one.seconds_of(stages)):
            stage, (before, after) = max(seconds.items(), key=lambda item: abs(item[1][1] - item[1][0]))
            more, of_all = after - before, sum(end - start for start, end in seconds.values())
            share = f"({more * 1e3:+,.1f} of {of_all * 1e3:+,.1f} ms)"
            yield f"{stage} took {before * 1e3:,.1f} ms and takes {after * 1e3:,.1f} {share}"


def _by_kernels(one: Compared) -> list[str]:
    """Which kernels, or on a CPU which op, differ most between the profiles of both sides."""
    if one.profile is None or one.found.verdict not in DIFFERENT:
        return []
    families = one.profile.families
    what = "kernel family" if families else "op"
    return [
        f"between the profiles the {what} {change.name} goes from {change.before_seconds * 1e3:,.1f} to "
        f"{change.after_seconds * 1e3:,.1f} ms ({change.seconds * 1e3:+,.1f} ms)"
        for change in (families or one.profile.ops)[:1]
    ]


def stage_changes(pairs: Sequence[Pair], *, device: bool = False) -> dict[str, tuple[float, float]]:
    """Seconds of each stage on both sides, by the host's clock or the device's; those that both have."""
    before = _stage_seconds((cell for pair in pairs for cell in pair.baseline), device)
    after = _stage_seconds((cell for pair in pairs for cell in pair.candidate), device)
    return {stage: (before[stage], after[stage]) for stage in metrics.STAGES if stage in before and stage in after}


def _stage_seconds(cells: Iterable[Cell], device: bool) -> dict[str, float]:
    """The median over the processes."""
    clocks = {stage: metrics.OverUtterances(metrics.stage_seconds(stage, device=device)) for stage in metrics.STAGES}
    found: dict[str, list[float]] = {}
    for cell in cells:
        for stage, of in clocks.items():
            if (seconds := of(cell)) is not None:
                found.setdefault(stage, []).append(seconds)
    return {stage: statistics.median(seconds) for stage, seconds in found.items()}


def to_markdown(report: Report) -> str:
    """The whole document."""
    warned = [f"**These runs are not comparable: {markdown.escape(told)}.**" for told in report.mismatches]
    said = [f"- {_marked(report)}**{one.found.verdict}**: {markdown.escape(one.sentence)}" for one in report.compared]
    told = [f"- {markdown.escape(note)}" for note in report.notes]
    costs = tradeoffs.beside([one.match for one in report.compared])
    parts = [
        f"# {markdown.escape(report.title)}",
        *warned,
        "\n".join(said),
        *map(markdown.render, tables(report)),
        *([markdown.render(costs)] if costs else []),
        *(part for one in report.compared for part in _causes(one)),
        *([markdown.render(environments(report))] if report.environments else []),
        "\n".join(told),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _marked(report: Report) -> str:
    return "**MISMATCH** " if report.mismatches else ""


def _causes(one: Compared) -> Iterator[str]:
    """Of a candidate that differs: its stages and, where both sides were profiled, its kernels and ops."""
    if one.found.verdict not in DIFFERENT:
        return
    for source, found in (("", one.stages), (" (profiled)", one.profile)):
        for table in profile_diff.tables(found) if found else ():
            first = table.first(profile_diff.ROWS_MAX)
            yield markdown.render(replace(first, title=f"{one.name}: {table.title}{source}"))


def environments(report: Report) -> Table:
    """What else differs in what the sides ran on; no reason not to compare, but perhaps one for the difference."""
    return Table.of(
        "Differences in what they ran on", ("what", "baseline", "candidate"), report.environments, unit=TEXT
    )


def to_data(report: Report) -> Mapping[str, Any]:
    """Plain data, every figure of it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "mismatches": list(report.mismatches),
        "environments": [dict(zip(ENVIRONMENT_FIELDS, row, strict=True)) for row in report.environments],
        "notes": list(report.notes),
        "comparisons": [_data(one) for one in report.compared],
    }


def _data(one: Compared) -> Mapping[str, Any]:
    return {
        "candidate": one.match.candidate,
        "baseline": one.match.baseline,
        "point": one.match.point,
        "verdict": str(one.found.verdict),
        "sentence": one.sentence,
        "figures": {name: runs.to_json(judgement) for name, judgement in one.found.judgements.items()},
        "counts": {
            change.count.name: {"baseline": change.baseline, "candidate": change.candidate, "change": change.change}
            for change in one.found.counts
        },
        "stages": {name: {"baseline": a, "candidate": b} for name, (a, b) in one.stage_seconds.items()},
        "pairs": len(one.match.pairing.pairs),
        "void": [list(pair.void) for pair in one.match.pairing.void],
        "faults": list(one.faults),
        "profile": runs.to_json(one.profile) if one.profile else None,
        "notes": notes(one),
    }
