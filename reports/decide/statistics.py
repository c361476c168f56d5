"""Numbers over processes. The unit is a process: the median of its passes; single utterances are never pooled."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """The middle of the processes, how far apart they lie, and how many there are."""

    median: float
    low: float
    high: float
    processes: int

    @property
    def spread(self) -> float:
        """Half the range over the median; nothing can be said of one process."""
        if self.processes < 2 or not self.median:
            return math.nan
        return (self.high - self.low) / 2 / abs(self.median)


def estimate(per_process: Iterable[float | None]) -> Estimate | None:
    """Over the processes that have the figure; None if none has."""
    values = finite(per_process)
    if not values:
        return None
    return Estimate(statistics.median(values), min(values), max(values), len(values))


def finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def median(values: Iterable[float | None]) -> float | None:
    """The median of those that are numbers."""
    numbers = finite(values)
    return statistics.median(numbers) if numbers else None


def percentile(values: Sequence[float], share: float) -> float | None:
    """By linear interpolation between the nearest two."""
    ordered = sorted(finite(values))
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
