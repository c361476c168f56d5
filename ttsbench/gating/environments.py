"""Which Python runs a side: this one, or where the sides' locks differ one that its lock was installed for."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ttsbench.errors import SideError
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout
from ttsbench.model import checkpoint
from ttsbench.running.progress import ProgressCallback

LOCK = "requirements.lock"
READY = ".ready"
OUTPUT_MAX = 300


def pythons(
    checkouts: Sequence[Checkout], workspace: Workspace, report_progress: ProgressCallback
) -> Mapping[Checkout, str]:
    """The interpreter of each checkout."""
    locks = {checkout: lock_of(checkout) for checkout in checkouts}
    if len(set(locks.values())) == 1:
        return dict.fromkeys(checkouts, sys.executable)
    return {checkout: str(ensure(checkout, lock, workspace, report_progress)) for checkout, lock in locks.items()}


def lock_of(checkout: Checkout) -> bytes:
    file = checkout.folder / LOCK
    return file.read_bytes() if file.is_file() else b""


def ensure(checkout: Checkout, lock: bytes, workspace: Workspace, report_progress: ProgressCallback) -> Path:
    """The interpreter of the environment that a lock describes, which is installed unless it is there and whole."""
    if not lock:
        raise SideError(f"{checkout.label} has no {LOCK}, and the other side has one", mend="Add one to install from")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = checkpoint.cache_root() / "environments" / f"{hashlib.sha256(lock).hexdigest()[:16]}-python{version}"
    with exclusive(folder):
        if not (folder / READY).exists():
            report_progress(f"installing what {checkout.label} needs, some minutes the first time")
            install(folder, checkout, workspace)
            (folder / READY).touch()
    return folder / "bin" / "python"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Two gates may need the same environment at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(folder: Path, checkout: Checkout, workspace: Workspace) -> None:
    """As the Makefile does it, without dependencies: the lock is complete."""
    shutil.rmtree(folder, ignore_errors=True)
    python, lock = str(folder / "bin" / "python"), str(checkout.folder / LOCK)
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        make = [uv, "venv", "--quiet", "--python", sys.executable, str(folder)]
        fill = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    else:
        make = [sys.executable, "-m", "venv", str(folder)]
        fill = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (make, [*fill, "--require-hashes", "--no-deps", "--requirement", lock]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=workspace.environment())
        if done.returncode:
            output = " ".join((done.stderr or done.stdout).split())[:OUTPUT_MAX] or f"exit code {done.returncode}"
            raise SideError(f"what {checkout.label} needs cannot be installed: {output}")
