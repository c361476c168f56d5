"""A comparison as it is read: tables for the console and Markdown, and plain data for programs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ttsbench.records import runs
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.decision import DIFFERENT, Judgement, Verdict
from ttsbench.reports.decide.exact_counts import CountVerdict
from ttsbench.reports.decide.pairing import BASELINE, CANDIDATE, Pairing
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.metrics import S3GEN_STAGES, STAGES, Metric
from ttsbench.reports.readings import MedianOfUtterances, stage_seconds
from ttsbench.reports.tables import markdown, profile_diff, tradeoffs, words
from ttsbench.reports.tables.profile_diff import ProfileDifference
from ttsbench.reports.tables.table import TEXT, Table

SCHEMA_VERSION = 1
COLUMNS = ("stack", "figure", "baseline", "candidate", "ratio", "95 %", "verdict")
ENVIRONMENT_FIELDS = ("name", "baseline", "candidate")
REASONS_MAX = 3
# Of more points than these the tables are joined to one, and what is the same for many of them is said once.
POINTS_MAX = 50
QUALITY = "quality"
# Why a comparison may fail, the gravest first.
REASONS = (Verdict.SLOWER, QUALITY, Verdict.INCONCLUSIVE)


@dataclass(frozen=True)
class CandidateReport:
    """One candidate, decided."""

    match: Match
    comparison: Comparison
    # From a profile of the baseline to one of the candidate, where there are both.
    profile: ProfileDifference | None = None

    @property
    def name(self) -> str:
        """The candidate, at its point."""
        return f"{self.match.candidate} ({self.match.point})" if self.match.point else self.match.candidate

    @property
    def judged(self) -> Iterator[tuple[Metric, Judgement]]:
        return ((metrics.BY_NAME[name], judgement) for name, judgement in self.comparison.judgements.items())

    @property
    def faults(self) -> tuple[str, ...]:
        """How the candidate's output is beyond the limits of quality."""
        cells = [cell for pair in self.match.pairing.pairs for cell in pair.candidate]
        return tuple(dict.fromkeys(fault for cell in cells for fault in cell.faults))

    def values(self, metric: Metric) -> list[float]:
        """The candidate's, of each process that counts."""
        return self.match.pairing.values(CANDIDATE, metric)

    def medians(self, metric: Metric) -> tuple[float | None, float | None]:
        """Those of baseline and candidate."""
        return self.match.pairing.median(BASELINE, metric), self.match.pairing.median(CANDIDATE, metric)

    def line(self, name: str) -> str:
        """One metric in a line."""
        metric, judgement = metrics.BY_NAME[name], self.comparison.judgements[name]
        before, after = map(metric.text, self.medians(metric))
        return f"{metric.label} {before} → {after}, {judgement.verdict}: {words.explanation(metric, judgement)}"

    @property
    def sentence(self) -> str:
        return words.sentence(self.match, self.comparison)

    @functools.cached_property
    def stage_seconds(self) -> dict[str, tuple[float, float]]:
        """Of each stage on both sides."""
        return stage_changes(self.match.pairing)

    def seconds_of(self, stages: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Of these stages; S3Gen's by the device's clock where there is one, since the host runs ahead."""
        on_device = stage_changes(self.match.pairing, device=True) if stages == S3GEN_STAGES else {}
        seconds = on_device if on_device.keys() >= set(stages) else self.stage_seconds
        return {stage: seconds[stage] for stage in stages if stage in seconds}

    @functools.cached_property
    def stages(self) -> ProfileDifference | None:
        """Where the time of an utterance goes on both sides, by the host's clock."""
        changes = [profile_diff.ProfileChange(stage, *seconds) for stage, seconds in self.stage_seconds.items()]
        changes.sort(key=lambda change: -abs(change.seconds))
        walls = self.medians(metrics.WALL)
        if not changes or walls[0] is None or walls[1] is None:
            return None
        before, after = profile_diff.labels(self.match.baseline, self.match.candidate)
        return ProfileDifference(before, after, walls[0], walls[1], False, tuple(changes), (), ())


@dataclass(frozen=True)
class Report:
    """All candidates, and what a reader has to know of all of them."""

    candidates: tuple[CandidateReport, ...]
    notes: tuple[str, ...] = ()
    mismatches: tuple[str, ...] = ()
    # What else differs in what the sides ran on: its name, the baseline's and the candidate's.
    environments: tuple[tuple[str, str, str], ...] = ()
    # Of the sides, the baseline's first; one alone, where a run's stacks are compared with each other.
    names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        if len(self.names) < 2:
            return "".join(self.names) or "Comparison"
        return f"{', '.join(self.names[1:])} against {self.names[0]}"


def names(report: Report, length_max: int = 1000) -> list[str]:
    """The candidates', each unlike the others: two runs may have a stack of one name."""
    unique: dict[str, None] = {}
    for candidate in report.candidates:
        name = short = candidate.name[:length_max]
        numbers = itertools.count(2)
        while name in unique:
            name = f"{short[: length_max - 8]} #{next(numbers)}"
        unique[name] = None
    return list(unique)


def complaints(candidate: CandidateReport) -> list[tuple[str, str]]:
    """Which reasons to fail hold for a candidate, each with its explanation; the gravest first."""
    extra = candidate.comparison.extra_memory
    judgements = candidate.comparison.judgements
    judged = [(str(judgement.verdict), candidate.line(name)) for name, judgement in judgements.items()]
    if not judged:
        judged = [(Verdict.INCONCLUSIVE, "; ".join(notes(candidate)) or "there is no figure")]
    memory = [] if extra is None else [(Verdict.SLOWER, words.extra_memory(extra))]
    explained = [*judged, *memory, *((QUALITY, fault) for fault in candidate.faults)]
    return [(reason, text) for reason in REASONS for kind, text in explained if kind == reason]


def reasons_to_fail(candidate: CandidateReport) -> set[str]:
    verdicts: set[str] = {str(judgement.verdict) for judgement in candidate.comparison.judgements.values()}
    verdicts |= set() if verdicts else {Verdict.INCONCLUSIVE}
    verdicts |= set() if candidate.comparison.extra_memory is None else {Verdict.SLOWER}
    return (verdicts | ({QUALITY} if candidate.faults else set())) & set(REASONS)


def gravest(candidates: Sequence[CandidateReport]) -> str:
    """What a reader has to know first: a reason to fail, or the verdict."""
    hold = {reason for candidate in candidates for reason in reasons_to_fail(candidate)}
    hold |= {candidate.comparison.verdict for candidate in candidates}
    return next(kind for kind in (*REASONS, Verdict.FASTER, Verdict.SAME) if kind in hold)


def tables(report: Report) -> list[Table]:
    """A table per baseline and point; one per baseline, where there are many points."""
    joined = len({candidate.match.point for candidate in report.candidates}) > POINTS_MAX
    groups: dict[tuple[str, str], list[CandidateReport]] = {}
    for candidate in report.candidates:
        groups.setdefault((candidate.match.baseline, "" if joined else candidate.match.point), []).append(candidate)
    return [
        Table.of(
            ", ".join(part for part in (f"against {baseline}", point, "MISMATCH" * bool(report.mismatches)) if part),
            COLUMNS,
            tuple(row for candidate in group for row in _rows(candidate, joined=joined)),
            (*_joint_notes(group), *(f"MISMATCH: {mismatch}" for mismatch in report.mismatches)),
        )
        for (baseline, point), group in groups.items()
    ]


def _rows(candidate: CandidateReport, *, joined: bool) -> Iterator[tuple[str, ...]]:
    name = candidate.name if joined else candidate.match.candidate
    for change in candidate.comparison.counts:
        if change.verdict in (CountVerdict.MORE, CountVerdict.FEWER):
            counts = [change.count.text(value) for value in (change.baseline, change.candidate)]
            yield (name, change.count.label, *counts, "", "", str(change.verdict))
    for metric, judgement in candidate.judged:
        medians = map(metric.text, candidate.medians(metric))
        yield (name, metric.label, *medians, *_interval(judgement), str(judgement.verdict))
    if not candidate.comparison.judgements:
        yield (name, "–", "–", "–", "–", "–", str(Verdict.INCONCLUSIVE))


def _interval(judgement: Judgement) -> tuple[str, str]:
    if not math.isfinite(judgement.ratio):
        return "–", "–"
    return f"{judgement.ratio:.3f}", f"{judgement.low:.3f}–{judgement.high:.3f}"


def _joint_notes(group: Sequence[CandidateReport]) -> list[str]:
    """What explains the verdicts, and whose; what explains many of them is said once."""
    if len(group) <= POINTS_MAX:
        return [note for candidate in group for note in notes(candidate)]
    names_by_reason: dict[str, list[str]] = {}
    for candidate in group:
        for reason in reasons(candidate):
            names_by_reason.setdefault(reason, []).append(candidate.name)
    return [
        f"{names[0]}{f' and {len(names) - 1:,} more' if names[1:] else ''}: {reason}"
        for reason, names in names_by_reason.items()
    ]


def notes(candidate: CandidateReport) -> list[str]:
    """What explains a verdict, or the lack of one, and whose."""
    return [f"{candidate.match.candidate}: {text}" for text in reasons(candidate)]


def reasons(candidate: CandidateReport) -> list[str]:
    """What explains a verdict, or the lack of one."""
    pairing, comparison = candidate.match.pairing, candidate.comparison
    lines = [*candidate.match.notes, *_by_stage(candidate), *_by_kernels(candidate)]
    undecided: dict[str, list[str]] = {}
    for metric, judgement in candidate.judged:
        if not judgement.decided:
            undecided.setdefault(_why_undecided(judgement), []).append(metric.label)
    lines += [f"{', '.join(labels)}: {reason}" for reason, labels in undecided.items()]
    lines += [f"{change.count.label}: {change.reason}" for change in comparison.counts if change.reason]
    void = list(dict.fromkeys(reason for pair in pairing.void for reason in pair.void))
    lines += [f"{len(pairing.void)} pairs are void: {'; '.join(void[:REASONS_MAX])}"] if void else []
    left_out, utterances = pairing.left_out
    if left_out:
        lines.append(f"{left_out} of {utterances} utterances do not count: the other side has none at the same pace")
    return lines + [f"quality failed: {fault}" for fault in candidate.faults]


def _why_undecided(judgement: Judgement) -> str:
    visible = f"; {judgement.pairs} pairs like these show slowdowns of {judgement.mde:.0%} or more"
    return judgement.reason + (visible if math.isfinite(judgement.mde) else "")


def _by_stage(candidate: CandidateReport) -> Iterator[str]:
    """Which stage a change of the whole comes from, or where only a part differs, which of that part."""
    for metric, judgement in candidate.judged:
        if metric.stages and judgement.verdict in DIFFERENT and (seconds := candidate.seconds_of(metric.stages)):
            stage, (before, after) = max(seconds.items(), key=lambda item: abs(item[1][1] - item[1][0]))
            more, of_all = after - before, sum(end - start for start, end in seconds.values())
            share = f"({more * 1e3:+,.1f} of {of_all * 1e3:+,.1f} ms)"
            yield f"{stage} took {before * 1e3:,.1f} ms and takes {after * 1e3:,.1f} {share}"


def _by_kernels(candidate: CandidateReport) -> list[str]:
    """Which kernels, or on a CPU which op, differ most between the profiles of both sides."""
    if candidate.profile is None or candidate.comparison.verdict not in DIFFERENT:
        return []
    families = candidate.profile.families
    kind = "kernel family" if families else "op"
    return [
        f"between the profiles the {kind} {change.name} goes from {change.before_seconds * 1e3:,.1f} to "
        f"{change.after_seconds * 1e3:,.1f} ms ({change.seconds * 1e3:+,.1f} ms)"
        for change in (families or candidate.profile.ops)[:1]
    ]


HOST_STAGES, DEVICE_STAGES = (
    {stage: MedianOfUtterances(stage_seconds(stage, device=device)) for stage in STAGES} for device in (False, True)
)


def stage_changes(pairing: Pairing, *, device: bool = False) -> dict[str, tuple[float, float]]:
    """Seconds of each stage on both sides, by the host's clock or the device's; those that both have."""
    clocks = DEVICE_STAGES if device else HOST_STAGES
    before, after = (_stage_medians(pairing.cells(side, metrics.WALL), clocks) for side in (BASELINE, CANDIDATE))
    return {stage: (before[stage], after[stage]) for stage in STAGES if stage in before and stage in after}


def _stage_medians(cells: Iterable[Cell], clocks: Mapping[str, MedianOfUtterances]) -> dict[str, float]:
    """Over the processes."""
    cells = list(cells)
    medians = {stage: statistics.median(map(read, cells)) for stage, read in clocks.items()}
    return {stage: seconds for stage, seconds in medians.items() if seconds is not None}


def to_markdown(report: Report) -> str:
    warned = [f"**These runs are not comparable: {in_markdown(text)}.**" for text in report.mismatches]
    mark = "**MISMATCH** " if report.mismatches else ""
    lines = [f"- {mark}**{c.comparison.verdict}**: {in_markdown(c.sentence)}" for c in report.candidates]
    costs = tradeoffs.costs([candidate.match for candidate in report.candidates])
    parts = [
        f"# {in_markdown(report.title)}",
        *warned,
        "\n".join(lines),
        *map(markdown.render, tables(report)),
        *([markdown.render(costs)] if costs else []),
        *(part for candidate in report.candidates for part in _causes(candidate)),
        *([markdown.render(environments(report))] if report.environments else []),
        "\n".join(f"- {in_markdown(note)}" for note in report.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _causes(candidate: CandidateReport) -> Iterator[str]:
    """Of a candidate that differs: its stages and, where both sides were profiled, its kernels and ops."""
    if candidate.comparison.verdict not in DIFFERENT:
        return
    for source, difference in (("", candidate.stages), (" (profiled)", candidate.profile)):
        for table in profile_diff.tables(difference) if difference else ():
            first = table.first(profile_diff.ROWS_MAX)
            yield markdown.render(replace(first, title=f"{candidate.name}: {table.title}{source}"))


def environments(report: Report) -> Table:
    """What else differs in what the sides ran on; no reason not to compare, but perhaps one for the difference."""
    return Table.of(
        "Differences in what they ran on", ("what", "baseline", "candidate"), report.environments, unit=TEXT
    )


def to_data(report: Report) -> Mapping[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "mismatches": list(report.mismatches),
        "environments": [dict(zip(ENVIRONMENT_FIELDS, row, strict=True)) for row in report.environments],
        "notes": list(report.notes),
        "comparisons": [_data(candidate) for candidate in report.candidates],
    }


def _data(candidate: CandidateReport) -> Mapping[str, Any]:
    match, comparison = candidate.match, candidate.comparison
    return {
        "candidate": match.candidate,
        "baseline": match.baseline,
        "point": match.point,
        "verdict": str(comparison.verdict),
        "sentence": candidate.sentence,
        "figures": {name: runs.to_json(judgement) for name, judgement in comparison.judgements.items()},
        "counts": {
            change.count.name: {"baseline": change.baseline, "candidate": change.candidate, "change": change.verdict}
            for change in comparison.counts
        },
        "stages": {name: {"baseline": a, "candidate": b} for name, (a, b) in candidate.stage_seconds.items()},
        "pairs": len(match.pairing.pairs),
        "void": [list(pair.void) for pair in match.pairing.void],
        "faults": list(candidate.faults),
        "profile": runs.to_json(candidate.profile) if candidate.profile else None,
        "notes": notes(candidate),
    }
