"""History as people read it: tables, a document, and plots of every series as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ttsbench.reports import history as trends
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.history import Entry, MetricHistory, Step, signed
from ttsbench.reports.pages import history_plot
from ttsbench.reports.pages.svg import Plot
from ttsbench.reports.tables import markdown
from ttsbench.reports.tables.table import Table

COLUMNS = ("stack", "figure", "runs", "first", "latest", "steps")
# A browser is slow with more.
PANELS_MAX = 60
ADVISORY = "Steps are advisory: they say where to look, and decide nothing."

Groups = Mapping[tuple[str, ...], Sequence[MetricHistory]]


def tables(histories: Iterable[MetricHistory], rows_max: int | None = None) -> list[Table]:
    """One per scenario, machine and work; of too many rows those that changed come first."""
    groups = grouped(histories, "scenario", "machine", "work")
    return [_table(_title(group, groups), group, rows_max or len(group)) for group in groups.values()]


def _table(title: str, histories: Sequence[MetricHistory], rows_max: int) -> Table:
    """Only what is shown is made text."""
    shown = changed_first(histories)[:rows_max] if len(histories) > rows_max else histories
    left_out = len(histories) - len(shown)
    notes = (f"{left_out:,} more rows stand in history.md; those that changed come first",) if left_out else ()
    return Table.of(title, COLUMNS, map(_row, shown), notes)


def changed_first(histories: Sequence[MetricHistory]) -> list[MetricHistory]:
    return sorted(histories, key=lambda history: not history.changed)


def grouped(histories: Iterable[MetricHistory], *fields: str) -> dict[tuple[str, ...], list[MetricHistory]]:
    """Those whose entries agree in these fields."""
    groups: dict[tuple[str, ...], list[MetricHistory]] = {}
    for history in histories:
        groups.setdefault(tuple(getattr(history.entries[0], field) for field in fields), []).append(history)
    return groups


def _title(group: Sequence[MetricHistory], groups: Groups) -> str:
    """The fingerprints of machine and work only where the names alone do not tell them apart."""
    names = [_named(other[0].entries[0]) for other in groups.values()]
    first = group[0].entries[0]
    return _named(first) if names.count(_named(first)) == 1 else f"{_named(first)} ({_fingerprints(first)})"


def _named(entry: Entry) -> str:
    return f"{entry.scenario} on {entry.machine_name}"


def _fingerprints(entry: Entry) -> str:
    return f"{entry.machine[:6]}/{entry.work[:6]}"


def _row(history: MetricHistory) -> tuple[str, ...]:
    trend, metric = history.trend, history.metric
    steps = ", ".join(signed(change.ratio) for change in trend.changes)
    drift = f"drifts {signed(trend.drift)}" if trend.drift != 1 else ""
    ends = (metric.text(history.entries[0].median), metric.text(history.entries[-1].median))
    return history.name, metric.label, str(len(history.entries)), *ends, steps or drift or "–"


def document(histories: Sequence[MetricHistory], plots: Mapping[str, str], notes: Sequence[str]) -> str:
    """history.md; plots by their titles."""
    parts = [
        "# History",
        ADVISORY,
        *(part for step in trends.steps(histories) for part in _step(step)),
        *(f"- {in_markdown(drift)}" for drift in trends.drifts(histories)),
        *map(markdown.render, tables(histories)),
        *(f"![{in_markdown(title)}]({path})" for title, path in plots.items()),
        *(f"- {in_markdown(note)}" for note in notes),
    ]
    return "\n\n".join(parts) + "\n"


def _step(step: Step) -> list[str]:
    return [f"- {in_markdown(str(step))}", *([f"      {step.bisect}"] if step.bisect else [])]


def plot(histories: Sequence[MetricHistory]) -> Plot:
    """One metric: a panel per stack, and in it a line per machine and work."""
    panels = list(grouped(changed_first(histories), "stack", "point").values())
    first = panels[:PANELS_MAX]
    caption = "" if len(first) == len(panels) else f"{PANELS_MAX} of {len(panels):,} stacks, those that changed first"
    return Plot("", f"{histories[0].metric.label} over time", history_plot.plot(first), caption)
