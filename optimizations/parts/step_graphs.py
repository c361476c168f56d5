"""Steps as CUDA graphs. Whatever a step reads and changes stays in its place, so that a replay is all of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from ttsbench.instruments.compiler import count_capture
from ttsbench.optimizations.parts.graphs import capturing

Step = Callable[[], None]


class StepGraphs:
    """One graph for each sequence of kernels; captured when it is asked for the first time.

    `state` gives all that a step changes, but for keys and values, which the next step writes again; `random` is the
    stream that a step draws from by itself.
    """

    def __init__(self, state: Callable[[], Sequence[torch.Tensor]], random: torch.Generator | None = None) -> None:
        self._state = state
        self._random = random
        self._held: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None
        self.captures = self.replays = 0

    def __call__(self, key: Hashable, step: Step) -> None:
        """One step; the key stands for everything that changes its sequence of kernels."""
        if key not in self._held:
            self._held[key] = self._capture(step)
            self.captures += 1
            count_capture()
        self._held[key].replay()
        self.replays += 1

    def forget(self) -> None:
        """And the memory that they shared: a pool whose last graph is gone takes no new one."""
        self._held.clear()
        self._pool = None

    def _capture(self, step: Step) -> torch.cuda.CUDAGraph:
        """The step is run once before, so that compilers and libraries are ready; capturing itself runs nothing."""
        self.take_back(step)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with capturing(graph, self._pool):
            step()
        self._pool = self._pool or graph.pool()
        return graph

    def take_back(self, step: Step) -> None:
        """Runs a step, and puts back what it changed."""
        before = [(tensor, tensor.clone()) for tensor in self._state()]
        stream = None if self._random is None else self._random.get_state()
        step()
        for tensor, value in before:
            tensor.copy_(value)
        if self._random is not None and stream is not None:
            self._random.set_state(stream)

    def evidence(self) -> dict[str, Any]:
        return {"captures": self.captures, "replays": self.replays, "graphs": len(self._held)}
