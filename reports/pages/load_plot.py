"""Load against latency as a drawing: one panel for listeners, one for requests at a rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ttsbench.records.runs import Run
from ttsbench.reports.escaping import printable
from ttsbench.reports.load_figures import ttfa
from ttsbench.reports.pages.drawings import svg
from ttsbench.reports.tables import loads, run_tables
from ttsbench.reports.tables.run_tables import StackResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = ((loads.CLOSED, "listeners"), ("open", "requests a second"))


def drawings(run: Run) -> dict[str, str]:
    """By file name below the run's folder: one for each point of the matrix."""
    points = loads.loaded(run)
    return {f"load{f'-{n}' if len(points) > 1 else ''}.svg": curve(stacks) for n, stacks in enumerate(points, start=1)}


def curve(stacks: list[StackResult]) -> str:
    """An SVG: the time to first audio of half and of nearly all requests, and the target."""
    return svg(lambda: _figure(stacks))


def _figure(stacks: list[StackResult]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    panels = [(kind, label) for kind, label in PANELS if any(_has(stack, kind) for stack in stacks)]
    figure = Figure(figsize=(5.5 * len(panels), 4.2), layout="constrained")
    for axes, (kind, label) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for number, stack in enumerate(stacks):
            _draw(axes, stack, kind, f"C{number % 10}")
        axes.axhline(_target(stacks), color="0.5", linestyle=":", label="target")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds from due to first audio")
        ticks = sorted({size for stack in stacks for of, size in loads.levels_of(stack) if of == kind})
        axes.set_xticks(ticks, [f"{size:g}" for size in ticks], minor=False)
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(fontsize="small")
    figure.suptitle(printable(run_tables.titled("Load against latency", stacks)))
    return figure


def _draw(axes: Any, stack: StackResult, kind: str, colour: str) -> None:
    """Levels that did not run, or where a request was never answered, have no point."""
    for share, style in ((0.5, "-o"), (0.95, "--^")):
        points = [
            (size, seconds)
            for (of, size), figures in sorted(loads.levels_of(stack).items())
            if of == kind
            and (seconds := loads.median(figures, lambda one, share=share: one.over_calls(ttfa, share)))  # type: ignore[misc]
            and math.isfinite(seconds)
        ]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=f"{stack.label} p{share * 100:g}")


def _has(stack: StackResult, kind: str) -> bool:
    return any(of == kind for of, _ in loads.levels_of(stack))


def _target(stacks: list[StackResult]) -> float:
    return next(cell.load.ttfa_seconds for stack in stacks for cell in stack.timed if cell.load)
