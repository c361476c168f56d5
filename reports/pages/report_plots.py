"""What the plots of a run draw, on its page and beside its Markdown: a group for each point of the matrix."""

from __future__ import annotations

import math
import statistics as standard
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.records.measurements import Quality
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics, readings
from ttsbench.reports.decide import pairing, statistics
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.pages import profile_plots
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult

SAME, CHANGES, FAILS = "same", "changes", "fails"
# Of so many values at least, one beyond Tukey's fences is called an outlier.
FENCED_MIN = 8
FENCE = 1.5
SAMPLES_MAX = 20_000
# When the consumer holds so much. What a stream has beside them, its chunks and gaps, belongs into `first_audio`.
FIRST_AUDIO = (
    ("first sample", "first_sample_seconds"),
    ("first playable", "first_playable_seconds"),
    ("first audible", "first_audible_seconds"),
)


@dataclass(frozen=True)
class Place:
    """One stack among the others: how fast, how much memory, and what its output is worth."""

    label: str
    baseline: bool
    output: str  # the same as the reference's, changed by design, or beyond the limits of quality
    quality: str
    speed: Estimate
    memory: Estimate


def places(run: Run, stacks: Sequence[StackResult]) -> list[Place]:
    """Of the stacks that have both figures."""
    speed, memory = metrics.speed(run.cells), metrics.memory(run.cells)
    found = ((stack, stack.estimate(speed), stack.estimate(memory)) for stack in stacks)
    return [
        Place(stack.label, stack.baseline, output(stack), quality(stack.timed), fast, large)
        for stack, fast, large in found
        if fast is not None and large is not None
    ]


def front(among: Iterable[Place]) -> list[Place]:
    """Those that no other beats in speed or memory without being beaten in the other, the fastest first."""
    ordered = sorted(among, key=lambda place: (place.speed.median, place.memory.median))
    found: list[Place] = []
    for place in ordered:
        if not found or place.memory.median < found[-1].memory.median:
            found.append(place)
    return found


def fronts(among: Sequence[Place]) -> dict[str, list[Place]]:
    """Of what keeps the output, and of all but what fails where that goes further."""
    keeping = front(place for place in among if place.output == SAME)
    of_all = front(place for place in among if place.output != FAILS)
    return {SAME: keeping, CHANGES: of_all if of_all != keeping else []}


def output(stack: StackResult) -> str:
    """What became of it."""
    if any(cell.faults for cell in stack.timed):
        return FAILS
    return CHANGES if any(cell.changes_output for cell in stack.timed) else SAME


def quality(cells: Sequence[Cell]) -> str:
    """In a line: what fails or differs by design, and how far it is from the reference."""
    told = _distance([text for cell in cells for text in cell.quality])
    reasons = dict.fromkeys(reason for cell in cells for reason in cell.changes_output)
    faults = dict.fromkeys(fault for cell in cells for fault in cell.faults)
    return "; ".join([*(f"failed: {fault}" for fault in faults), *reasons, told])


def _distance(texts: Sequence[Quality]) -> str:
    """From the reference; of several texts the worst."""
    if not texts:
        return "not measured"
    worst = min(texts, key=lambda text: text.same_tokens)
    figures = {figure.name: figure.column(lambda row: row).text(texts) for figure in run_tables.QUALITY}
    tokens = f"{worst.same_tokens} of {worst.tokens} tokens as the reference's, top-1 {figures['top1_agreement']}"
    return f"{tokens}, mel distance {figures['mel_distance']}, {figures['wave_snr_db']} dB from its wave"


def data(run: Run) -> dict[str, Any]:
    """Everything that the page's script reads."""
    points = [stacks for stacks in run_tables.results(run) if any(stack.timed or stack.cold for stack in stacks)]
    share = max(1, -(-sum(_calls(cell) for cell in run.cells if cell.ok) // SAMPLES_MAX))
    return {
        "colours": {name: profile_plots.colour(name) for name in metrics.STAGES},
        "speed": _axis(metrics.speed(run.cells)),
        "memory": _axis(metrics.memory(run.cells)),
        "points": [_point(run, stacks, share) for stacks in points],
        "thinned": share,
    }


def _calls(cell: Cell) -> int:
    return len(cell.utterances) + len(cell.forwards)


def _axis(metric: metrics.Metric) -> dict[str, Any]:
    return {"label": metric.label, "scale": metric.scale}


def _point(run: Run, stacks: Sequence[StackResult], share: int) -> dict[str, Any]:
    found = places(run, stacks)
    return {
        "name": run_tables.point_name(stacks[0].point),
        "places": [_drawn(place) for place in found],
        "fronts": {kind: [place.label for place in line] for kind, line in fronts(found).items()},
        "stages": {clock: stage_stacks(stacks, device=clock == "device") for clock in ("host", "device")},
        "samples": [_samples(stack, share) for stack in stacks if any(map(_values, stack.timed))],
        "ladder": [rungs for stack in stacks for rungs in _ladder(stack)],
        "first_audio": first_audio(stacks),
    }


def _drawn(place: Place) -> dict[str, Any]:
    return {
        "label": place.label,
        "baseline": place.baseline,
        "output": place.output,
        "quality": place.quality,
        "speed": [place.speed.low, place.speed.median, place.speed.high],
        "memory": [place.memory.low, place.memory.median, place.memory.high],
    }


def stage_stacks(stacks: Sequence[StackResult], *, device: bool) -> list[dict[str, Any]]:
    """Means, since only means add up: over each process's utterances, then over the processes.

    What the wall has beyond the stages is the residual, by whichever clock.
    """
    found = []
    for stack in stacks:
        wall = _mean(_mean(u.wall_seconds for u in cell.utterances) for cell in stack.timed)
        times = {
            stage: _mean(
                _mean(readings.stage_seconds(stage, device=device)(u) for u in cell.utterances) for cell in stack.timed
            )
            for stage in metrics.STAGES[:-1]
        }
        parts = [{"name": stage, "seconds": seconds} for stage, seconds in times.items() if seconds]
        if parts and wall:
            rest = wall - sum(seconds for seconds in times.values() if seconds)
            parts.append({"name": metrics.STAGES[-1], "seconds": max(rest, 0.0)})
            found.append({"label": stack.label, "wall": wall, "parts": parts})
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = statistics.finite(values)
    return standard.fmean(numbers) if numbers else None


def _samples(stack: StackResult, share: int) -> dict[str, Any]:
    """Every call of every process; where there are too many to be drawn, each so-manieth and all outliers."""
    processes = []
    strange = outliers(stack.timed)
    for cell, odd in zip(stack.timed, strange, strict=True):
        calls = [
            {"value": value, "text": text, "odd": number in odd}
            for number, (text, value) in enumerate(_values(cell))
            if math.isfinite(value) and (number in odd or number % share == 0)
        ]
        middle = metrics.speed([cell]).read(cell)
        processes.append({"number": cell.process + 1, "middle": middle, "calls": calls, "void": _void(cell)})
    return {"label": stack.label, "baseline": stack.baseline, "processes": processes}


def _void(cell: Cell) -> str:
    return "; ".join(pairing.spoiled_by(cell))


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
    fences = {text: _fences(found) for text, found in values.items()}
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


def _ladder(stack: StackResult) -> Iterable[dict[str, Any]]:
    """From the start of the interpreter to the end of the first call."""
    for cell, label in zip(stack.cold, run_tables.ladder_labels(stack), strict=True):
        names = [(rung, name) for rung, name in run_tables.LADDER if rung in run_tables.UNTIL_STEADY]
        seconds = {name: cell.ladder.get(rung, 0.0) for rung, name in names}
        taken = {name: value for name, value in seconds.items() if math.isfinite(value) and value > 0}
        if taken:
            parts = [{"name": name, "seconds": value} for name, value in taken.items()]
            yield {"label": label, "wall": sum(taken.values()), "parts": parts}


def first_audio(stacks: Sequence[StackResult]) -> list[dict[str, Any]]:
    """When so much could be heard, and when all of it was there: the medians of the processes' medians."""
    found = []
    for stack in stacks:
        wall = _median(stack, "wall_seconds")
        marks = [{"name": name, "seconds": _median(stack, field)} for name, field in FIRST_AUDIO]
        if wall:
            streams = any(cell.streams for cell in stack.timed)
            known = [mark for mark in marks if mark["seconds"] is not None]
            found.append({"label": stack.label, "wall": wall, "streams": streams, "marks": known})
    return found


def _median(stack: StackResult, field: str) -> float | None:
    of = readings.MedianOfUtterances(lambda utterance: getattr(utterance, field))
    return statistics.median(of(cell) for cell in stack.timed)
