"""Cleans up behind a gate, however that ended: none of its processes goes on, none of its worktrees is left.

Runs by its path with the standard library alone, apart from the gate's terminal and session, and waits for the end of
its input, which comes when the gate closes it or dies. PR_SET_PDEATHSIG is no substitute: it reaches children alone,
not what they started and left behind (compiler pools, installers), and a worktree stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# In the environment of every process that a gate starts.
MARK = "TTSBENCH_WORKSPACE"
REPOSITORY = "repository"
SECONDS_MAX = 10.0


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]))


def reap(folder: Path) -> None:
    """Ends what a gate started, then removes what it made. Safe to call twice, also concurrently."""
    end_processes(folder)
    file = folder / REPOSITORY
    # git killed at work is no longer there to write, so the folder can go first; git then forgets what is gone.
    repository = Path(file.read_text()) if file.exists() else None
    worktrees = [(repository, path) for path in worktrees_below(folder, repository)] if repository else []
    shutil.rmtree(folder, ignore_errors=True)
    for owner, worktree in worktrees:
        git(owner, "worktree", "remove", "--force", "--force", worktree)


def end_processes(folder: Path) -> None:
    """Until there is none: one may have started another just before it was killed."""
    deadline = time.monotonic() + SECONDS_MAX
    while (numbers := list(processes_of(folder))) and time.monotonic() < deadline:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)


def processes_of(folder: Path) -> Iterator[int]:
    """Those whose environment names the folder; a zombie has none."""
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def worktrees_below(folder: Path, repository: Path) -> Iterator[str]:
    """As git knows them, whether or not they are still there."""
    for line in git(repository, "worktree", "list", "--porcelain").splitlines():
        kind, _, path = line.partition(" ")
        if kind == "worktree" and Path(path).is_relative_to(folder):
            yield path


def git(repository: Path, *arguments: str) -> str:
    """What it prints; nothing if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    main()
