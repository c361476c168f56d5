"""CUDA graphs of a piece of work, one for each shape, the least recently used ones given up."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ttsbench.instruments.compiler import count_capture
from ttsbench.optimizations.parts.yielding_lock import YieldingLock

GRAPHS_MAX = 8
WARMUPS = 2

Work = Callable[..., torch.Tensor]

# Every capture takes the device's random stream to itself, whichever thread draws from it: one that draws while another
# captures holds this, and lets the other pass between two draws.
RANDOM_STREAM_LOCK = YieldingLock()


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph, pool: Any) -> Iterator[None]:
    """What this thread does goes into the graph; another thread may go on, as long as it draws nothing.

    Kernels of a graph keep the priority of the stream that they were captured on: that of the caller's.
    """
    present = torch.cuda.current_stream()
    stream = _capture_stream(present.device, present.priority)
    captured = torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local")
    with RANDOM_STREAM_LOCK.held(), captured:
        yield


@functools.cache
def _capture_stream(device: torch.device, priority: int) -> torch.cuda.Stream:
    """The same one each time: graphs share a pool's memory only if they were captured on one stream."""
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def urgent_stream(device: torch.device) -> torch.cuda.Stream:
    """For S3Gen beside T3: its kernels go first, since its listener waits for them, and nobody for T3's next token."""
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


class CudaRecording:
    """Work captured over static inputs. Capturing runs nothing: only a replay has a result."""

    def __init__(self, work: Work, inputs: tuple[torch.Tensor, ...], pool: Any) -> None:
        # Kernels are chosen, and compilers work, before anything is captured; on a stream of its own, as capture asks.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        present = torch.cuda.current_stream()
        stream.wait_stream(present)
        with torch.cuda.stream(stream):
            for _ in range(WARMUPS):
                work(*inputs)
        present.wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with capturing(self._graph, pool):
            self._output = work(*inputs)

    def replay(self) -> torch.Tensor:
        """The result, in a place that the next replay overwrites."""
        self._graph.replay()
        return self._output


class Graphs:
    """Runs work by replay. All graphs share one memory pool, so no result may be kept in it: callers get a copy."""

    def __init__(self, held_max: int | None = None) -> None:
        self._held_max = held_max or GRAPHS_MAX
        self._held: OrderedDict[Hashable, tuple[CudaRecording, tuple[torch.Tensor, ...]]] = OrderedDict()
        self._pool: Any = None
        self.forget()
        self.captures = 0
        self.replays = 0

    def __call__(self, key: Hashable, work: Work, *inputs: torch.Tensor) -> torch.Tensor:
        """What `work(*inputs)` returns. The key stands for everything about the work but its inputs' values."""
        if key not in self._held:
            self._capture(key, work, inputs)
        self._held.move_to_end(key)
        recording, static = self._held[key]
        for held, value in zip(static, inputs, strict=True):
            held.copy_(value)
        self.replays += 1
        return recording.replay().clone()

    def forget(self) -> None:
        """Whatever was captured; and the pool, which takes no new graph when its last one is gone."""
        self._held.clear()
        self._pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def _capture(self, key: Hashable, work: Work, inputs: tuple[torch.Tensor, ...]) -> None:
        while len(self._held) >= self._held_max:
            self._held.popitem(last=False)
        static = tuple(value.clone() for value in inputs)
        self._held[key] = CudaRecording(work, static, self._pool), static
        self.captures += 1
        count_capture()

    def evidence(self) -> dict[str, Any]:
        return {"captured": self.captures, "replays": self.replays, "held": [str(key) for key in self._held]}
