"""Kernels against eager: a bar per shape and contender, a panel per kernel and dtype."""

from __future__ import annotations

from collections.abc import Sequence

from ttsbench.records.kernels import EAGER, KernelRun, KernelTiming
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import NamedRows, Plot
from ttsbench.reports.tables import kernels

FILE = "kernels.svg"
TITLE_HEIGHT = 26
COLOURS = 5


def plot(run: KernelRun) -> Plot | None:
    """Nothing where nothing was timed."""
    timed = [row for row in run.rows if row.contender != EAGER and row.median("graph")]
    panels = [
        [row for row in timed if (row.kernel, row.dtype) == key]
        for key in dict.fromkeys((r.kernel, r.dtype) for r in timed)
    ]
    top, shapes = 0.0, []
    for rows in panels:
        panel, height = _panel(rows, run)
        shapes.append(svg.element("g", panel, transform=f"translate(0 {top:.0f})"))
        top += height
    return Plot(FILE, "Speed-up over eager", svg.drawing(top, "Speed-up over eager", *shapes)) if panels else None


def _panel(timed: Sequence[KernelTiming], run: KernelRun) -> tuple[str, float]:
    named = NamedRows([f"{row.shape} {row.contender}" for row in timed], 12, top=TITLE_HEIGHT, right_margin=60)
    speed_ups = [kernels.speed_up(row, run) or 0.0 for row in timed]
    domain = (0.0, max(1.0, *speed_ups))
    scale = svg.linear(domain, (named.frame.left, named.frame.right))
    ticks = svg.ticks(domain, 9)
    contenders = list(dict.fromkeys(row.contender for row in timed))
    shapes = [
        svg.text(0, 16, f"{timed[0].kernel}, {timed[0].dtype}", class_="name"),
        named.frame.bottom_axis(scale, ticks, "speed-up over eager (graph, warm L2)", svg.tick_text(ticks)),
    ]
    for index, (row, speed_up) in enumerate(zip(timed, speed_ups, strict=True)):
        fill = f"var(--part-{contenders.index(row.contender) % COLOURS})"
        bar = svg.rect(scale(0), named.bar_top(index), scale(speed_up) - scale(0), 12, fill=fill, rx=2)
        words = svg.text(scale(speed_up) + 6, named.middle(index) + 4, f"{speed_up:.2f}×", class_="quiet")
        shapes += [named.name(index), bar, words]
    shapes.append(svg.line(scale(1), named.frame.top, scale(1), named.frame.bottom, class_="unity"))
    return svg.group(*shapes), named.height
