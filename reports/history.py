"""Runs over time: a small store of their figures, and how each figure went: steady, stepped or drifting."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from ttsbench.errors import RecordError
from ttsbench.records.fingerprint import machine_name
from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import change_points, sides
from ttsbench.reports.decide.change_points import LevelChange, Trend
from ttsbench.reports.figures import Figure, figures
from ttsbench.reports.formats.values import as_parquet
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.table import Table

COMMIT_DIGITS = 7
# What lies beyond was measured by no machine, and cannot be drawn.
FIGURE_MAX = 1e18
YEARS = range(2000, 2200)
REBUILD = "Move it away, and it is made again from the runs that are still there"


@dataclass(frozen=True)
class Stamp:
    """A run's record as it lay there when it was read; where it is the same, nothing has to be read again."""

    run: str
    bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Entry(Stamp):
    """A figure of a run, of when, of which commit and from which machine; without a metric, a run that has none."""

    started: str
    scenario: str
    overrides: str
    commit: str
    dirty: bool
    machine: str
    machine_name: str
    work: str
    stack: str = ""
    point: str = ""
    metric: str = ""
    unit: str = ""
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    spread: float | None = None
    processes: int = 0

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.run, self.bytes, self.modified_ns)

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.started)

    @property
    def code(self) -> str:
        """Its commit, with a mark where something differed from it."""
        return self.commit[:COMMIT_DIGITS] + "+" * self.dirty


@dataclass(frozen=True)
class MetricHistory:
    """One metric of one stack at one point, of one machine and one work, over time."""

    entries: tuple[Entry, ...]

    @property
    def metric(self) -> Metric:
        return metrics.BY_NAME[self.entries[0].metric]

    @property
    def name(self) -> str:
        first = self.entries[0]
        return f"{first.stack} ({first.point})" if first.point else first.stack

    @cached_property
    def trend(self) -> Trend:
        return change_points.trend([entry.median for entry in self.entries])

    @property
    def changed(self) -> bool:
        return self.trend != Trend()

    def around(self, change: LevelChange) -> tuple[Entry, Entry]:
        """The last entry before it, and the first after."""
        return self.entries[change.index - 1], self.entries[change.index]


COLUMNS = tuple(field.name for field in dataclasses.fields(Entry))


def entries(run: Run, stamp: Stamp) -> list[Entry]:
    """All figures of a run that have a logarithm and can be drawn."""
    own = run.environment.get("ttsbench")
    git = own if isinstance(own, dict) else {}
    machine, work = sides.fingerprints(run)
    about = Entry(
        **dataclasses.asdict(stamp), started=_when(run), scenario=run.scenario, overrides=json.dumps(run.overrides),
        commit=str(git.get("git_commit") or ""), dirty=bool(git.get("git_dirty")), machine=machine,
        machine_name=machine_name(run.environment), work=work,
    )  # fmt: skip
    drawable = [figure for figure in figures(run) if figure.low > 0 and figure.high < FIGURE_MAX]
    return [_entry(about, figure) for figure in drawable] or [about]


def _entry(about: Entry, figure: Figure) -> Entry:
    return dataclasses.replace(about, **vars(figure))


def _when(run: Run) -> str:
    try:
        time = datetime.fromisoformat(run.started_utc)
        if time.year not in YEARS:
            raise ValueError
    except ValueError:
        raise RecordError(f"it says that it began at {run.started_utc!r:.40}, which cannot be") from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def read(path: Path) -> list[Entry]:
    """The store; nothing where there is none yet."""
    import pandas

    if not path.exists():
        return []
    try:
        frame = pandas.read_parquet(path)
        if tuple(frame.columns) != COLUMNS:
            raise RecordError(f"{path} was written by another version of ttsbench", mend=REBUILD)
        rows = frame.to_dict("records")
        stored = [Entry(**{str(name): _value(value) for name, value in row.items()}) for row in rows]
        stored.sort(key=lambda entry: (entry.time, entry.run))
    except (OSError, TypeError, ValueError) as error:  # pyarrow's own errors are among them
        raise RecordError(f"{path} cannot be read: {error}", mend=REBUILD) from None
    return stored


def _value(value: Any) -> Any:
    """A spread that is missing comes back as NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def as_file(entries: Sequence[Entry]) -> bytes:
    """The store, to be written."""
    return as_parquet(Table.of("", COLUMNS, map(attrgetter(*COLUMNS), entries)))


def series(entries: Iterable[Entry]) -> list[MetricHistory]:
    """Figures that belong on one line, in the order of time; other machines and other work have lines of their own."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: (entry.time, entry.run)):
        if entry.metric in metrics.BY_NAME:
            key = (entry.scenario, entry.machine, entry.work, entry.stack, entry.point, entry.metric)
            groups.setdefault(key, []).append(entry)
    return [MetricHistory(tuple(groups[key])) for key in sorted(groups)]


@dataclass(frozen=True)
class Step:
    """What changed in one stack between two runs that follow each other, and the command that finds the commit."""

    name: str
    before: Entry
    after: Entry
    figures: tuple[str, ...]
    bisect: str = ""

    def __str__(self) -> str:
        changed = ", ".join(self.figures)
        return f"{self.name}: {changed} from {self.after.run} on ({_commits(self.before, self.after)})"


def steps(histories: Iterable[MetricHistory]) -> list[Step]:
    """Of all series; figures of one stack that changed at one place are one step."""
    places: dict[tuple[Stamp, ...], dict[str, list[tuple[MetricHistory, LevelChange]]]] = {}
    for history in histories:
        for change in history.trend.changes:
            before, after = history.around(change)
            places.setdefault((before.stamp, after.stamp), {}).setdefault(history.name, []).append((history, change))
    return [_step(name, changed) for stacks in places.values() for name, changed in stacks.items()]


def _step(name: str, changed: Sequence[tuple[MetricHistory, LevelChange]]) -> Step:
    before, after = changed[0][0].around(changed[0][1])
    figures = tuple(f"{history.metric.label} {signed(change.ratio)}" for history, change in changed)
    worse = {history.metric.name for history, change in changed if history.metric.is_worse(change.ratio)}
    slower = next((metric for metric in metrics.that_gate() if metric.name in worse), None)
    command = bisect_command(before, after, slower) if slower is not None and _apart(before, after) else ""
    # A line break in a name would end the command early.
    return Step(name, before, after, figures, command if command.isprintable() else "")


def drifts(histories: Iterable[MetricHistory]) -> list[str]:
    """Series that wander off without a step."""
    return [
        f"{history.name}: {history.metric.label} drifts, {signed(history.trend.drift)} over {len(history.entries)} runs"
        for history in histories
        if history.trend.drift != 1
    ]


def _commits(before: Entry, after: Entry) -> str:
    if _apart(before, after):
        return f"{before.code}..{after.code}"
    if before.commit and before.commit == after.commit:
        return f"{before.code} before and {after.code} after: the cause is not in a commit"
    return "the commits are not known"


def _apart(before: Entry, after: Entry) -> bool:
    return bool(before.commit and after.commit) and before.commit != after.commit


def bisect_command(before: Entry, after: Entry, metric: Metric) -> str:
    """What finds the commit within the range."""
    good, bad = before.commit[:COMMIT_DIGITS], after.commit[:COMMIT_DIGITS]
    words = ["ttsbench", "bisect", after.scenario, "--good", good, "--bad", bad, "--stack", after.stack]
    settings = [word for override in json.loads(after.overrides) for word in ("--set", override)]
    return shlex.join([*words, "--metric", metric.name, *settings])


def signed(ratio: float) -> str:
    """As a share of what it was."""
    return f"{ratio - 1:+.1%}".replace("-", "−").replace("%", " %")
