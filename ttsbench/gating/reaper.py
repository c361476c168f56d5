"""Cleans up behind a gate, however that ended: no process of it goes on, no worktree of it is left.

Runs by its path with the standard library alone, apart from the gate's terminal and session. It waits for the end of
its input, which comes when the gate closes it or dies.
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
    """Waits, and reaps the folder that was named."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]))


def reap(folder: Path) -> None:
    """Ends what a gate started, then removes what it made. May be called again, and by two at a time."""
    end_processes(folder)
    repository = folder / REPOSITORY
    # git killed at work is no longer there to write, so the folder can go first; git then forgets what is gone.
    told = repository.read_text() if repository.exists() else ""
    worktrees = list(worktrees_below(folder, Path(told))) if told else []
    shutil.rmtree(folder, ignore_errors=True)
    for worktree in worktrees:
        git(Path(told), "worktree", "remove", "--force", "--force", worktree)


def end_processes(folder: Path) -> None:
    """Until there is none: one may have started another just before it was killed."""
    deadline = time.monotonic() + SECONDS_MAX
    while (found := list(processes_of(folder))) and time.monotonic() < deadline:
        for number in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)


def processes_of(folder: Path) -> Iterator[int]:
    """Those whose environment names the folder. Of one that has ended and not been waited for there is none left."""
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
    """What it prints; nothing where it fails."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        command = ["git", "-C", str(repository), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=plain).stdout
    except OSError:
        return ""


if __name__ == "__main__":
    main()
