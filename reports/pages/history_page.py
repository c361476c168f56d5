"""History as people read it: tables, a document, and plots of every series as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ttsbench.reports import history
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.history import Entry, MetricHistory, Step, signed
from ttsbench.reports.pages import history_plot
from ttsbench.reports.pages.svg import Plot
from ttsbench.reports.tables import markdown
from ttsbench.reports.tables.table import Table

COLUMNS = ("stack", "figure", "runs", "first", "latest", "steps")
ADVISORY = "Steps are advisory: they say where to look, and decide nothing."

Groups = Mapping[tuple[str, ...], Sequence[MetricHistory]]


def tables(found: Iterable[MetricHistory]) -> list[Table]:
    """One per scenario, machine and work."""
    groups = grouped(found, "scenario", "machine", "work")
    return [Table.of(_title(group, groups), COLUMNS, tuple(_row(one) for one in group)) for group in groups.values()]


def grouped(found: Iterable[MetricHistory], *fields: str) -> dict[tuple[str, ...], list[MetricHistory]]:
    """Series whose entries agree in these."""
    groups: dict[tuple[str, ...], list[MetricHistory]] = {}
    for one in found:
        groups.setdefault(tuple(getattr(one.entries[0], field) for field in fields), []).append(one)
    return groups


def _title(group: Sequence[MetricHistory], groups: Groups) -> str:
    """The fingerprints of machine and work only where the names alone do not tell them apart."""
    names = [_named(other[0].entries[0]) for other in groups.values()]
    mine = group[0].entries[0]
    return _named(mine) if names.count(_named(mine)) == 1 else f"{_named(mine)} ({_line(mine)})"


def _named(entry: Entry) -> str:
    return f"{entry.scenario} on {entry.machine_name}"


def _line(entry: Entry) -> str:
    return f"{entry.machine[:6]}/{entry.work[:6]}"


def _row(one: MetricHistory) -> tuple[str, ...]:
    first, *_, last = (one.entries[0], one.entries[-1])
    trend = one.trend
    steps = ", ".join(signed(change.ratio) for change in trend.changes)
    drift = f"drifts {signed(trend.drift)}" if trend.drift != 1 else ""
    middles = (one.metric.text(first.median), one.metric.text(last.median))
    return one.name, one.metric.label, str(len(one.entries)), *middles, steps or drift or "–"


def document(found: Sequence[MetricHistory], plots: Mapping[str, str], notes: Sequence[str]) -> str:
    """history.md; plots by their titles."""
    parts = [
        "# History",
        ADVISORY,
        *(part for step in history.steps(found) for part in _step(step)),
        *(f"- {in_markdown(drift)}" for drift in history.drifts(found)),
        *map(markdown.render, tables(found)),
        *(f"![{in_markdown(title)}]({path})" for title, path in plots.items()),
        *(f"- {in_markdown(note)}" for note in notes),
    ]
    return "\n\n".join(parts) + "\n"


def _step(step: Step) -> list[str]:
    return [f"- {in_markdown(str(step))}", *([f"      {step.bisect}"] if step.bisect else [])]


def plot(histories: Sequence[MetricHistory]) -> Plot:
    """One metric: a panel per stack, and in it a line per machine and work."""
    shapes = history_plot.plot(list(grouped(histories, "stack", "point").values()))
    return Plot("", f"{histories[0].metric.label} over time", shapes)
