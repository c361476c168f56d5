"""Processes of the tool and what they use: a time depends on other work, so benchmarks take ratios of these."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 5


@dataclass(frozen=True)
class Usage:
    """What a process used: seconds of the processor, and its peak of memory."""

    cpu_seconds: float
    peak_bytes: int
    exit_code: int


def run_process(command: Sequence[str], folder: Path) -> Usage:
    """Other work on the machine changes the time on the clock, but hardly that of the processor."""
    # wait4 counts what the parent had when it forked into the peak: a spawned process has nothing of it.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, process.returncode)


def fastest(command: Sequence[str], folder: Path, rounds: int = ROUNDS) -> Usage:
    return min((run_process(command, folder) for _ in range(rounds)), key=lambda usage: usage.cpu_seconds)


def ttsbench_usage(folder: Path, *arguments: str, rounds: int = ROUNDS) -> Usage:
    """The cheapest of several runs of a ttsbench command."""
    return fastest([sys.executable, "-m", "ttsbench", *arguments], folder, rounds)


def python_usage(folder: Path, program: str, rounds: int = ROUNDS) -> Usage:
    """The cheapest of several runs of a Python program: the reference."""
    return fastest([sys.executable, "-c", program], folder, rounds)
