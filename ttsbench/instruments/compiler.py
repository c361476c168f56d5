"""What torch.compile did: graphs made and graphs broken. A graph made while the clock ran is a recompilation."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Compilations:
    """Counted since the process began; nothing where nothing was ever compiled."""

    graphs: int = 0
    graph_breaks: int = 0

    def since(self, before: Compilations) -> Compilations:
        """What came after."""
        return Compilations(self.graphs - before.graphs, self.graph_breaks - before.graph_breaks)


def compilations() -> Compilations:
    """The compiler's own counters, without importing it for those who never compile."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return Compilations()
    counters = dynamo.counters
    return Compilations(counters["stats"]["unique_graphs"], sum(counters["graph_break"].values()))
