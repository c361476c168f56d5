"""A run's record as tables: a row per stack, a column per figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ttsbench.records.measurements import Quality, Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import paces, statistics
from ttsbench.reports.metrics import Metric
from ttsbench.reports.readings import STAGES, MedianOfUtterances, stage_seconds
from ttsbench.reports.tables.table import Column, Table, with_rows

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
class StackResult:
    """The processes of one stack at one point of the matrix."""

    label: str
    point: dict[str, Any]
    timed: tuple[Cell, ...]
    cold: tuple[Cell, ...]
    baseline: bool
    _estimates: dict[Metric, statistics.Estimate | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def marked(self) -> str:
        """The label, with a mark where the output differs by design."""
        changes = any(cell.changes_output for cell in (*self.timed, *self.cold))
        return f"{self.label} {CHANGES_OUTPUT_MARK}" if changes else self.label

    def estimate(self, metric: Metric) -> statistics.Estimate | None:
        """One value per process that ran. Kept: a table of 2,000 stacks needs each of them several times."""
        if metric not in self._estimates:
            self._estimates[metric] = statistics.estimate(metric.read(cell) for cell in self.timed)
        return self._estimates[metric]

    def median(self, metric: Metric) -> float | None:
        estimate = self.estimate(metric)
        return estimate.median if estimate else None


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
    return ", ".join(f"{key}={value}" for key, value in point.items())


STACK = Column("stack", lambda stack: stack.marked)


def metric_columns(shown: Iterable[Metric]) -> list[Column]:
    """Of rows that are stacks: the median of the processes."""
    return [Column(m.label, lambda stack, m=m: stack.median(m), m.text) for m in shown]  # type: ignore[misc]


def stack_table(
    title: str, stacks: Sequence[StackResult], columns: Sequence[Column], notes: Sequence[str] = (), *, kept: int = 1
) -> Table:
    """A row per stack that ran; columns without a value are left out, but for the first ones."""
    timed = tuple(stack for stack in stacks if stack.timed)
    table = Table(title, (STACK, *columns), timed, tuple(notes), emphasized=lambda stack: stack.baseline)
    return table.without_empty_columns(kept)


def overview(run: Run) -> list[Table]:
    """Per point one table: every stack beside the baseline."""
    return [_overview(stacks) for stacks in results(run) if _has_utterances(stacks)]


def _has_utterances(stacks: Sequence[StackResult]) -> bool:
    """Forwards of the backbone alone and loads have their own tables."""
    cells = [cell for stack in stacks for cell in stack.timed]
    return bool(cells) and not any(cell.forwards or cell.load for cell in cells)


def _overview(stacks: Sequence[StackResult]) -> Table:
    rtf, *others = metric_columns(metrics.shown_in(metrics.OVERVIEW))
    columns = (rtf, spread(metrics.RTF), speed_up(stacks, metrics.RTF), *others)
    return stack_table(point_name(stacks[0].point), stacks, columns, _overview_notes(stacks), kept=4)


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


def spread(metric: Metric) -> Column:
    """Half the range of the processes; nothing of one process."""

    def value(stack: StackResult) -> float | None:
        estimate = stack.estimate(metric)
        return None if estimate is None or math.isnan(estimate.spread) else estimate.spread

    return Column("±", value, "percent")


def speed_up(stacks: Sequence[StackResult], metric: Metric) -> Column:
    baseline = next((stack.median(metric) for stack in stacks if stack.baseline), None)

    def value(stack: StackResult) -> float | str | None:
        if stack.baseline:
            return "baseline"
        median = stack.median(metric)
        return baseline / median if baseline is not None and median else None

    return Column("speed-up", value, "times")


def stages(run: Run) -> list[Table]:
    """Milliseconds per stage, by the host's clock and, where there is a device, between its events."""
    return [_stages(stacks) for stacks in results(run) if _has_utterances(stacks)]


def _stages(stacks: Sequence[StackResult]) -> Table:
    """A row per stage, so that the table grows with the stacks only."""
    clocks = [(stack, device) for stack in stacks for device in (False, True) if _has_stages(stack, device)]
    columns = (
        Column(
            f"{stack.marked}\n{'device' if device else 'host'}",
            lambda row, stack=stack, device=device: stack.median(row[device]),  # type: ignore[misc]
            STAGE_SUMS[0].text,
        )
        for stack, device in clocks
    )
    rows = (*zip(HOST_STAGES, DEVICE_STAGES, strict=True), STAGE_SUMS, (metrics.WALL, metrics.WALL))
    return Table(
        titled("Stages, ms", stacks),
        (Column("stage", lambda row: "wall" if row[0] is metrics.WALL else row[0].name), *columns),
        rows,
        ("host: monotonic clock. device: events on the stream at the same marks, waiting included",),
    )


def _has_stages(stack: StackResult, device: bool) -> bool:
    return any(stack.median(stage) is not None for stage in (DEVICE_STAGES if device else HOST_STAGES))


def _stage(name: str, of: Callable[[Utterance], float | None]) -> Metric:
    return Metric(name, metrics.TENTHS_OF_MILLISECONDS, metrics.LOWER, name, False, MedianOfUtterances(of))


def _stage_sum(device: bool) -> Callable[[Utterance], float | None]:
    parts = [stage_seconds(stage, device=device) for stage in STAGES]

    def of(utterance: Utterance) -> float | None:
        seconds = statistics.finite(part(utterance) for part in parts)
        return sum(seconds) if seconds else None

    return of


HOST_STAGES, DEVICE_STAGES = (
    [_stage(name, stage_seconds(name, device=device)) for name in STAGES] for device in (False, True)
)
STAGE_SUMS = tuple(_stage("sum", _stage_sum(device)) for device in (False, True))


def detail(run: Run) -> list[Table]:
    """RTF in its three forms and the three times to first audio."""
    return _metric_tables("Utterances", run, metrics.shown_in(metrics.UTTERANCES))


def memory(run: Run) -> list[Table]:
    """MiB, peaks over one round of all texts in a pass of its own."""
    return _metric_tables("Memory, MiB", run, metrics.shown_in(metrics.MEMORY))


def _metric_tables(title: str, run: Run, shown: Sequence[Metric]) -> list[Table]:
    tables = (stack_table(titled(title, stacks), stacks, metric_columns(shown)) for stacks in results(run))
    return [table for table in with_rows(tables) if len(table.columns) > 1]


@dataclass(frozen=True)
class QualityFigure:
    """One figure of a text's quality; of several texts the worst stands for the stack."""

    label: str
    name: str
    worst: Callable[..., Any]
    unit: str | Callable[[Any], str]

    def column(self, qualities: Callable[[Any], Sequence[Quality]]) -> Column:
        return Column(self.label, lambda row: self.of(qualities(row)), self.unit)

    def of(self, texts: Sequence[Quality]) -> float | None:
        return self.worst(getattr(text, self.name) for text in texts) if texts else None


QUALITY = (
    QualityFigure("same tokens", "same_tokens", min, "count"),
    QualityFigure("logits error", "logits_relative_error", max, "scientific"),
    QualityFigure("KL mean", "kl_mean", max, "scientific"),
    QualityFigure("top-1", "top1_agreement", min, "percent"),
    QualityFigure("mel distance", "mel_distance", max, "scientific"),
    QualityFigure("wave SNR dB", "wave_snr_db", min, "count"),
)
QUALITY_NOTES = (
    "logits: T3 made to speak the reference's tokens; mel, wave: S3Gen from those tokens, same noise",
    "same tokens: drawn freely, how many before the first that differs",
)


def quality(run: Run) -> list[Table]:
    """Every stack against fp32 upstream; of several texts the worst."""
    columns = [figure.column(_qualities) for figure in QUALITY]
    judged = ([stack for stack in stacks if _qualities(stack)] for stacks in results(run))
    return [stack_table(titled("Quality", stacks), stacks, columns, QUALITY_NOTES) for stacks in judged if stacks]


def _qualities(stack: StackResult) -> list[Quality]:
    return [text for cell in stack.timed for text in cell.quality]


def faults(run: Run) -> list[str]:
    """What is further from the reference than the scenario allows."""
    return [f"{cell.key}: {fault}" for cell in run.cells for fault in cell.faults]


def ladder(run: Run) -> list[Table]:
    """Seconds of a bare interpreter from its start to the steady state."""
    return [_ladder(stacks) for stacks in results(run) if any(stack.cold for stack in stacks)]


def _ladder(stacks: Sequence[StackResult]) -> Table:
    """A row per cold start; a stack has two where a second start found the compiler's cache."""
    baseline: dict[str, float] = next((cell.ladder for stack in stacks if stack.baseline for cell in stack.cold), {})
    rungs = (Column(label, lambda row, rung=rung: row[1].ladder.get(rung), "s") for rung, label in LADDER)  # type: ignore[misc]
    pays = Column("pays after", lambda row: None if row[0].baseline else pays_after(row[1].ladder, baseline), "count")
    rows = tuple(
        (stack, cell, label) for stack in stacks for cell, label in zip(stack.cold, ladder_labels(stack), strict=True)
    )
    return Table(
        titled("Cold ladder, s", stacks), (Column("stack", lambda row: row[2]), *rungs, pays), rows, (PAYS_AFTER,)
    )


PAYS_AFTER = "pays after: utterances until the time saved makes up for a slower start than the baseline's"
UNTIL_STEADY = ("interpreter", "import", "load", "voice", "apply", "first_call")


def ladder_labels(stack: StackResult) -> list[str]:
    return [f"{stack.marked} (compiled before)" if cell.process else stack.marked for cell in stack.cold]


def pays_after(ladder: dict[str, float], baseline: dict[str, float]) -> float | str | None:
    """How many utterances a stack needs, the first included, to be done as early as the baseline."""
    if "steady" not in ladder or "steady" not in baseline:
        return None
    later = sum(ladder.get(rung, 0.0) - baseline.get(rung, 0.0) for rung in UNTIL_STEADY)
    saved = baseline["steady"] - ladder["steady"]
    if later <= 0:
        return 1 if saved >= 0 else None
    return 1 + math.ceil(later / saved) if saved > 0 else "never"


def failures(run: Run) -> list[tuple[str, str, str]]:
    """Cells without figures: key, status, reason; equal ones once."""
    rows = (
        (f"{cell.key} ({cell.kind})" if cell.kind == "cold" else cell.key, cell.status, cell.reason)
        for cell in run.cells
        if not cell.ok
    )
    return list(dict.fromkeys(rows))


def warnings(run: Run) -> list[str]:
    """What readers of single rows should know; equal ones once."""
    rows = ((cell.stack, text) for cell in run.cells for text in (*cell.warnings, paces.change(cell)) if text)
    return list(dict.fromkeys((*run.warnings, *(f"{stack}: {text}" for stack, text in rows))))


def titled(title: str, stacks: Sequence[StackResult]) -> str:
    """With the point of the matrix, if the matrix has several."""
    point = point_name(stacks[0].point)
    return f"{title} ({point})" if point else title
