"""Two profiles side by side: what makes the second slower or faster, by stage, family and op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttsbench.records import files
from ttsbench.records.profiles import Finding, Profile
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.pages import templates
from ttsbench.reports.tables.markdown import render
from ttsbench.reports.tables.profile_answers import milliseconds, unprofiled_wall_seconds, void_shares
from ttsbench.reports.tables.table import Column, Table, of_field, ratio_of, signed, with_rows

FILE, TEXT_FILE = "profile-diff.html", "profile-diff.md"
ROWS_MAX = 12
PAGE_ROWS_MAX = 400
NAMED_STAGES = 2
# Of less than this share of the first wall, shares would be shares of noise.
NET_MIN = 0.01


@dataclass(frozen=True)
class ProfileChange:
    """One stage, family or op in both; what is missing from one took no time there."""

    name: str
    before_seconds: float
    after_seconds: float
    before_calls: int | None = None
    after_calls: int | None = None

    @property
    def seconds(self) -> float:
        """Positive where the second profile is slower."""
        return self.after_seconds - self.before_seconds

    @property
    def calls(self) -> int | None:
        if self.before_calls is None or self.after_calls is None:
            return None
        return self.after_calls - self.before_calls


@dataclass(frozen=True)
class ProfileDifference:
    """From the first profile to the second; changes with the largest contribution first, whichever its sign.

    Stages are their times without the profiler. Families and ops are device seconds where both ran on a GPU; otherwise
    ops are the host's self seconds, the profiler's cost included, and there are no families.
    """

    before: str
    after: str
    before_wall_seconds: float
    after_wall_seconds: float
    on_gpu: bool
    stages: tuple[ProfileChange, ...]
    families: tuple[ProfileChange, ...]
    ops: tuple[ProfileChange, ...]
    gone: tuple[tuple[str, str], ...] = ()  # findings of the first that the second has not: id and headline
    new: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of the whole wall."""
        return self.after_wall_seconds - self.before_wall_seconds


Entry = tuple[float, int | None]


def compare_profiles(a: Profile, b: Profile) -> ProfileDifference:
    on_gpu = a.header.on_gpu and b.header.on_gpu
    before, after = _labels(a, b)
    return ProfileDifference(
        before=before,
        after=after,
        before_wall_seconds=unprofiled_wall_seconds(a),
        after_wall_seconds=unprofiled_wall_seconds(b),
        on_gpu=on_gpu,
        stages=_changes(*({stage.name: (stage.seconds, None) for stage in p.stages} for p in (a, b))),
        families=_changes(*({f.name: (f.seconds, f.calls) for f in p.families} for p in (a, b))) if on_gpu else (),
        ops=_changes(*({op.name: (_self_seconds(op, on_gpu), op.calls) for op in p.ops} for p in (a, b))),
        gone=_findings_only_in(a.findings, b),
        new=_findings_only_in(b.findings, a),
        notes=tuple(_cautions(a, b)),
    )


def _labels(a: Profile, b: Profile) -> tuple[str, str]:
    before, after = a.header, b.header
    if before.stack != after.stack or before.started_utc == after.started_utc:
        return labels(before.stack, after.stack)
    return f"{before.stack} ({before.started_utc})", f"{after.stack} ({after.started_utc})"


def labels(before: str, after: str) -> tuple[str, str]:
    """Told apart where they are equal."""
    return (before, after) if before != after else (before, f"{after} again")


def _self_seconds(op: Any, on_gpu: bool) -> float:
    return float(op.self_device_seconds if on_gpu else op.self_host_seconds)


def _changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[ProfileChange, ...]:
    absent: Entry = (0.0, 0)
    pairs = [
        (name, before.get(name, absent), after.get(name, absent)) for name in dict.fromkeys((*before, *after))
    ]  # fmt: skip
    changes = [ProfileChange(name, was[0], now[0], was[1], now[1]) for name, was, now in pairs]
    return tuple(sorted(changes, key=lambda change: -abs(change.seconds)))


def _findings_only_in(findings: Iterable[Finding], other: Profile) -> tuple[tuple[str, str], ...]:
    present = {finding.id for finding in other.findings}
    return tuple((finding.id, finding.headline) for finding in findings if finding.id not in present)


def _cautions(a: Profile, b: Profile) -> Iterable[str]:
    sides = (a.header, b.header)
    yield from (f"{p.header.stack} did not take effect as asked: {p.not_attested}" for p in (a, b) if p.not_attested)
    for profile in (a, b):
        if void := void_shares(profile):
            yield f"{profile.header.stack}: {void}"
    for name, value in _COMPARED:
        before, after = map(value, sides)
        if before != after:
            yield f"{name}: {before} against {after}; part of the difference is theirs"
    changed = [reason for header in sides for reason in header.changes_output]
    if sides[0].changes_output != sides[1].changes_output:
        yield f"the output differs by design: {'; '.join(dict.fromkeys(changed))}"


_COMPARED: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("device", lambda header: header.device_name or header.device),
    ("model", lambda header: f"{header.family} {header.size}"),
    ("utterances", lambda header: header.window.utterances),
    ("decode steps", lambda header: header.window.decode_steps),
    ("calls of S3Gen", lambda header: header.window.s3gen_calls),
    ("seconds of audio", lambda header: round(header.window.audio_seconds, 2)),
)


def tables(difference: ProfileDifference) -> list[Table]:
    self_time = "device ms" if difference.on_gpu else "self host ms"
    return with_rows(
        (
            _table(difference, "stages", "Stages", "ms", difference.stages),
            _table(difference, "families", "Kernel families", self_time, difference.families),
            _table(difference, "ops", "Ops", self_time, difference.ops),
        )
    )


def _table(difference: ProfileDifference, id_: str, title: str, time: str, changes: tuple[ProfileChange, ...]) -> Table:
    net = sum(change.seconds for change in changes)
    whole = net if abs(net) >= NET_MIN * difference.before_wall_seconds else 0.0
    columns = [
        Column("what", of_field("name")),
        Column("difference ms", of_field("seconds"), "delta ms", "above zero: the second is slower"),
        Column("contributes", ratio_of(of_field("seconds"), lambda _: whole), "signed share", "of the net difference"),
        Column(f"{time}, {difference.before}", of_field("before_seconds"), "ms"),
        Column(f"{time}, {difference.after}", of_field("after_seconds"), "ms"),
        Column("ratio", ratio_of(of_field("after_seconds"), of_field("before_seconds")), "times"),
    ]
    if any(change.calls is not None for change in changes):
        columns.append(Column("calls", of_field("calls"), "delta", "how many more"))
    total = ProfileChange("sum", sum(c.before_seconds for c in changes), sum(c.after_seconds for c in changes))
    return Table(title, tuple(columns), changes, total=total if changes else None, id=id_)


def explanation(difference: ProfileDifference) -> str:
    """In a sentence: how much, and which stages it comes from."""
    if not difference.before_wall_seconds:
        return "nothing was timed"
    ratio = difference.after_wall_seconds / difference.before_wall_seconds
    walls = f"{milliseconds(difference.before_wall_seconds)} → {milliseconds(difference.after_wall_seconds)}"
    if abs(difference.seconds) < NET_MIN * difference.before_wall_seconds:
        return f"{walls}: the same within {NET_MIN:.0%}"
    speed = f"{ratio:.2f}× as long" if ratio > 1 else f"{1 / ratio:.2f}× as fast"
    # Of the stages' own difference, as in their table: medians of stages do not add up to the median of walls.
    net = sum(change.seconds for change in difference.stages)
    named = difference.stages[:NAMED_STAGES] if net * difference.seconds > 0 else ()
    causes = [_cause(change, net) for change in named if change.seconds * net > 0]
    return f"{walls}, {speed}" + (f": {', '.join(causes)}" if causes else "")


def _cause(change: ProfileChange, net: float) -> str:
    return f"{change.name} {signed(change.seconds * 1e3, ',.1f')} ms ({change.seconds / net:.0%} of it)"


def markdown(difference: ProfileDifference) -> str:
    findings = [f"- gone: {in_markdown(headline)}" for _, headline in difference.gone]
    findings += [f"- new: {in_markdown(headline)}" for _, headline in difference.new]
    parts = [
        f"# {in_markdown(difference.before)} → {in_markdown(difference.after)}",
        in_markdown(explanation(difference)),
        *(f"**{in_markdown(note)}**" for note in difference.notes),
        *(render(table.first(ROWS_MAX)) for table in tables(difference)),
        *(["## Findings", "\n".join(findings)] if findings else []),
    ]
    return "\n\n".join(parts) + "\n"


def page(difference: ProfileDifference) -> str:
    return templates.render(
        "profile_diff.html",
        ("plots", "tables"),
        {},
        title=f"{difference.before} → {difference.after}: ttsbench profile",
        difference=difference,
        explained=explanation(difference),
        tables=[templates.table(table, PAGE_ROWS_MAX) for table in tables(difference)],
    )


def write(difference: ProfileDifference, folder: Path) -> None:
    files.write_below(folder, FILE, page(difference))
    files.write_below(folder, TEXT_FILE, markdown(difference))
