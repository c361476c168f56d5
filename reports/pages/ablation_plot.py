"""A waterfall from the baseline's figure to the full stack's."""

from __future__ import annotations

from ttsbench.records.runs import Run
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import NamedRows, Plot
from ttsbench.reports.tables import ablation
from ttsbench.reports.tables.ablation import Ablation


def plots(run: Run) -> list[Plot]:
    effects = ablation.ablation(run)
    return [Plot("ablation.svg", "What each slot saves", waterfall(effects))] if effects else []


def waterfall(effects: Ablation) -> str:
    steps, metric = ablation.steps(effects), effects.metric
    rows = NamedRows([label for label, _, _ in steps], 20, top=8)
    ends = [end * metric.scale for _, *pair in steps for end in pair]
    domain = min(0.0, *ends), max(ends)
    scale = svg.linear(domain, (rows.frame.left, rows.frame.right))
    ticks = svg.ticks(domain, 9)
    shapes = [rows.frame.bottom_axis(scale, ticks, f"{metric.label} (lower is better)", svg.tick_text(ticks))]
    for index, (label, start, end) in enumerate(steps):
        left, right = sorted((scale(start * metric.scale), scale(end * metric.scale)))
        kind = "step-whole" if index in (0, len(steps) - 1) else "step-saves" if end <= start else "step-costs"
        hint = f"{label}\n{metric.text(end - start)} {metric.label}"
        shapes += [
            rows.name(index),
            svg.rect(left, rows.bar_top(index), right - left, 20, rx=2, class_=kind, hint=hint),
        ]
    return svg.drawing(rows.height, f"{metric.label} from the baseline to the full stack", *shapes)
