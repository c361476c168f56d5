"""How fast the device itself is at a moment, by work that never changes.

An H200 was seen to change between two speeds, 8 to 10 % apart in all that waits for memory or for the next small
kernel, with every clock that NVML tells of standing still. What a stack takes says nothing of that; work that is always
the same does, read beside it.
"""

from __future__ import annotations

import torch

# 16 MB: within the L2 and read from there, as most of what a step of T3 and S3Gen's estimator touch.
ELEMENTS = 1 << 22
PASSES = 32
# Half a millisecond, in which the host launches all of them: a busy one takes 10 µs for each where the device takes 7.
HEAD_START_CYCLES = 1_000_000
READINGS = 3


class Pace:
    """A fixed chain of small kernels; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._work = torch.zeros(ELEMENTS, device=device) if device.type == "cuda" else None

    @torch.inference_mode()
    def read(self) -> float | None:
        """Microseconds a kernel, the least of some readings; about two milliseconds in all, between utterances."""
        if self._work is None:
            return None
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        taken: list[float] = []
        for _ in range(READINGS):
            torch.cuda._sleep(HEAD_START_CYCLES)  # type: ignore[no-untyped-call]
            began.record()
            for _ in range(PASSES):
                self._work.mul_(1.0)
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) * 1e3 / PASSES)
        return min(taken)
