"""numpy where `ulimit -v` leaves too little memory: its BLAS ends the process with 1, which means slower, or hangs.

So under such a limit a copy of the process tries first.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import Any

from ttsbench.errors import ExitCode, TtsbenchError

SECONDS_MAX = 30.0


class AddressSpaceError(TtsbenchError):
    exit_code = ExitCode.INTERNAL


class _Probe:
    """Asked by the import system where a module is; answers nothing, once numpy was tried."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "numpy":
            sys.meta_path.remove(self)
            _refuse_too_little_memory()


def check_before_numpy() -> None:
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        sys.meta_path.insert(0, _Probe())


def _refuse_too_little_memory() -> None:
    copy = os.fork()
    if not copy:
        _import_and_exit()
    deadline = time.monotonic() + SECONDS_MAX
    while (ended := os.waitpid(copy, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(copy, 9)
        time.sleep(0.01)
    if ended[1] != 0:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        raise AddressSpaceError(f"numpy finds no room in the {limit >> 20} MiB that ulimit -v leaves", mend="Raise it")


def _import_and_exit() -> None:
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        import scipy.special  # noqa: F401  (numpy, and what statistics need of scipy)

        code = 0
    finally:
        os._exit(code)
