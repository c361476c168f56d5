"""Which Python runs a side: this one, or where the sides' locks differ one that its lock was installed for."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ttsbench.errors import SideError
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout
from ttsbench.model import checkpoint

LOCK = "requirements.lock"
READY = ".ready"
TOLD_MAX = 300
Tell = Callable[[str], None]


def pythons(checkouts: Sequence[Checkout], space: Workspace, tell: Tell) -> list[str]:
    """For each checkout its interpreter."""
    locks = [lock_of(checkout) for checkout in checkouts]
    if len(set(locks)) == 1:
        return [sys.executable] * len(checkouts)
    return [str(ensure(checkout, lock, space, tell)) for checkout, lock in zip(checkouts, locks, strict=True)]


def lock_of(checkout: Checkout) -> bytes:
    """What its lock says; nothing where it has none."""
    file = checkout.folder / LOCK
    return file.read_bytes() if file.is_file() else b""


def ensure(checkout: Checkout, lock: bytes, space: Workspace, tell: Tell) -> Path:
    """The interpreter of an environment that holds what the lock says; made where it is not there or not whole."""
    if not lock:
        raise SideError(
            f"{checkout.label} has no {LOCK}, and the other side has one", mend="There is nothing to install"
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = checkpoint.cache_root() / "environments" / f"{hashlib.sha256(lock).hexdigest()[:16]}-python{version}"
    with alone(folder):
        if not (folder / READY).exists():
            tell(f"installing what {checkout.label} needs, some minutes the first time")
            install(folder, checkout, space)
            (folder / READY).touch()
    return folder / "bin" / "python"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Two gates may want the same one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def install(folder: Path, checkout: Checkout, space: Workspace) -> None:
    """As the Makefile does it: the lock is complete, so that nothing else is asked what it needs."""
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
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=space.environment())
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[:TOLD_MAX] or f"exit code {done.returncode}"
            raise SideError(f"what {checkout.label} needs cannot be installed: {told}")
