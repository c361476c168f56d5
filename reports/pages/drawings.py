"""The plots of a Markdown report, as SVG files beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.escaping import printable
from ttsbench.reports.pages import report_plots
from ttsbench.reports.pages.report_plots import CHANGES, FAILS, SAME, Place
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_LETTERS_MAX = 32
# As on the pages, in their light scheme, which can be read on either ground.
STAGE_COLOURS = {
    "text": "#85672a", "voice": "#b0417b", "prefill": "#2f7fbd", "decode": "#2450a4", "flow_encoder": "#3f7f24",
    "cfm": "#c4570f", "vocoder": "#7346ad", "copy_to_host": "#0f7c75", "watermark": "#bb3434", "residual": "#69707d",
}  # fmt: skip
ACCENT, QUIET, BAD = "#1d5fc2", "#69707d", "#b3311c"
MARKS: dict[str, tuple[str, dict[str, Any]]] = {
    SAME: ("keeps the output", {"marker": "o", "color": ACCENT}),
    CHANGES: ("changes the output by design", {"marker": "o", "color": ACCENT, "markerfacecolor": "none"}),
    FAILS: ("quality failed", {"marker": "x", "color": BAD}),
}
# Letters stay letters, which any reader's font draws; the same data give the same bytes.
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "ttsbench", "font.family": "sans-serif", "axes.edgecolor": QUIET,
    "text.color": QUIET, "axes.labelcolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET, "text.parse_math": False,
}  # fmt: skip


def drawings(run: Run) -> dict[str, str]:
    """By the name of its file, each plot that there is something to draw for."""
    points = [stacks for stacks in run_tables.results(run) if any(stack.timed for stack in stacks)]
    drawn = {name: _drawn(run, points, has, draw) for name, (_, has, draw) in PLOTS.items()}
    return {name: text for name, text in drawn.items() if text}


def title(name: str) -> str:
    """What a plot shows."""
    return PLOTS[name][0]


def svg(draw: Callable[[], Figure]) -> str:
    """The figure as text; names in it are words, never formulas, and what no font has is left to the reader's."""
    import matplotlib

    drawn = StringIO()
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw().savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return drawn.getvalue()


def _drawn(run: Run, points: Points, has: Has, draw: Draw) -> str:
    """One below the other for the points that there is something to draw for, the first ones only of very many."""
    shown = [stacks for stacks in points if has(run, stacks)][:POINTS_MAX]
    return svg(lambda: _figure(run, shown, draw)) if shown else ""


def _figure(run: Run, points: Points, draw: Draw) -> Figure:
    from matplotlib.figure import Figure

    heights = [0.32 * len(stacks) + 1.1 if draw is not _tradeoff else 3.6 for stacks in points]
    figure = Figure(figsize=(8, sum(heights)), layout="constrained")
    columns = figure.subplots(len(points), 1, squeeze=False, height_ratios=heights)
    for axes, stacks in zip(columns[:, 0], points, strict=True):
        draw(axes, run, stacks)
        axes.set_title(_fitted(run_tables.point_name(stacks[0].point), 90), fontsize=9, loc="left", color=QUIET)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8, length=2)
        axes.xaxis.label.set_size(8)
        axes.yaxis.label.set_size(8)
    return figure


def _speed(axes: Axes, run: Run, stacks: Stacks) -> None:
    """A dot per process, a line over their range, a bar at their median."""
    metric = metrics.speed(run.cells)
    measured = [(stack, found) for stack in stacks if (found := stack.estimate(metric))]
    for place, (stack, found) in enumerate(measured):
        values = [value * metric.scale for cell in stack.timed if (value := metric.read(cell)) is not None]
        axes.plot([found.low * metric.scale, found.high * metric.scale], [place, place], color=QUIET, linewidth=1)
        axes.plot(values, [place] * len(values), "o", color=ACCENT, alpha=0.55, markersize=4, markeredgewidth=0)
        axes.plot([found.median * metric.scale], [place], "|", color=ACCENT, markersize=15, markeredgewidth=2.2)
    _name(axes, [stack.marked for stack, _ in measured])
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{metric.label} (lower is better)")


def _stages(axes: Axes, run: Run, stacks: Stacks) -> None:
    """Means, which add up to the wall time with the residual."""
    bars = _bars(stacks)
    for place, bar in enumerate(bars):
        left = 0.0
        for part in bar["parts"]:
            axes.barh(place, part["seconds"] * 1e3, left=left, height=0.6, color=STAGE_COLOURS[part["name"]])
            left += part["seconds"] * 1e3
    _name(axes, [bar["label"] for bar in bars])
    drawn = {part["name"] for bar in bars for part in bar["parts"]}
    patches = [axes.bar(0, 0, color=colour, label=name) for name, colour in STAGE_COLOURS.items() if name in drawn]
    axes.legend(handles=patches, fontsize=7, ncols=5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.0))
    axes.set_xlim(left=0)
    axes.set_xlabel("ms, stage by stage")


def _bars(stacks: Stacks) -> list[dict[str, Any]]:
    return report_plots.stage_stacks(stacks, device=True) or report_plots.stage_stacks(stacks, device=False)


def _tradeoff(axes: Axes, run: Run, stacks: Stacks) -> None:
    """Speed against memory, and lines along those that nobody beats in both."""
    speed, memory = metrics.speed(run.cells), metrics.memory(run.cells)
    places = report_plots.places(run, stacks)
    for place in places:
        at = (place.speed.median * speed.scale, place.memory.median * memory.scale)
        axes.plot(*at, linestyle="none", **MARKS[place.output][1])
    axes.margins(0.15)
    _name_places(axes, places, speed.scale, memory.scale)
    for kind, line in report_plots.fronts(places).items():
        across = [place.speed.median * speed.scale for place in line]
        upwards = [place.memory.median * memory.scale for place in line]
        axes.step(across, upwards, where="post", color=ACCENT, alpha=0.6, linewidth=1,
                  linestyle="-" if kind == SAME else "--")  # fmt: skip
    used = dict.fromkeys(place.output for place in places)
    marks = [axes.plot([], [], linestyle="none", label=MARKS[output][0], **MARKS[output][1])[0] for output in used]
    axes.legend(handles=marks, fontsize=7, frameon=False)
    axes.set_xlabel(f"{speed.label} (left is faster)")
    axes.set_ylabel(f"{memory.label} (lower needs less)")


def _name_places(axes: Axes, places: Sequence[Place], across: float, upwards: float) -> None:
    """Each name on that side of its mark where it covers no other, nor another's mark."""
    axes.autoscale_view()
    points = [(place.speed.median * across, place.memory.median * upwards) for place in places]
    spots = [axes.transLimits.transform(point) for point in points]
    taken = [(x - 0.012, y - 0.03, x + 0.012, y + 0.03) for x, y in spots]
    for place, point, (x, y) in zip(places, points, spots, strict=True):
        name = _fitted(place.label)
        wide, high = LETTER * len(name), 0.07
        free = (side for side in SIDES if not any(map(_overlap(_box(x, y, side, wide, high)), taken)))
        right, above = side = next(free, SIDES[0])
        taken.append(_box(x, y, side, wide, high))
        axes.annotate(
            name, point, fontsize=8, xytext=(7 * right, 5 * above), textcoords="offset points",
            ha="left" if right > 0 else "right", va="bottom" if above > 0 else "top",
        )  # fmt: skip


def _box(x: float, y: float, side: tuple[int, int], wide: float, high: float) -> Box:
    left, low = x + 0.013 if side[0] > 0 else x - 0.013 - wide, y + 0.02 if side[1] > 0 else y - 0.02 - high
    return left, low, left + wide, low + high


def _overlap(one: Box) -> Callable[[Box], bool]:
    return lambda other: one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _name(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_fitted(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def _fitted(name: str, letters_max: int = NAME_LETTERS_MAX) -> str:
    text = printable(name)
    return text if len(text) <= letters_max else f"{text[: letters_max - 1]}…"


Box = tuple[float, float, float, float]
Stacks = Sequence[StackResult]
Points = Sequence[Stacks]
Has = Callable[[Run, Stacks], bool]
Draw = Callable[["Axes", Run, Stacks], None]
# Of a matrix the first points only: laying out each panel takes a quarter of a second. The page has all.
POINTS_MAX = 4
# Right or left of a mark, above or below it; and how wide a letter is, of the plot's width.
SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1))
LETTER = 0.0105
# File: what it shows, whether there is something to draw, and how.
PLOTS: dict[str, tuple[str, Has, Draw]] = {
    "speed.svg": (
        "Speed of each stack, process by process",
        lambda run, stacks: any(stack.estimate(metrics.speed(run.cells)) for stack in stacks),
        _speed,
    ),
    "tradeoff.svg": (
        "Speed against memory",
        lambda run, stacks: len(report_plots.places(run, stacks)) > 1,
        _tradeoff,
    ),
    "stages.svg": ("Where the time of an utterance goes", lambda _, stacks: bool(_bars(stacks)), _stages),
}
