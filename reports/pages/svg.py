"""SVG made here: a page holds it inline, in the page's colours; a file beside a document brings its own.

Every shape may have a hint, which a page shows at the pointer and any viewer as the element's title.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ttsbench.reports.escaping import printable

WIDTH = 960
LETTER = 7.2
# Names stand left of their rows and take no more than this share of the width.
NAMES_SHARE = 0.28
Range = tuple[float, float]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Plot:
    """`file` is its name below the folder of what it shows, `caption` tells several plots of one section apart."""

    file: str
    title: str
    svg: str
    caption: str = ""

    @property
    def alt(self) -> str:
        return f"{self.title}: {self.caption}" if self.caption else self.title

    @property
    def document(self) -> str:
        """A file of its own."""
        return self.svg.replace(">", f"><style>{_style()}</style>", 1)


@cache
def _style() -> str:
    assets = files("ttsbench.reports") / "assets"
    sheets = ((assets / name).read_text(encoding="utf-8") for name in ("colours.css", "plots.css"))
    return "".join(sheets).replace("<", "&lt;").replace(">", "&gt;") + "svg { background: var(--surface); }"


def element(name: str, *children: str, hint: str = "", **attributes: float | str) -> str:
    """`class_` is the class; an underscore in a name stands for a hyphen."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_written(value)}"' for key, value in attributes.items() if value != ""
    )
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return f"<{name}{written}>{title}{''.join(children)}</{name}>"


def _written(value: float | str) -> str:
    return html.escape(value) if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def escape(text: str) -> str:
    return html.escape("\n".join(map(printable, text.split("\n"))))


def drawing(height: float, title: str, *shapes: str, width: float = WIDTH) -> str:
    box = f"0 0 {width:g} {height:g}"
    namespace = "http://www.w3.org/2000/svg"
    return element("svg", *shapes, xmlns=namespace, viewBox=box, role="group", aria_label=printable(title))


def rect(x: float, y: float, width: float, height: float, *, hint: str = "", **attributes: float | str) -> str:
    return element("rect", hint=hint, x=x, y=y, width=max(width, 0.4), height=height, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, *, hint: str = "", **attributes: float | str) -> str:
    return element("line", hint=hint, x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def circle(x: float, y: float, radius: float, *, hint: str = "", **attributes: float | str) -> str:
    return element("circle", hint=hint, cx=x, cy=y, r=radius, **attributes)


def cross(x: float, y: float, size: float, *, hint: str = "", **attributes: float | str) -> str:
    path = f"M{x - size:.1f} {y - size:.1f}l{2 * size:g} {2 * size:g}m0 {-2 * size:g}l{-2 * size:g} {2 * size:g}"
    return element("path", hint=hint, d=path, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: float | str) -> str:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), hint="", **attributes)


def text(x: float, y: float, words: str, *, anchor: str = "", class_: str = "") -> str:
    return element("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def group(*shapes: str, hint: str = "", class_: str = "") -> str:
    return element("g", *shapes, hint=hint, class_=class_)


def fitted(words: str, room: float) -> str:
    """As much of a name as there is room for."""
    letters = max(4, int(room / LETTER))
    words = printable(words)
    return words if len(words) <= letters else f"{words[: letters - 1]}…"


def names_width(names: Iterable[str]) -> float:
    return min(WIDTH * NAMES_SHARE, max((len(printable(name)) for name in names), default=4) * LETTER + 20)


def linear(domain: Range, to: Range) -> Scale:
    (low, high), (start, end) = domain, to
    return lambda value: start + (value - low) / ((high - low) or 1) * (end - start)


def logarithmic(domain: Range, to: Range) -> Scale:
    scale = linear((math.log10(domain[0]), math.log10(domain[1])), to)
    return lambda value: scale(math.log10(value))


def ticks(domain: Range, count: float) -> list[float]:
    """Round values, at most about so many."""
    low, high = domain
    raw = (high - low) / count or 1
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-6) + 1)]


def log_ticks(domain: Range) -> list[float]:
    """1, 2 and 5 of every power of ten, or the powers alone where those are many."""
    low, high = domain
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 4 else (1,)
    values = (factor * 10.0**power for power in powers for factor in factors)
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def padded(values: Sequence[float], share: float = 0.08) -> Range:
    """Their range with some room around it, never below zero."""
    low, high = min(values), max(values)
    room = (high - low or high or 1) * share
    return max(0.0, low - room), high + room


def seconds_text(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


@dataclass(frozen=True)
class Frame:
    """The rectangle within which values are drawn."""

    left: float
    right: float
    top: float
    bottom: float

    def bottom_axis(self, scale: Scale, values: Sequence[float], title: str, form: Callable[[float], str]) -> str:
        shapes = [line(scale(value), self.top, scale(value), self.bottom, class_="grid") for value in values]
        shapes += [text(scale(value), self.bottom + 17, form(value), anchor="middle") for value in values]
        shapes.append(text((self.left + self.right) / 2, self.bottom + 36, title, anchor="middle", class_="title"))
        return group(*shapes, class_="axes")

    def left_axis(self, scale: Scale, values: Sequence[float], title: str, form: Callable[[float], str]) -> str:
        shapes = [line(self.left, scale(value), self.right, scale(value), class_="grid") for value in values]
        shapes += [text(self.left - 8, scale(value) + 4, form(value), anchor="end") for value in values]
        shapes.append(text(self.left - 56, self.top - 12, title, class_="title"))
        return group(*shapes, class_="axes")


def tick_text(values: Sequence[float]) -> Callable[[float], str]:
    """With as many digits as tell them apart."""
    step = values[1] - values[0] if len(values) > 1 else values[0] if values else 1.0
    digits = max(0, min(6, math.ceil(-math.log10(abs(step) or 1) - 1e-9)))
    return lambda value: f"{value:,.{digits}f}"


LEGEND_HEIGHT = 24


def legend(marks: Sequence[tuple[str, str]], left: float = 2) -> str:
    """Pairs of a mark, drawn around (0, 0) in 12 by 12, and what it means, side by side."""
    shapes, at = [], left
    for mark, meaning in marks:
        shapes.append(element("g", mark, transform=f"translate({at + 6:.0f} 10)"))
        shapes.append(text(at + 18, 14, meaning, class_="quiet"))
        at += 34 + len(meaning) * 6.6
    return group(*shapes, class_="legend")


def swatch(fill: str) -> str:
    return rect(-5.5, -5.5, 11, 11, rx=2, fill=fill)


@dataclass(frozen=True)
class NamedRows:
    """Rows below each other with their names to the left, above an axis."""

    names: Sequence[str]
    bar: float
    top: float = LEGEND_HEIGHT + 8
    # Kept free on the right, for words behind a bar.
    right_margin: float = 12

    @property
    def row(self) -> float:
        return self.bar + 14

    @property
    def frame(self) -> Frame:
        return Frame(
            names_width(self.names), WIDTH - self.right_margin, self.top, self.top + len(self.names) * self.row
        )

    @property
    def height(self) -> float:
        return self.frame.bottom + 46

    def bar_top(self, index: int) -> float:
        return self.top + index * self.row + 7

    def middle(self, index: int) -> float:
        return self.top + (index + 0.5) * self.row

    def name(self, index: int) -> str:
        words = fitted(self.names[index], self.frame.left - 12)
        return text(0, self.middle(index) + 4, words, class_="name")
