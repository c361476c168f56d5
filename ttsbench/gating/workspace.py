"""The temporary folder of a gate: what is made in it and every process that is marked with it end with the gate."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ttsbench.gating import reaper

PREFIX = "ttsbench-gate-"
OWNER = "owner"
# One that was made just now may not have an owner yet.
NEW_SECONDS = 60.0


@dataclass(frozen=True)
class Workspace:
    """Where worktrees go, and the environment of every process that a gate starts."""

    folder: Path

    def environment(self, **variables: str) -> Mapping[str, str]:
        """For every process that must not outlive the gate."""
        return {**os.environ, reaper.MARK: str(self.folder), **variables}


@contextlib.contextmanager
def open_workspace(repository: Path | None = None) -> Iterator[Workspace]:
    """The reaper empties it, in a session of its own: at the end of the block, or when we are killed."""
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    owner = claim(folder)
    command = [sys.executable, "-I", "-S", reaper.__file__, str(folder)]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        if repository is not None:
            (folder / reaper.REPOSITORY).write_text(str(repository))
        yield Workspace(folder)
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait()
        os.close(owner)


def claim(folder: Path) -> int:
    """A lock that shows that the gate is running; it ends with us, however we end. The file appears once it is held."""
    descriptor = os.open(folder / f"{OWNER}.new", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    (folder / f"{OWNER}.new").rename(folder / OWNER)
    return descriptor


def remove_leftovers() -> None:
    """Of gates whose reaper was killed as well."""
    for folder in Path(tempfile.gettempdir()).resolve().glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if is_left_over(folder):
                reaper.reap(folder)


def is_left_over(folder: Path) -> bool:
    """Whether it is this user's, and no gate uses it any more."""
    state = folder.stat()
    if state.st_uid != os.getuid():
        return False
    if not (folder / OWNER).exists():
        return time.time() - state.st_mtime > NEW_SECONDS
    with (folder / OWNER).open() as owner:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
