"""Plots of a run, each once for its page and for the files beside report.md: bars of what adds up, and first audio."""

from __future__ import annotations

import math
import statistics as standard
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.runs import Run
from ttsbench.reports import metrics, readings
from ttsbench.reports.decide import statistics
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import NamedRows, Plot
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult

# A plot of more stacks is metres high, and a page of more points weighs more than 10 MB. The tables have all.
POINTS_MAX, STACKS_MAX = 12, 50
Stacks = Sequence[StackResult]


def per_point(run: Run, file: str, title: str, draw: Callable[[Run, Stacks], str]) -> list[Plot]:
    """A plot for each point of the matrix that has something to draw, of very many the first."""
    points = [stacks for stacks in run_tables.results(run) if any(stack.timed or stack.cold for stack in stacks)]
    plots = []
    for number, stacks in enumerate(points[:POINTS_MAX], start=1):
        if drawn := draw(run, stacks[:STACKS_MAX]):
            name = f"{file}-{number}.svg" if len(points) > 1 else f"{file}.svg"
            plots.append(Plot(name, title, drawn, _caption(stacks, number, len(points))))
    return plots


def _caption(stacks: Stacks, number: int, points: int) -> str:
    left_out = f"the first {STACKS_MAX} of {len(stacks)} stacks" if len(stacks) > STACKS_MAX else ""
    place = f"point {number} of {points}, further ones only in the tables" if points > POINTS_MAX else ""
    return "; ".join(filter(None, (run_tables.point_name(stacks[0].point), left_out, place)))


@dataclass(frozen=True)
class Bar:
    """Parts, by their names, that add up to about `wall`."""

    label: str
    wall: float
    seconds: dict[str, float]

    @property
    def length(self) -> float:
        return sum(self.seconds.values())

    @property
    def words(self) -> str:
        """The stages of a stream run side by side: they take more than the wall time between them."""
        wall = svg.seconds_text(self.wall)
        return f"{svg.seconds_text(self.length)} in {wall}" if self.length > 1.005 * self.wall else wall


def stages(run: Run) -> list[Plot]:
    """Between events of the device, where there is one, and by the host's clock."""

    def by_best_clock(_: Run, stacks: Stacks) -> str:
        return _stages(stacks, device=_has_device(stacks))

    def by_host_too(_: Run, stacks: Stacks) -> str:
        return _stages(stacks, device=False) if _has_device(stacks) else ""

    return [
        *per_point(run, "stages", "Stages of an utterance", by_best_clock),
        *per_point(run, "stages-host", "Stages by the host's clock", by_host_too),
    ]


def _has_device(stacks: Stacks) -> bool:
    return any(stage_bars(stacks, device=True))


def _stages(stacks: Stacks, *, device: bool) -> str:
    clock = "between events on the device" if device else "by the host's clock"
    bars = list(stage_bars(stacks, device=device))
    return _bars(bars, metrics.STAGES, [f"var(--stage-{name})" for name in metrics.STAGES], clock)


def stage_bars(stacks: Stacks, *, device: bool) -> Iterator[Bar]:
    """Means, since only means add up: over each process's utterances, then over the processes.

    What the wall has beyond the stages is the residual, by whichever clock.
    """
    for stack in stacks:
        wall = _mean(_mean(u.wall_seconds for u in cell.utterances) for cell in stack.timed)
        means = {
            stage: _mean(
                _mean(readings.stage_seconds(stage, device=device)(u) for u in cell.utterances) for cell in stack.timed
            )
            for stage in metrics.STAGES[:-1]
        }
        seconds = {stage: mean for stage, mean in means.items() if mean}
        if seconds and wall:
            residual = max(wall - sum(seconds.values()), 0.0)
            yield Bar(stack.label, wall, seconds | {metrics.STAGES[-1]: residual})


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = statistics.finite(values)
    return standard.fmean(numbers) if numbers else None


def ladder(run: Run) -> list[Plot]:
    """From the start of the interpreter to the end of the first call."""
    rungs = [name for rung, name in run_tables.LADDER if rung in run_tables.UNTIL_STEADY]
    colours = [f"var(--rung-{number})" for number in range(len(rungs))]
    return per_point(
        run, "ladder", "A cold start, up to the end of its first call",
        lambda _, stacks: _bars(list(_ladder_bars(stacks)), rungs, colours, "after the start"),
    )  # fmt: skip


def _ladder_bars(stacks: Stacks) -> Iterator[Bar]:
    rungs = [(rung, name) for rung, name in run_tables.LADDER if rung in run_tables.UNTIL_STEADY]
    for stack in stacks:
        for cell, label in zip(stack.cold, run_tables.ladder_labels(stack), strict=True):
            all_seconds = {name: cell.ladder.get(rung, 0.0) for rung, name in rungs}
            seconds = {name: value for name, value in all_seconds.items() if math.isfinite(value) and value > 0}
            if seconds:
                yield Bar(label, sum(seconds.values()), seconds)


def _bars(bars: Sequence[Bar], names: Sequence[str], colours: Sequence[str], title: str) -> str:
    if not bars:
        return ""
    fills = dict(zip(names, colours, strict=True))
    rows = NamedRows([bar.label for bar in bars], 22, right_margin=max(len(bar.words) for bar in bars) * 6.8 + 12)
    longest = max(bar.length for bar in bars)
    scale = svg.linear((0, longest), (rows.frame.left, rows.frame.right))
    shapes = [svg.legend([(svg.swatch(fills[name]), name) for name in names if any(name in b.seconds for b in bars)])]
    shapes.append(_seconds_axis(rows, scale, longest, title))
    for index, bar in enumerate(bars):
        shapes.append(rows.name(index))
        start = 0.0
        for name, seconds in bar.seconds.items():
            shapes.append(_part(rows, index, name, bar, (scale(start), scale(start + seconds)), fills[name]))
            start += seconds
        shapes.append(svg.text(scale(start) + 8, rows.middle(index) + 4, bar.words, class_="quiet"))
    return svg.drawing(rows.height, title, *shapes)


def _part(rows: NamedRows, index: int, name: str, bar: Bar, ends: tuple[float, float], fill: str) -> str:
    start, end = ends
    seconds = bar.seconds[name]
    hint = f"{name}\n{svg.seconds_text(seconds)}, {seconds / bar.length:.1%}\n{bar.label}"
    shapes = [svg.rect(start, rows.bar_top(index), end - start - 0.7, rows.bar, rx=2, fill=fill)]
    if len(name) * svg.LETTER + 12 < end - start:
        shapes.append(svg.text(start + 7, rows.middle(index) + 4.5, name, class_="on-colour"))
    return svg.group(*shapes, hint=hint, class_="part")


def _seconds_axis(rows: NamedRows, scale: svg.Scale, longest: float, title: str) -> str:
    unit, factor = ("ms", 1e3) if longest < 1 else ("s", 1.0)
    values = svg.ticks((0, longest), 9)
    form = svg.tick_text([value * factor for value in values])
    return rows.frame.bottom_axis(scale, values, f"{unit}, {title}", lambda value: form(value * factor))


FIRST_AUDIO = tuple(
    (f"first {name}", f"mark-{number}", metrics.BY_NAME[f"first_{name}_seconds"])
    for number, name in enumerate(("sample", "playable", "audible"))
)


def first_audio(run: Run) -> list[Plot]:
    """When the consumer holds so much, and when all of it: medians of the processes' medians."""
    return per_point(run, "first-audio", "Time to first audio", lambda _, stacks: _first_audio(stacks))


def _first_audio(stacks: Stacks) -> str:
    timed = [stack for stack in stacks if stack.median(metrics.WALL)]
    if not timed:
        return ""
    rows = NamedRows([stack.label for stack in timed], 16, right_margin=70)
    longest = max(stack.median(metrics.WALL) or 0.0 for stack in timed)
    scale = svg.linear((0, longest), (rows.frame.left + 4, rows.frame.right))
    marks = [(svg.circle(0, 0, 5, class_=kind), name) for name, kind, _ in FIRST_AUDIO]
    shapes = [svg.legend([*marks, (svg.rect(-1, -7, 2.5, 13, class_="end"), "last sample")])]
    shapes.append(_seconds_axis(rows, scale, longest, "after the call"))
    for index, stack in enumerate(timed):
        shapes += [rows.name(index), _first_audio_row(rows, index, stack, scale)]
    return svg.drawing(rows.height, "Time to first audio", *shapes)


def _first_audio_row(rows: NamedRows, index: int, stack: StackResult, scale: svg.Scale) -> str:
    middle, wall = rows.middle(index), stack.median(metrics.WALL) or 0.0
    marks = [(name, kind, at) for name, kind, metric in FIRST_AUDIO if (at := stack.median(metric)) is not None]
    streams = any(cell.streams for cell in stack.timed)
    hints = [stack.label, *(f"{name}: {svg.seconds_text(at)}" for name, _, at in marks)]
    hints += [f"all of it: {svg.seconds_text(wall)}"]
    hints += [] if streams else ["it does not stream: the first sample comes with the last"]
    first = marks[0][2] if marks else wall
    return svg.group(
        svg.rect(0, rows.bar_top(index) - 4, svg.WIDTH, rows.bar + 8, class_="target"),
        svg.rect(scale(0), middle - 2, scale(wall) - scale(0), 4, rx=2, class_="track"),
        # The last one first, so that the first one stands on top where they coincide.
        *(svg.circle(scale(at), middle, 5.5, class_=kind) for _, kind, at in reversed(marks)),
        svg.line(scale(wall), middle - 8, scale(wall), middle + 8, class_="end"),
        svg.text(scale(wall) + 10, middle + 4, svg.seconds_text(first), class_="quiet"),
        hint="\n".join(hints),
        class_="first-audio",
    )
