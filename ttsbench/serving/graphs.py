"""A step of the batch as CUDA graphs: one for each bucket of slots and each span of positions."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch

from ttsbench.instruments.compiler import note_capture
from ttsbench.optimizations.parts.graphs import capturing

Step = Callable[[int, int], None]


class StepGraphs:
    """Replays steps; each is captured when it is asked for the first time."""

    def __init__(self, step: Step, state: Callable[[], tuple[torch.Tensor, ...]]) -> None:
        self._step = step
        self._state = state
        self._held: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        self.captures = self.replays = 0

    def __call__(self, slots: int, span: int, structure: Hashable) -> None:
        """One step; the structure stands for everything else that changes the sequence of kernels."""
        key = (slots, span, structure)
        if key not in self._held:
            self._held[key] = self._capture(slots, span)
            self.captures += 1
            note_capture()
        self._held[key].replay()
        self.replays += 1

    def forget(self) -> None:
        """And the memory that they shared: a pool whose last graph is gone takes no new one."""
        self._held.clear()
        self._pool = None

    def _capture(self, slots: int, span: int) -> torch.cuda.CUDAGraph:
        """The step is run once before, so that compilers and libraries are ready, and undone; capturing runs nothing.

        Another thread may work with the device meanwhile.
        """
        before = [(tensor, tensor.clone()) for tensor in self._state()]
        self._step(slots, span)
        for tensor, value in before:
            tensor.copy_(value)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with capturing(graph, self._pool):
            self._step(slots, span)
        self._pool = self._pool or graph.pool()
        return graph

    def evidence(self) -> dict[str, Any]:
        """For the record."""
        return {"captures": self.captures, "replays": self.replays, "graphs": len(self._held)}
