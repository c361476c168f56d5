"""One metric over time: a panel per stack, and in it a line per machine and work."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from ttsbench.reports.history import MetricHistory, signed
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import Frame

PANEL_HEIGHT, PANEL_GAP = 150, 78
COLOURS = 5


def plot(panels: Sequence[Sequence[MetricHistory]]) -> str:
    shapes = []
    for number, panel in enumerate(panels):
        top = 50 + number * (PANEL_HEIGHT + PANEL_GAP)
        shapes += _panel(panel, Frame(66, svg.WIDTH - 14, top, top + PANEL_HEIGHT))
    title = f"{panels[0][0].metric.label} over time"
    return svg.drawing(50 + len(panels) * (PANEL_HEIGHT + PANEL_GAP), title, *shapes)


def _panel(panel: Sequence[MetricHistory], frame: Frame) -> list[str]:
    """Medians with the span of the processes; lines of different machines are never joined."""
    metric = panel[0].metric
    entries = [entry for series in panel for entry in series.entries]
    across = min(entry.time.timestamp() for entry in entries), max(entry.time.timestamp() for entry in entries)
    upwards = svg.padded([end * metric.scale for entry in entries for end in (entry.low, entry.high)], 0.25)
    x = svg.linear(across if across[0] < across[1] else (across[0] - 1, across[1] + 1), (frame.left, frame.right))
    y = svg.linear(upwards, (frame.bottom, frame.top))
    y_ticks = svg.ticks(upwards, 5)
    dates = (
        [across[0] + (across[1] - across[0]) * share / 4 for share in range(5)] if across[0] < across[1] else across[:1]
    )
    shapes = [
        svg.text(0, frame.top - 30, svg.fitted(panel[0].name, svg.WIDTH), class_="name"),
        frame.bottom_axis(x, dates, "", lambda time: f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d}"),
        frame.left_axis(y, y_ticks, metric.label, svg.tick_text(y_ticks)),
    ]
    for number, series in enumerate(panel):
        shapes += _line(series, f"series-{number % COLOURS}", x, y)
        shapes += _steps(series, frame, x, y)
    return shapes


def _line(series: MetricHistory, colour: str, x: svg.Scale, y: svg.Scale) -> list[str]:
    scale = series.metric.scale
    points = [(x(entry.time.timestamp()), entry) for entry in series.entries]
    spans = [svg.line(at, y(e.low * scale), at, y(e.high * scale), class_=f"span {colour}") for at, e in points]
    dots = [
        svg.circle(
            at, y(entry.median * scale), 2.5, class_=f"dot {colour}",
            hint=f"{series.metric.text(entry.median)} {series.metric.label}\n{entry.started}\n{entry.machine_name}",
        )
        for at, entry in points
    ]  # fmt: skip
    return [*spans, svg.polyline(((at, y(e.median * scale)) for at, e in points), class_=f"curve {colour}"), *dots]


def _steps(series: MetricHistory, frame: Frame, x: svg.Scale, y: svg.Scale) -> list[str]:
    shapes = []
    for change in series.trend.changes:
        before, after = series.around(change)
        at = x((before.time.timestamp() + after.time.timestamp()) / 2)
        kind = "step slower" if series.metric.is_worse(change.ratio) else "step faster"
        label = svg.text(
            x(after.time.timestamp()) + 2, y(change.after * series.metric.scale) - 8, signed(change.ratio), class_=kind
        )
        shapes += [svg.line(at, frame.top, at, frame.bottom, class_=kind), label]
    return shapes
