"""Ratios with their intervals on a logarithmic axis, the band of what does not count behind each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ttsbench.reports.decide.decision import Judgement
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import NamedRows

# An interval that goes further ends at the edge, with an arrow.
FURTHEST = 8.0
TICKS = (
    0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0,
    8.0, 10.0, 20.0,
)  # fmt: skip


@dataclass(frozen=True)
class ForestRow:
    """A candidate's figure over its baseline's."""

    name: str
    words: str
    judgement: Judgement


def forest(rows: Sequence[ForestRow]) -> str:
    """Empty without rows."""
    if not rows:
        return ""
    named = NamedRows([row.name for row in rows], 16, top=8, right_margin=64)
    domain = _domain([row.judgement for row in rows])
    scale = svg.logarithmic(domain, (named.frame.left + 6, named.frame.right))
    shapes = [named.frame.bottom_axis(scale, _ticks(domain, 10), "candidate ÷ baseline", lambda value: f"{value:g}")]
    for index, row in enumerate(rows):
        words = f"{row.judgement.ratio:.3f}"
        shapes += [
            _row(row, named, index, scale, domain),
            named.name(index),
            svg.text(svg.WIDTH - 2, named.middle(index) + 4, words, anchor="end", class_="quiet figure"),
        ]
    return svg.drawing(named.height, "Candidate over baseline with its interval, per figure", *shapes)


def _domain(judgements: Sequence[Judgement]) -> svg.Range:
    ends = [end for j in judgements for end in (j.ratio, 1 + j.threshold * 1.6, 1 / (1 + j.threshold * 1.6))]
    ends += [end for j in judgements for end in (j.low, j.high) if end > 0 and max(end, 1 / end) < FURTHEST]
    return min(ends) ** 1.12, max(ends) ** 1.12


def _ticks(domain: svg.Range, count: int) -> list[float]:
    """The ones next to 1 first, as long as they do not crowd."""
    low, high = domain
    gap = math.log(high / low) / count
    kept = [1.0]
    for value in sorted((tick for tick in TICKS if low <= tick <= high), key=lambda tick: abs(math.log(tick))):
        if all(abs(math.log(value / other)) >= gap for other in kept):
            kept.append(value)
    return sorted(kept)


def _row(row: ForestRow, named: NamedRows, index: int, scale: svg.Scale, domain: svg.Range) -> str:
    low, high = domain
    middle, judgement = named.middle(index), row.judgement
    top, bottom = middle - 13, middle + 13

    def inside(value: float) -> float:
        return scale(min(high, max(low, value)))

    start, end, limit = judgement.low, judgement.high, 1 + judgement.threshold
    arrows = [
        svg.element("path", d=f"M{scale(edge) + toward:.1f} {middle - 5:.1f}l{-toward} 5l{toward} 5", class_="beyond")
        for edge, toward, beyond in ((low, 6, start < low), (high, -6, end > high))
        if beyond
    ]
    return svg.group(
        svg.rect(0, top, svg.WIDTH, bottom - top, class_="target"),
        svg.rect(inside(1 / limit), top, inside(limit) - inside(1 / limit), bottom - top, class_="allowed"),
        svg.line(scale(1), top, scale(1), bottom, class_="unity"),
        svg.line(inside(start), middle, inside(end), middle, class_="interval"),
        *arrows,
        svg.circle(inside(judgement.ratio), middle, 5.5),
        hint=f"{row.name}: {judgement.verdict}\n{row.words}",
        class_=f"forest-row {judgement.verdict}",
    )
