"""What could have spoiled the timing: clocks, heat, throttling, other processes. Read between utterances only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ttsbench.instruments import nvml
from ttsbench.records.measurements import Guard

HELD_BACK_NANOSECONDS_MIN = 1_000_000
HIDDEN = "a process outside this container"
PROC = Path("/proc")


class GuardSampler:
    """Looks when told to, and keeps the worst of what it saw."""

    def __init__(self, device: object) -> None:
        self._board = nvml.board(device)
        self._clocks_mhz: list[int] = []
        self._temperatures_c: list[int] = []
        self._load_averages: list[float] = []
        self._throttle_reasons: set[str] = set()
        self._foreign_processes: set[str] = set()
        self._held_back_before = self._held_back()

    def _held_back(self) -> dict[str, int]:
        return {} if self._board is None else self._board.held_back_nanoseconds

    def read(self) -> int | None:
        """One look, after an utterance has ended; returns the SM clock in MHz."""
        self._load_averages.append(os.getloadavg()[0])
        board = self._board
        if board is None:
            return None
        clock_mhz, temperature_c = board.sm_clock_mhz, board.temperature_c
        self._clocks_mhz += [] if clock_mhz is None else [clock_mhz]
        self._temperatures_c += [] if temperature_c is None else [temperature_c]
        self._throttle_reasons.update(board.throttle_reasons)
        self._foreign_processes.update(foreign(board.processes))
        return clock_mhz

    def result(self) -> Guard:
        """The record of all looks, and of what the board counted in between."""
        for policy, nanoseconds in self._held_back().items():
            if (more := nanoseconds - self._held_back_before.get(policy, nanoseconds)) > HELD_BACK_NANOSECONDS_MIN:
                self._throttle_reasons.add(f"{policy}, for {more * 1e-6:.0f} ms")
        return Guard(
            sm_clock_mhz_min=min(self._clocks_mhz, default=None),
            sm_clock_mhz_max=max(self._clocks_mhz, default=None),
            temperature_c_max=max(self._temperatures_c, default=None),
            throttle_reasons=tuple(sorted(self._throttle_reasons)),
            foreign_processes=tuple(sorted(self._foreign_processes)),
            load_average=max(self._load_averages, default=None),
        )


def foreign(listed: Iterable[int]) -> list[str]:
    """Names of the listed processes that are neither this one nor below it.

    This process holds a context when it looks, so it must be among those listed. Where it is not, the ids are another
    PID namespace's (a container's view of its host): none of them can be looked up, and one of them is this one.
    """
    process_ids = set(listed)
    if os.getpid() in process_ids:
        return [_name(p) for p in process_ids if not _is_ours(p)]
    return [HIDDEN] * (len(process_ids) - 1)


def _is_ours(process_id: int) -> bool:
    while process_id > 1 and process_id != os.getpid():
        process_id = _parent(process_id)
    return process_id == os.getpid()


def _parent(process_id: int) -> int:
    """Zero where it cannot be told."""
    try:
        # The name stands in parentheses and may hold any character; state and parent follow it.
        return int((PROC / str(process_id) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _name(process_id: int) -> str:
    """The executable's name alone: what stands around it is nobody's business."""
    try:
        return (PROC / str(process_id) / "comm").read_text(errors="replace").strip()
    except OSError:
        command = nvml.ask("nvmlSystemGetProcessName", process_id)
        return Path(str(command).split()[0]).name if command else HIDDEN
