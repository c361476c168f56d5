"""Speed against memory, the mark saying what the output is worth; lines along the stacks that none beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ttsbench.records.measurements import Quality
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.metrics import Metric
from ttsbench.reports.pages import run_plots, svg
from ttsbench.reports.pages.svg import Frame, Plot
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult

SAME, CHANGES, FAILS = "same", "changes", "fails"
MEANINGS = {SAME: "keeps the output", CHANGES: "changes the output by design", FAILS: "quality failed"}
HEIGHT = 380
NAME_ROOM = 190


@dataclass(frozen=True)
class StackTradeoff:
    """How fast one stack is, how much memory it takes, and what its output is worth."""

    label: str
    baseline: bool
    output: str  # a key of MEANINGS
    quality: str
    speed: Estimate
    memory: Estimate


def tradeoffs(run: Run, stacks: Sequence[StackResult]) -> list[StackTradeoff]:
    """Of the stacks that have both figures."""
    speed, memory = metrics.speed(run.cells), metrics.memory(run.cells)
    estimates = ((stack, stack.estimate(speed), stack.estimate(memory)) for stack in stacks)
    return [
        StackTradeoff(stack.label, stack.baseline, output(stack), quality(stack.timed), fast, large)
        for stack, fast, large in estimates
        if fast is not None and large is not None
    ]


def front(tradeoffs: Iterable[StackTradeoff]) -> list[StackTradeoff]:
    """Those that no other beats in speed or memory without being beaten in the other, the fastest first."""
    ordered = sorted(tradeoffs, key=lambda stack: (stack.speed.median, stack.memory.median))
    best: list[StackTradeoff] = []
    for stack in ordered:
        if not best or stack.memory.median < best[-1].memory.median:
            best.append(stack)
    return best


def fronts(tradeoffs: Sequence[StackTradeoff]) -> dict[str, list[StackTradeoff]]:
    """Of what keeps the output, and of all but what fails where that goes further."""
    keeping = front(stack for stack in tradeoffs if stack.output == SAME)
    of_all = front(stack for stack in tradeoffs if stack.output != FAILS)
    return {SAME: keeping, CHANGES: of_all if of_all != keeping else []}


def output(stack: StackResult) -> str:
    if any(cell.faults for cell in stack.timed):
        return FAILS
    return CHANGES if any(cell.changes_output for cell in stack.timed) else SAME


def quality(cells: Sequence[Cell]) -> str:
    """In a line: what fails or differs by design, and how far it is from the reference."""
    distance = _distance([text for cell in cells for text in cell.quality])
    reasons = dict.fromkeys(reason for cell in cells for reason in cell.changes_output)
    faults = dict.fromkeys(fault for cell in cells for fault in cell.faults)
    return "; ".join([*(f"failed: {fault}" for fault in faults), *reasons, distance])


def _distance(texts: Sequence[Quality]) -> str:
    """From the reference; of several texts the worst."""
    if not texts:
        return "not measured"
    worst = min(texts, key=lambda text: text.same_tokens)
    figures = {figure.name: figure.column(lambda row: row).text(texts) for figure in run_tables.QUALITY}
    tokens = f"{worst.same_tokens} of {worst.tokens} tokens as the reference's, top-1 {figures['top1_agreement']}"
    return f"{tokens}, mel distance {figures['mel_distance']}, {figures['wave_snr_db']} dB from its wave"


def plots(run: Run) -> list[Plot]:
    return run_plots.per_point(run, "tradeoff", "Speed against memory", _draw)


def _draw(run: Run, stacks: Sequence[StackResult]) -> str:
    shown = tradeoffs(run, stacks)
    if len(shown) < 2:
        return ""
    speed, memory = metrics.speed(run.cells), metrics.memory(run.cells)
    frame = Frame(66, svg.WIDTH - 14, 56, HEIGHT - 48)
    across = svg.padded([end for stack in shown for end in _ends(stack.speed, speed)])
    upwards = svg.padded([end for stack in shown for end in _ends(stack.memory, memory)], 0.18)
    x, y = svg.linear(across, (frame.left, frame.right)), svg.linear(upwards, (frame.bottom, frame.top))
    x_ticks, y_ticks = svg.ticks(across, 9), svg.ticks(upwards, 6)
    shapes = [
        svg.legend([(_mark(kind, 0, 0), meaning) for kind, meaning in MEANINGS.items()]),
        frame.bottom_axis(x, x_ticks, f"{speed.label} (left is faster)", svg.tick_text(x_ticks)),
        frame.left_axis(y, y_ticks, f"{memory.label} (lower needs less)", svg.tick_text(y_ticks)),
    ]
    for kind, line in fronts(shown).items():
        places = [(x(stack.speed.median * speed.scale), y(stack.memory.median * memory.scale)) for stack in line]
        shapes += [_front(places, frame, kind)] if places else []
    places = [(x(stack.speed.median * speed.scale), y(stack.memory.median * memory.scale)) for stack in shown]
    shapes += [_stack(stack, speed, memory, x, y) for stack in shown]
    shapes += _names([stack.label for stack in shown], places, frame)
    return svg.drawing(HEIGHT, f"{speed.label} against {memory.label}: lower left is better", *shapes)


def _ends(estimate: Estimate, metric: Metric) -> tuple[float, float, float]:
    return estimate.low * metric.scale, estimate.median * metric.scale, estimate.high * metric.scale


def _front(places: Sequence[tuple[float, float]], frame: Frame, kind: str) -> str:
    """Down and to the right, from one that is fast to one that needs less memory."""
    points = [(places[0][0], frame.top)]
    for x, y in places:
        points += [(x, points[-1][1]), (x, y)]
    return svg.polyline([*points, (frame.right, points[-1][1])], class_=f"front {kind}")


def _mark(output: str, x: float, y: float) -> str:
    return svg.cross(x, y, 5, class_=output) if output == FAILS else svg.circle(x, y, 6, class_=output)


def _stack(stack: StackTradeoff, speed: Metric, memory: Metric, x: svg.Scale, y: svg.Scale) -> str:
    (left, middle, right), (low, centre, high) = _ends(stack.speed, speed), _ends(stack.memory, memory)
    hint = [
        stack.label + (", the baseline" if stack.baseline else ""),
        f"{middle:.3g} ({left:.3g} to {right:.3g}) {speed.label}",
        f"{centre:.3g} ({low:.3g} to {high:.3g}) {memory.label}",
        MEANINGS[stack.output],
        stack.quality,
    ]
    return svg.group(
        svg.line(x(left), y(centre), x(right), y(centre), class_="range"),
        svg.line(x(middle), y(low), x(middle), y(high), class_="range"),
        _mark(stack.output, x(middle), y(centre)),
        hint="\n".join(hint),
        class_=f"place {stack.output}",
    )


# Of a name's start, middle or end from its mark.
SIDES = (
    (11, 4, "start"), (-11, 4, "end"), (0, -12, "middle"), (0, 21, "middle"),
    (9, -11, "start"), (-9, -11, "end"), (9, 19, "start"), (-9, 19, "end"),
)  # fmt: skip
Box = tuple[float, float, float, float]


def _names(labels: Sequence[str], places: Sequence[tuple[float, float]], frame: Frame) -> list[str]:
    """Each name where it touches no mark and no other name; a name without such a place is in the hint alone."""
    taken: list[Box] = [(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    shapes = []
    for label, (x, y) in zip(labels, places, strict=True):
        name = svg.fitted(label, NAME_ROOM)
        for dx, dy, anchor in SIDES:
            box = _box(x + dx, y + dy, anchor, len(name) * svg.LETTER)
            inside = box[0] >= frame.left and box[2] <= svg.WIDTH and box[1] >= frame.top - 8 and box[3] <= frame.bottom
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                shapes.append(svg.text(x + dx, y + dy, name, anchor=anchor, class_="place-name"))
                break
    return shapes


def _box(x: float, base: float, anchor: str, width: float) -> Box:
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left - 2, base - 12, left + width + 2, base + 4


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
