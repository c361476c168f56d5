"""Series of pairs: two sides whose processes alternate, and how long that goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from ttsbench.gating import remote
from ttsbench.gating.remote import ScenarioSelection, Side, StoredSide
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout
from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.pairing import BASELINE, CANDIDATE, Pair, pair_of
from ttsbench.reports.metrics import Metric
from ttsbench.running.progress import ProgressCallback
from ttsbench.scenarios import schema
from ttsbench.scenarios.models import QUALITY
from ttsbench.scenarios.schema import Scenario

# The floor of each metric, for the stack of a pair.
Floors = Callable[[Pair], Mapping[str, float]]


def no_floors(pair: Pair) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class GateRequest:
    """What gate, bisect and calibrate have in common on the command line."""

    scenario: str
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    output: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Series:
    """A baseline and a candidate whose processes alternate: AB, BA, AB, …"""

    base: Side
    head: Side
    report_progress: ProgressCallback

    def cells(self) -> list[str]:
        """Those that both sides can measure."""
        return [key for key in self.head.cells() if key in self.base.cells()]

    def unpaired(self) -> list[str]:
        return [
            f"only in {side.label}: {key}"
            for side, other in ((self.head, self.base), (self.base, self.head))
            for key in side.cells()
            if key not in other.cells()
        ]

    def pairs(self, key: str) -> Iterator[Pair]:
        """Endless, unless a side is a stored run, which has only so many processes."""
        limits = [limit for side in (self.base, self.head) if (limit := side.processes(key)) is not None]
        for number in range(min(limits)) if limits else count():
            turns = (self.base, self.head) if number % 2 == 0 else (self.head, self.base)
            cells = [side.measure(key, number, 2 * number + turn) for turn, side in enumerate(turns)]
            base, head = cells if number % 2 == 0 else reversed(cells)
            pair = pair_of(head, base)
            self.report_progress(f"{key}, pair {number + 1}: {describe(pair)}")
            yield pair


def describe(pair: Pair) -> str:
    if pair.void:
        return f"void: {pair.void[0]}"
    metric = metrics.speed(pair.baseline)
    before, after = (metric.text(metric.read(pair.cells(side, metric)[0])) for side in (BASELINE, CANDIDATE))
    return f"{metric.label} {before} → {after}"


def until_decided(source: Iterator[Pair], floors: Floors = no_floors, only: Sequence[Metric] = ()) -> Comparison:
    """Takes pairs from the source until every metric is decided, or no more pairs are allowed or to be had."""
    attempts: list[Pair] = []
    decided = comparison.judge_series(attempts, only=only)
    while more := list(up_to_a_void_pair(source, decided.needed.count)):
        attempts += more
        decided = comparison.judge_series(attempts, floors=floors(attempts[0]), only=only)
    return decided


def up_to_a_void_pair(source: Iterator[Pair], pairs: int) -> Iterator[Pair]:
    """After a void pair, how many are needed has to be worked out again."""
    for pair in islice(source, pairs):
        yield pair
        if pair.void:
            return


@dataclass(frozen=True)
class ComparisonSetup:
    """Everything that a series needs: the code of both sides, or a stored run in the baseline's place."""

    base: Checkout | Run
    head: Checkout
    pythons: Mapping[Checkout, str]
    selection: ScenarioSelection
    folder: Path
    workspace: Workspace
    report_progress: ProgressCallback

    @contextmanager
    def series(self, number: int) -> Iterator[Series]:
        """Both sides start anew: all processes of one fork server share its memory layout.

        They import at the same time, unless they make references too: two models in fp32 may be more than a device
        holds. Nothing is timed before both are ready.
        """
        scenario = schema.load(self.selection.scenario, self.selection.overrides)
        overrides = (*self.selection.overrides, *another_series(scenario, number))
        selection, folder = replace(self.selection, overrides=overrides), self.folder / f"series-{number}"
        with ExitStack() as stack:

            def start(checkout: Checkout, name: str) -> Side:
                side = remote.started(
                    checkout, self.pythons[checkout], selection, folder / name, self.workspace, self.report_progress
                )
                return stack.enter_context(side)

            base: Side = StoredSide(self.base) if isinstance(self.base, Run) else start(self.base, "base")
            if makes_references := QUALITY in scenario.measure.passes:
                base.get_ready()
            head = start(self.head, "head")
            if not makes_references:
                base.get_ready()
            head.get_ready()
            yield Series(base, head, self.report_progress)


def another_series(scenario: Scenario, number: int) -> tuple[str, ...]:
    """The fake engine repeats itself unless its seed changes; a real engine never does."""
    return () if scenario.fake is None else (f"fake.seed={scenario.fake.seed + number}",)
