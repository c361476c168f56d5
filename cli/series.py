"""Series of pairs: two sides that take turns, and how long they go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from ttsbench.cli import console
from ttsbench.gating import remote
from ttsbench.gating.remote import Side, Work
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout
from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.pairing import Pair, beside
from ttsbench.reports.metrics import Metric
from ttsbench.scenarios import schema
from ttsbench.scenarios.models import QUALITY
from ttsbench.scenarios.schema import Scenario

Tell = Callable[[str], None]
Floors = Callable[[Pair], Mapping[str, float]]


def no_floors(pair: Pair) -> Mapping[str, float]:
    """Nothing is known of the machine."""
    return {}


@dataclass(frozen=True)
class Asked:
    """What the commands that run series are told alike."""

    scenario: str
    overrides: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    output: Path | None = None
    calibration: Path | None = None
    quiet: bool = False

    @property
    def tell(self) -> Tell:
        """Who hears how far it is."""
        return (lambda text: None) if self.quiet else console.progress_line


@dataclass(frozen=True)
class Series:
    """A baseline and a candidate whose processes take turns: one pair forwards, the next one backwards."""

    base: Side
    head: Side
    tell: Tell

    def cells(self) -> list[str]:
        """The cells that both can measure."""
        return [key for key in self.head.cells() if key in self.base.cells()]

    def lonely(self) -> list[str]:
        """What only one of them can measure, in words."""
        return [
            f"only in {side.label}: {key}"
            for side, other in ((self.head, self.base), (self.base, self.head))
            for key in side.cells()
            if key not in other.cells()
        ]

    def pairs(self, key: str) -> Iterator[Pair]:
        """Pairs of one cell, as many as there can be."""
        ends = [end for side in (self.base, self.head) if (end := side.processes(key)) is not None]
        for number in range(min(ends)) if ends else count():
            turns = (self.base, self.head) if number % 2 == 0 else (self.head, self.base)
            cells = [side.measure(key, number, 2 * number + turn) for turn, side in enumerate(turns)]
            base, head = cells if number % 2 == 0 else reversed(cells)
            pair = beside(head, base)
            self.tell(f"{key}, pair {number + 1}: {told(pair)}")
            yield pair


def told(pair: Pair) -> str:
    """A pair in a few words."""
    if pair.void:
        return f"void: {pair.void[0]}"
    metric = next((m for m in (metrics.RTF, metrics.FORWARD) if m.of(pair.baseline[0]) is not None), metrics.RTF)
    counted = pair.at_one_pace
    before, after = (metric.text(metric.of(cells[0])) for cells in (counted.baseline, counted.candidate))
    return f"{metric.label} {before} → {after}"


def until_decided(source: Iterator[Pair], floors: Floors = no_floors, only: Sequence[Metric] = ()) -> Comparison:
    """Pairs are added until all is decided or over, or until there are no more."""
    attempts: list[Pair] = []
    found = comparison.so_far(attempts, only=only)
    while more := list(up_to_a_void_one(source, found.wanted.pairs)):
        attempts += more
        found = comparison.so_far(attempts, floors=floors(attempts[0]), only=only)
    return found


def up_to_a_void_one(source: Iterator[Pair], pairs: int) -> Iterator[Pair]:
    """So many, or fewer where one is void: then it has to be asked anew what is wanted."""
    for pair in islice(source, pairs):
        yield pair
        if pair.void:
            return


@dataclass(frozen=True)
class Arena:
    """Where series are run: the code of both sides, or a stored run in the baseline's place."""

    base: Checkout | Run
    head: Checkout
    pythons: Mapping[Checkout, str]
    work: Work
    folder: Path
    space: Workspace
    tell: Tell

    @contextmanager
    def series(self, number: int) -> Iterator[Series]:
        """A fresh one: both sides start anew, since all processes of a fork server share its luck.

        They import at the same time, unless they make references too: two models in fp32 may be more than a device
        holds. Nothing is timed before both are there.
        """
        scenario = schema.load(self.work.scenario, self.work.overrides)
        work = replace(self.work, overrides=(*self.work.overrides, *another_series(scenario, number)))
        folder = self.folder / f"series-{number}"
        with ExitStack() as open_:

            def start(checkout: Checkout, name: str) -> Side:
                python = self.pythons[checkout]
                return open_.enter_context(remote.opened(checkout, python, work, folder / name, self.space, self.tell))

            base: Side = remote.Stored(self.base) if isinstance(self.base, Run) else start(self.base, "base")
            if references := QUALITY in scenario.measure.passes:
                base.get_ready()
            head = start(self.head, "head")
            if not references:
                base.get_ready()
            head.get_ready()
            yield Series(base, head, self.tell)


def another_series(scenario: Scenario, number: int) -> tuple[str, ...]:
    """What the fake engine needs to be told; any other is another by itself."""
    return () if scenario.fake is None else (f"fake.seed={scenario.fake.seed + number}",)
