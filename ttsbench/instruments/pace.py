"""The device's pace: how long a kernel takes in a fixed chain of the smallest ones.

An H200 was seen to change between two speeds while every clock in NVML stood still: in the slow one all that consists
of small kernels takes 7 to 10 % longer, as if each kernel of a CUDA graph took 0.35 µs more. In 621 utterances of one
stack this chain, read before and after each, changed when decoding did. `reports.decide.paces` judges what is read.
"""

from __future__ import annotations

import torch

# Enough for the time between two events to be known to less than a percent.
KERNELS = 256
# Each kernel has a number of its own, this far from the last one: with one for all, the chain took 960 to 1004 ns a
# kernel in eight processes, by where in memory it came to lie; with these 940 in all of them.
APART = 1024
# Half a millisecond, in which the host launches the graph: what comes before it on the device is not timed.
HEAD_START_CYCLES = 1_000_000
READINGS = 5


class Pace:
    """A captured chain of small kernels; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        # The graph writes to them: they have to live as long.
        self._numbers = torch.ones(KERNELS, APART, device=device) if device.type == "cuda" else None
        self._graph = None if self._numbers is None else _chain(self._numbers)

    def read(self) -> float | None:
        """Nanoseconds a kernel, the least of some readings; about five milliseconds in all, between utterances."""
        if self._graph is None:
            return None
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        taken: list[float] = []
        for _ in range(READINGS):
            torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
            began.record()
            self._graph.replay()
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) * 1e6 / KERNELS)
        return min(taken)


def _chain(numbers: torch.Tensor) -> torch.cuda.CUDAGraph:
    """Kernels of which each waits for the one before it.

    Captured by hand: `torch.cuda.graph` would empty the cache of the allocator, and the next utterance would pay. It
    belongs to no stack, so it is not counted as a capture.
    """
    graph, present = torch.cuda.CUDAGraph(), torch.cuda.current_stream(numbers.device)
    stream = torch.cuda.Stream(numbers.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(present)
    with torch.cuda.stream(stream):
        numbers[0, :1].mul_(1.0)  # nothing may be loaded for the first time in a capture
        graph.capture_begin(capture_error_mode="thread_local")
        for number in numbers:
            number[:1].mul_(1.0)
        graph.capture_end()
    present.wait_stream(stream)
    return graph
