"""Every call of every process: a lane is a process, its median a line, outliers rings."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import pairing, statistics
from ttsbench.reports.metrics import Metric
from ttsbench.reports.pages import run_plots, svg
from ttsbench.reports.pages.svg import Frame, Plot
from ttsbench.reports.tables.run_tables import StackResult

# Of so many values at least, one beyond Tukey's fences is called an outlier.
FENCED_MIN = 8
FENCE = 1.5
# Of a run with more calls than this each so-manieth is drawn, and all outliers: samples.csv has every call.
SAMPLES_MAX = 8000
LANE, STACK_GAP, STACK_MIN = 15.0, 12.0, 20.0


def plots(run: Run) -> list[Plot]:
    return run_plots.per_point(run, "samples", "Every sample, process by process", _draw)


def _draw(run: Run, stacks: Sequence[StackResult]) -> str:
    stacks = [stack for stack in stacks if any(map(_values, stack.timed))]
    if not stacks:
        return ""
    metric = metrics.speed(run.cells)
    values = [value * metric.scale for stack in stacks for cell in stack.timed for _, value in _values(cell)]
    every = max(1, -(-sum(len(_values(cell)) for cell in run.cells) // SAMPLES_MAX))
    heights = [max(len(stack.timed) * LANE, STACK_MIN) + STACK_GAP for stack in stacks]
    frame = Frame(svg.names_width(stack.label for stack in stacks), svg.WIDTH - 14, 32, 32 + sum(heights))
    domain = svg.padded(statistics.finite(values) or [0.0, 1.0], 0.04)
    scale = svg.linear(domain, (frame.left + 8, frame.right - 4))
    ticks = svg.ticks(domain, 9)
    shapes = [
        _legend(every),
        frame.bottom_axis(scale, ticks, f"{metric.label} (lower is better)", svg.tick_text(ticks)),
    ]
    top = frame.top
    for stack, height in zip(stacks, heights, strict=True):
        shapes.append(svg.line(0, top, svg.WIDTH, top, class_="grid"))
        shapes.append(svg.text(0, top + height / 2 + 4, svg.fitted(stack.label, frame.left - 12), class_="name"))
        for lane, (cell, odd) in enumerate(zip(stack.timed, outliers(stack.timed), strict=True)):
            middle = top + STACK_GAP / 2 + (lane + 0.5) * LANE
            shapes.append(_lane(cell, odd, metric, every, middle, scale))
        top += height
    return svg.drawing(frame.bottom + 46, f"Every sample of {metric.label}", *shapes)


def _legend(every: int) -> str:
    calls = "a call" if every == 1 else f"one call of {every} (samples.csv has all)"
    return svg.legend(
        [
            (svg.circle(0, 0, 3.5, class_="sample"), calls),
            (svg.circle(0, 0, 3.6, class_="sample odd"), "an outlier"),
            (svg.line(0, -6, 0, 6, class_="middle"), "the median of a process"),
        ]
    )


def _lane(cell: Cell, odd: set[int], metric: Metric, every: int, middle: float, scale: svg.Scale) -> str:
    void = "; ".join(pairing.spoiled_by(cell))
    process = f"{cell.stack}\nprocess {cell.process + 1}{f', void: {void}' if void else ''}"
    shapes = []
    for number, (text, value) in enumerate(_values(cell)):
        if math.isfinite(value) and (number in odd or number % every == 0):
            hint = [f"{value * metric.scale:.3g} {metric.label}", process, f"text {text + 1}"]
            place = scale(value * metric.scale), middle + (number % 3 - 1) * 2.6
            if number in odd:
                hint[0] += ", an outlier"
                shapes.append(svg.circle(*place, 3.6, class_="sample odd", hint="\n".join(hint)))
            else:
                shapes.append(svg.circle(*place, 3, class_="sample", hint="\n".join(hint)))
    median = metric.read(cell)
    if median is not None:
        at = scale(median * metric.scale)
        words = f"{metric.text(median)} {metric.label}, the median\n{process}"
        shapes.append(svg.line(at, middle - LANE / 2 + 1, at, middle + LANE / 2 - 1, class_="middle", hint=words))
    return svg.group(*shapes, class_="lane void" if void else "lane")


def _values(cell: Cell) -> list[tuple[int, float]]:
    """Which text, and the figure of each call in its order."""
    if cell.forwards:
        return [(0, forward.wall_seconds) for forward in cell.forwards]
    return [(utterance.text_index, utterance.rtf) for utterance in cell.utterances]


def outliers(cells: Sequence[Cell]) -> list[set[int]]:
    """Per process, which calls lie beyond Tukey's fences around all calls of the stack with the same text."""
    values: dict[int, list[float]] = {}
    for cell in cells:
        for text, value in _values(cell):
            values.setdefault(text, []).append(value)
    fences = {text: _fences(of_text) for text, of_text in values.items()}
    return [
        {
            number
            for number, (text, value) in enumerate(_values(cell))
            if not fences[text][0] <= value <= fences[text][1]
        }
        for cell in cells
    ]


def _fences(values: Sequence[float]) -> tuple[float, float]:
    low, high = (statistics.percentile(values, share) for share in (0.25, 0.75))
    if len(values) < FENCED_MIN or low is None or high is None:
        return -math.inf, math.inf
    return low - FENCE * (high - low), high + FENCE * (high - low)
