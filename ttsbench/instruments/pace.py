"""How fast the device itself is at a moment, by work that never changes.

An H200 was seen to change between two speeds, 8 to 10 % apart in all that waits for memory or for the next small
kernel, with every clock that NVML tells of standing still. What a stack takes says nothing of that; work that is always
the same does, read beside it.
"""

from __future__ import annotations

import torch

# 16 MB: within the L2 and read from there, as most of what a step of T3 and S3Gen's estimator touch.
ELEMENTS = 1 << 22
# So many launches are under way before the clock starts that the device never waits for the host.
HEAD_START, PASSES = 8, 32
READINGS = 3


class Pace:
    """A fixed chain of small kernels; nothing on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._work = torch.zeros(ELEMENTS, device=device) if device.type == "cuda" else None

    @torch.inference_mode()
    def read(self) -> float | None:
        """Microseconds a kernel, the least of some readings; about a millisecond in all, between utterances."""
        if self._work is None:
            return None
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        taken: list[float] = []
        for _ in range(READINGS):
            self._run(HEAD_START)
            began.record()
            self._run(PASSES)
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) * 1e3 / PASSES)
        return min(taken)

    def _run(self, kernels: int) -> None:
        assert self._work is not None
        for _ in range(kernels):
            self._work.mul_(1.0)
