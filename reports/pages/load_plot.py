"""Load against latency: a panel for listeners, one for requests at a rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Run
from ttsbench.reports.load_figures import ttfa
from ttsbench.reports.pages import run_plots, svg
from ttsbench.reports.pages.svg import Frame, Plot
from ttsbench.reports.tables import loads
from ttsbench.reports.tables.run_tables import StackResult

PANELS = ((loads.CLOSED, "listeners"), ("open", "requests a second"))
# Of half and of nearly all requests.
SHARES = ((0.5, ""), (0.95, "dashed"))
PANEL_HEIGHT, LEFT, GAP = 300, 66, 90
LINES = 5


@dataclass(frozen=True)
class Curve:
    """Times to first audio, by the size of the load; a level that did not run or never answered has no point."""

    stack: int
    label: str
    style: str
    points: list[tuple[float, float]]


def plots(run: Run) -> list[Plot]:
    return run_plots.per_point(run, "load", "Load against latency", _draw)


def _draw(run: Run, stacks: Sequence[StackResult]) -> str:
    panels = [(label, curves) for kind, label in PANELS if (curves := _curves(stacks, kind))]
    if not panels:
        return ""
    stacks = [stack for stack in stacks if loads.levels_of(stack)]
    marks = [(_line_mark(number), stack.label) for number, stack in enumerate(stacks)]
    legends = [marks[start : start + LINES] for start in range(0, len(marks), LINES)]
    styles = [(svg.line(-6, 0, 6, 0, class_=f"curve {style}"), f"p{share * 100:g}") for share, style in SHARES]
    legends.append([*styles, (svg.line(-6, 0, 6, 0, class_="moment"), "target")])
    top = len(legends) * svg.LEGEND_HEIGHT + 30
    width = (svg.WIDTH - LEFT - GAP * (len(panels) - 1) - 14) / len(panels)
    shapes = [
        svg.element("g", svg.legend(marks), transform=f"translate(0 {number * svg.LEGEND_HEIGHT})")
        for number, marks in enumerate(legends)
    ]
    for number, (label, curves) in enumerate(panels):
        left = LEFT + number * (width + GAP)
        shapes += _panel(Frame(left, left + width, top, top + PANEL_HEIGHT), label, curves, _target(stacks))
    return svg.drawing(top + PANEL_HEIGHT + 46, "Time to first audio by load", *shapes)


def _line_mark(stack: int) -> str:
    return svg.line(-6, 0, 6, 0, class_=f"curve series-{stack % 5}")


def _curves(stacks: Sequence[StackResult], kind: str) -> list[Curve]:
    curves = [
        Curve(number, stack.label, style, _points(stack, kind, share))
        for number, stack in enumerate(stacks)
        for share, style in SHARES
    ]
    return [curve for curve in curves if curve.points]


def _points(stack: StackResult, kind: str, share: float) -> list[tuple[float, float]]:
    return [
        (size, seconds)
        for (of, size), figures in sorted(loads.levels_of(stack).items())
        if of == kind
        and (seconds := loads.median(figures, lambda process: process.over_calls(ttfa, share)))
        and 0 < seconds < math.inf
        and size > 0
    ]


def _target(stacks: Sequence[StackResult]) -> float:
    return next(cell.load.ttfa_seconds for stack in stacks for cell in stack.timed if cell.load)


def _panel(frame: Frame, label: str, curves: Sequence[Curve], target: float) -> list[str]:
    sizes = [size for curve in curves for size, _ in curve.points]
    seconds = [second for curve in curves for _, second in curve.points]
    across, upwards = _log_domain(sizes), _log_domain([*seconds, target])
    x = svg.logarithmic(across, (frame.left, frame.right))
    y = svg.logarithmic(upwards, (frame.bottom, frame.top))
    return [
        frame.bottom_axis(x, sorted(set(sizes)), label, lambda size: f"{size:g}"),
        frame.left_axis(y, svg.log_ticks(upwards), "seconds from due to first audio", lambda value: f"{value:g}"),
        svg.line(frame.left, y(target), frame.right, y(target), class_="moment", hint=f"target: {target:g} s"),
        *(shape for curve in curves for shape in _curve(curve, x, y, label)),
    ]


def _log_domain(values: Sequence[float]) -> svg.Range:
    return min(values) / 1.2, max(values) * 1.2


def _curve(curve: Curve, x: svg.Scale, y: svg.Scale, unit: str) -> list[str]:
    colour = f"series-{curve.stack % 5}"
    share = next(share for share, style in SHARES if style == curve.style)
    dots = [
        svg.circle(
            x(size), y(seconds), 4, class_=f"dot {colour}",
            hint=f"{curve.label}\np{share * 100:g}: {svg.seconds_text(seconds)}\n{size:g} {unit}",
        )
        for size, seconds in curve.points
    ]  # fmt: skip
    line = svg.polyline(
        ((x(size), y(seconds)) for size, seconds in curve.points), class_=f"curve {colour} {curve.style}"
    )
    return [line, *dots]
