"""Peaks of memory over a block: the host's, the CUDA allocator's, and the board's as the driver counts."""

from __future__ import annotations

import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ttsbench.instruments import nvml
from ttsbench.records.measurements import Memory

PROCESS = Path("/proc/self")


class Peaks:
    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}

    def result(self, *, weights_bytes: int, kv_cache_bytes: int | None) -> Memory:
        return Memory(weights_bytes=weights_bytes, kv_cache_bytes=kv_cache_bytes, **self._fields)


@contextmanager
def measure(device: object) -> Iterator[Peaks]:
    """The peaks over the block. It slows the block down a little: use a pass of its own."""
    peaks, on_cuda = Peaks(), str(device).startswith("cuda")
    if on_cuda:
        _reset_cuda_peaks(device)
    _reset_host_peak()
    yield peaks
    peaks._fields["host_peak_bytes"] = _host_peak_bytes()
    if on_cuda:
        peaks._fields |= _cuda_peaks(device)


def _reset_cuda_peaks(device: Any) -> None:
    import torch

    torch.cuda.synchronize(device)
    # Blocks that an earlier pass left in the allocator's cache would count as reserved by this one.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)


def _cuda_peaks(device: Any) -> dict[str, int | None]:
    """The driver keeps no peaks, but the allocator gives nothing back in the block, so its last word is the highest."""
    import torch

    torch.cuda.synchronize(device)
    board = nvml.board(device)
    return {
        "allocated_peak_bytes": torch.cuda.max_memory_allocated(device),
        "reserved_peak_bytes": torch.cuda.max_memory_reserved(device),
        "process_bytes": None if board is None else _process_bytes(board),
        "device_bytes": None if board is None else board.used_bytes,
    }


def _process_bytes(board: nvml.Board) -> int | None:
    """This process' share; in a container that does not know its own id on the host, only if it is alone."""
    listed = board.processes
    if os.getpid() in listed:
        return listed[os.getpid()]
    return next(iter(listed.values())) if len(listed) == 1 else None


def _reset_host_peak() -> None:
    """Linux forgets the highest resident size at this word; where it may not be said, the peak is the process' own
    since its start, which is never too low."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def _host_peak_bytes() -> int:
    """VmHWM, which the reset above sets back; elsewhere ru_maxrss, which nothing does."""
    try:
        peak = re.search(r"^VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)
    except OSError:
        peak = None
    if peak:
        return int(peak[1]) * 1024
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024
