"""History as people read it: tables, a document, and plots of every series as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ttsbench.reports import history
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.history import Entry, MetricHistory, Step, signed
from ttsbench.reports.pages import drawings
from ttsbench.reports.tables import markdown
from ttsbench.reports.tables.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("stack", "figure", "runs", "first", "latest", "steps")
PANELS_PER_ROW = 3
PANEL_INCHES = (4.2, 2.6)
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


def plot(found: Sequence[MetricHistory]) -> str:
    """An SVG of one metric: a panel per stack, and in it a line per machine and work."""
    return drawings.svg(lambda: _figure(list(grouped(found, "stack", "point").values())))


def _figure(panels: Sequence[Sequence[MetricHistory]]) -> Figure:
    from matplotlib.figure import Figure

    rows, columns = -(-len(panels) // PANELS_PER_ROW), min(PANELS_PER_ROW, len(panels))
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(rows, columns, number), panel)
    return figure


def _draw(axes: Any, panel: Sequence[MetricHistory]) -> None:
    """Medians with the span of the processes; lines of different machines are never joined."""
    for one in panel:
        scale = one.metric.scale
        times = [entry.time for entry in one.entries]
        middles = [entry.median * scale for entry in one.entries]
        [line] = axes.plot(
            times, middles, marker=".", linewidth=0.8, label=f"{one.entries[0].machine_name} {_line(one.entries[0])}"
        )
        axes.vlines(
            times, *([getattr(entry, end) * scale for entry in one.entries] for end in ("low", "high")),
            colors=line.get_color(), linewidth=0.6, alpha=0.5,
        )  # fmt: skip
        for change in one.trend.changes:
            before, after = one.around(change)
            colour = "tab:red" if one.metric.is_worse(change.ratio) else "tab:green"
            axes.axvline(before.time + (after.time - before.time) / 2, color=colour, linestyle="--", linewidth=0.8)
            axes.annotate(
                signed(change.ratio), (after.time, change.after * scale), xytext=(2, 6), textcoords="offset points",
                color=colour, fontsize=8,
            )  # fmt: skip
    axes.set_title(panel[0].name, fontsize=9)
    axes.set_ylabel(panel[0].metric.label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.tick_params(axis="x", labelrotation=30)
    axes.margins(y=0.25)
    if len(panel) > 1:
        axes.legend(fontsize=6)
