"""A run's record as tables of text: what the console and the documents both draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ttsbench.records.measurements import Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.metrics import Metric

CHANGES_OUTPUT_MARK = "*"
LADDER = (
    ("interpreter", "start"),
    ("import", "import"),
    ("load", "load"),
    ("voice", "voice"),
    ("apply", "apply"),
    ("first_call", "first call"),
    ("second_call", "second"),
    ("first_new_shape", "new shape"),
    ("steady", "steady"),
)


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    # How many of the columns, from the left, say what a row is of.
    labels: int = 1


@dataclass(frozen=True)
class StackResult:
    """The processes of one stack at one point of the matrix."""

    label: str
    point: dict[str, Any]
    timed: tuple[Cell, ...]
    cold: tuple[Cell, ...]
    baseline: bool

    @property
    def marked(self) -> str:
        """The label, with a mark where the output differs by design."""
        changes = any(cell.changes_output for cell in (*self.timed, *self.cold))
        return f"{self.label} {CHANGES_OUTPUT_MARK}" if changes else self.label

    def estimate(self, metric: Metric) -> statistics.Estimate | None:
        """One value per process that ran."""
        return statistics.estimate(metric.of(cell) for cell in self.timed)

    def text(self, metric: Metric) -> str:
        """The middle of the processes."""
        found = self.estimate(metric)
        return metric.text(found.median if found else None)


def results(run: Run) -> list[list[StackResult]]:
    """Per point of the matrix, its stacks with the baseline first; cells that did not run have no figures."""
    points: dict[str, dict[str, list[Cell]]] = {}
    for cell in run.cells:
        points.setdefault(point_name(cell.point), {}).setdefault(cell.stack, []).append(cell)
    return [
        [
            StackResult(
                label=label,
                point=cells[0].point,
                timed=tuple(c for c in cells if c.ok and c.kind == "timed"),
                cold=tuple(c for c in cells if c.ok and c.kind == "cold"),
                baseline=label == run.baseline,
            )
            for label, cells in sorted(stacks.items(), key=lambda item: item[0] != run.baseline)
        ]
        for stacks in points.values()
    ]


def point_name(point: dict[str, Any]) -> str:
    """Names one point of the matrix."""
    return ", ".join(f"{key}={value}" for key, value in point.items())


def overview(run: Run) -> list[Table]:
    """Per point one table: every stack beside the baseline."""
    return [_overview(stacks) for stacks in results(run) if _speaks(stacks)]


def _speaks(stacks: Sequence[StackResult]) -> bool:
    """Whether there are figures, and of utterances: forwards of the backbone alone and loads have their own tables."""
    cells = [cell for stack in stacks for cell in stack.timed]
    return bool(cells) and not any(cell.forwards or cell.load for cell in cells)


def _overview(stacks: Sequence[StackResult]) -> Table:
    shown = [m for m in metrics.OVERVIEW if any(stack.estimate(m) for stack in stacks)]
    baseline = next((stack for stack in stacks if stack.baseline), None)
    columns = ["stack", "RTF", "±", "speed-up", *(m.label for m in shown if m is not metrics.RTF)]
    rows = [
        [
            stack.marked,
            stack.text(metrics.RTF),
            spread(stack.estimate(metrics.RTF)),
            ratio(stack, baseline, metrics.RTF),
            *(stack.text(m) for m in shown if m is not metrics.RTF),
        ]
        for stack in stacks
        if stack.timed
    ]
    return Table(point_name(stacks[0].point), tuple(columns), tuple(map(tuple, rows)), _overview_notes(stacks))


def _overview_notes(stacks: Sequence[StackResult]) -> tuple[str, ...]:
    counts = sorted({len(stack.timed) for stack in stacks if stack.timed})
    passes = sorted({len(cell.utterances) for stack in stacks for cell in stack.timed})
    unit = f"median of {_either(counts)} process(es), each the median of {_either(passes)} utterance(s)"
    notes = [f"{unit}; ± half the range of the processes"]
    for stack in stacks:
        reasons = sorted({reason for cell in (*stack.timed, *stack.cold) for reason in cell.changes_output})
        notes += [f"{CHANGES_OUTPUT_MARK} {stack.label} changes the output: {'; '.join(reasons)}"] if reasons else []
    if not any(stack.baseline and stack.timed for stack in stacks):
        notes.append("the baseline has no figures here, so there is nothing to compare with")
    if not any(cell.streams for stack in stacks for cell in stack.timed):
        notes.append("no stack here streams: its TTFA is its whole time")
    return tuple(notes)


def _either(counts: Sequence[int]) -> str:
    return " or ".join(str(count) for count in counts)


def spread(found: statistics.Estimate | None) -> str:
    """Half the range of the processes; nothing of one."""
    return "–" if found is None or math.isnan(found.spread) else f"{found.spread:.1%}"


def ratio(stack: StackResult, baseline: StackResult | None, metric: Metric) -> str:
    """How many times the baseline's speed."""
    mine = stack.estimate(metric)
    theirs = baseline.estimate(metric) if baseline else None
    if stack.baseline:
        return "baseline"
    return f"{theirs.median / mine.median:.2f}×" if mine and theirs and mine.median else "–"


def stages(run: Run) -> list[Table]:
    """Milliseconds per stage, by the host's clock and, where there is a device, between its events."""
    return [_stages(stacks) for stacks in results(run) if _speaks(stacks)]


def _stages(stacks: Sequence[StackResult]) -> Table:
    """A row per stage, so that the table grows with the stacks only."""
    clocks = [(stack, device) for stack in stacks for device in (False, True) if _has_stages(stack, device)]
    rows = [(name, *(stack.text(_stage(name, device)) for stack, device in clocks)) for name in metrics.STAGES]
    rows.append(("sum", *(stack.text(_milliseconds("sum", _stage_sum(device))) for stack, device in clocks)))
    rows.append(("wall", *(stack.text(_milliseconds("wall", lambda u: u.wall_seconds)) for stack, _ in clocks)))
    return Table(
        titled("Stages, ms", stacks),
        ("stage", *(f"{stack.marked}\n{'device' if device else 'host'}" for stack, device in clocks)),
        tuple(rows),
        ("host: monotonic clock. device: events on the stream at the same marks, waiting included",),
    )


def _has_stages(stack: StackResult, device: bool) -> bool:
    return any(stack.estimate(_stage(name, device)) for name in metrics.STAGES)


def _stage(name: str, device: bool) -> Metric:
    return _milliseconds(name, metrics.stage_seconds(name, device=device))


def _milliseconds(name: str, of: Callable[[Utterance], float | None]) -> Metric:
    return Metric(name, name, metrics.OverUtterances(of), 1e3, 1)


def _stage_sum(device: bool) -> Callable[[Utterance], float | None]:
    def of(utterance: Utterance) -> float | None:
        found = statistics.finite(metrics.stage_seconds(stage, device=device)(utterance) for stage in metrics.STAGES)
        return sum(found) if found else None

    return of


def detail(run: Run) -> list[Table]:
    """RTF in its three forms and the three times to first audio."""
    return [_metric_table(titled("Utterances", stacks), stacks, metrics.DETAIL) for stacks in results(run)]


def memory(run: Run) -> list[Table]:
    """MiB, peaks over one round of all texts in a pass of its own."""
    return [_metric_table(titled("Memory, MiB", stacks), stacks, metrics.MEMORY) for stacks in results(run)]


def _metric_table(title: str, stacks: Sequence[StackResult], columns: Sequence[Metric]) -> Table:
    shown = [m for m in columns if any(stack.estimate(m) for stack in stacks)]
    rows = [(stack.marked, *(stack.text(m) for m in shown)) for stack in stacks if stack.timed]
    return Table(title, ("stack", *(m.label for m in shown)), tuple(rows) if shown else ())


# Label, field of a text's quality, which of several texts stands for the stack, and how it is written.
QUALITY: tuple[tuple[str, str, Callable[..., Any], str], ...] = (
    ("same tokens", "same_tokens", min, "{:d}"),
    ("logits error", "logits_relative_error", max, "{:.1e}"),
    ("KL mean", "kl_mean", max, "{:.1e}"),
    ("top-1", "top1_agreement", min, "{:.1%}"),
    ("mel distance", "mel_distance", max, "{:.1e}"),
    ("wave SNR dB", "wave_snr_db", min, "{:.0f}"),
)


def quality(run: Run) -> list[Table]:
    """Every stack against fp32 upstream; of several texts the worst."""
    return [
        Table(
            titled("Quality", stacks),
            ("stack", *(label for label, *_ in QUALITY)),
            tuple((stack.marked, *_quality_row(stack)) for stack in stacks if _judged(stack)),
            (
                "logits: T3 made to speak the reference's tokens; mel, wave: S3Gen from those tokens, same noise",
                "same tokens: drawn freely, how many before the first that differs",
            ),
        )
        for stacks in results(run)
        if any(_judged(stack) for stack in stacks)
    ]


def _judged(stack: StackResult) -> list[Any]:
    return [text for cell in stack.timed for text in cell.quality]


def _quality_row(stack: StackResult) -> tuple[str, ...]:
    return quality_figures(_judged(stack))


def quality_figures(texts: Sequence[Any]) -> tuple[str, ...]:
    """Of several texts the worst of each, as it stands in a table."""
    if not texts:
        return ("–",) * len(QUALITY)
    found = ((form, worst(getattr(text, field) for text in texts)) for _, field, worst, form in QUALITY)
    return tuple(form.format(value) if value else "0" for form, value in found)


def faults(run: Run) -> list[str]:
    """What is further from the reference than the scenario allows."""
    return [f"{cell.key}: {fault}" for cell in run.cells for fault in cell.faults]


def ladder(run: Run) -> list[Table]:
    """Seconds of a bare interpreter from its start to the steady state."""
    return [
        Table(
            titled("Cold ladder, s", stacks),
            ("stack", *(label for _, label in LADDER), "pays after"),
            tuple(row for stack in stacks for row in _ladder_rows(stack, _baseline_ladder(stacks))),
            (PAYS_AFTER,),
        )
        for stacks in results(run)
        if any(stack.cold for stack in stacks)
    ]


PAYS_AFTER = "pays after: utterances until the time saved makes up for a slower start than the baseline's"
UNTIL_STEADY = ("interpreter", "import", "load", "voice", "apply", "first_call")


def _baseline_ladder(stacks: Sequence[StackResult]) -> dict[str, float]:
    return next((cell.ladder for stack in stacks if stack.baseline for cell in stack.cold), {})


def _ladder_rows(stack: StackResult, baseline: dict[str, float]) -> Iterable[tuple[str, ...]]:
    """One, or two where a second start found the compiler's cache."""
    for cell, label in zip(stack.cold, ladder_labels(stack), strict=True):
        rungs = (cell.ladder.get(name) for name, _ in LADDER)
        figures = ("–" if seconds is None else f"{seconds:.2f}" for seconds in rungs)
        yield (label, *figures, "–" if stack.baseline else pays_after(cell.ladder, baseline))


def ladder_labels(stack: StackResult) -> list[str]:
    """Of each cold start."""
    return [f"{stack.marked} (compiled before)" if cell.process else stack.marked for cell in stack.cold]


def pays_after(ladder: dict[str, float], baseline: dict[str, float]) -> str:
    """How many utterances a stack needs, the first included, to be done as early as the baseline."""
    if "steady" not in ladder or "steady" not in baseline:
        return "–"
    later = sum(ladder.get(rung, 0.0) - baseline.get(rung, 0.0) for rung in UNTIL_STEADY)
    saved = baseline["steady"] - ladder["steady"]
    if later <= 0:
        return "1" if saved >= 0 else "–"
    return f"{1 + math.ceil(later / saved):,}" if saved > 0 else "never"


def failures(run: Run) -> list[tuple[str, str, str]]:
    """Rows without figures: where, what, why; equal ones once."""
    found = {
        (f"{cell.key} ({cell.kind})" if cell.kind == "cold" else cell.key, cell.status, cell.reason): None
        for cell in run.cells
        if not cell.ok
    }
    return list(found)


def warnings(run: Run) -> list[str]:
    """What readers of single rows should know; equal ones once."""
    return list(dict.fromkeys((*run.warnings, *(f"{c.stack}: {text}" for c in run.cells for text in c.warnings))))


def titled(title: str, stacks: Sequence[StackResult]) -> str:
    """With the point of the matrix, where there is one."""
    point = point_name(stacks[0].point)
    return f"{title} ({point})" if point else title
