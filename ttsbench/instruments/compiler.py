"""What torch.compile did and which CUDA graphs were captured. Either while the clock runs is what a warm-up missed."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass

_counts: Counter[str] = Counter()


@dataclass(frozen=True)
class Compilations:
    """Counted since the process began; nothing where nothing was ever compiled or captured."""

    graphs: int = 0
    graph_breaks: int = 0
    captures: int = 0

    def since(self, before: Compilations) -> Compilations:
        return Compilations(
            self.graphs - before.graphs, self.graph_breaks - before.graph_breaks, self.captures - before.captures
        )


def count_capture() -> None:
    _counts["captures"] += 1


def compilations() -> Compilations:
    """The compiler's own counters, without importing it for those who never compile, and ours."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return Compilations(captures=_counts["captures"])
    counters = dynamo.counters
    breaks = sum(counters["graph_break"].values())
    return Compilations(counters["stats"]["unique_graphs"], breaks, _counts["captures"])
