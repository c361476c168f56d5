"""A lock that its holder keeps for long, and hands on at moments of his own choosing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class YieldingLock:
    """One thread at a time, again and again within itself; those who wait are let by before the holder goes on."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._holder: int | None = None
        self._depth = self._waiting = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else is within such a block, but for those that `let_others_in` lets by."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def let_others_in(self) -> None:
        """To be called by the holder where others may have their turn; returns when none of them waits any more."""
        if self._waiting:
            with self.released(), self._condition:
                self._condition.wait_for(lambda: self._holder is None and not self._waiting)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Within the block others may have their turn; whoever holds nothing has nothing to step aside from."""
        if self._holder != threading.get_ident():
            yield
            return
        with self._condition:
            depth, self._depth, self._holder = self._depth, 0, None
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._condition.wait_for(lambda: self._holder is None)
                self._depth, self._holder = depth, threading.get_ident()

    def _enter(self) -> None:
        with self._condition:
            if self._holder != threading.get_ident():
                self._waiting += 1
                self._condition.wait_for(lambda: self._holder is None)
                self._waiting -= 1
                self._holder = threading.get_ident()
            self._depth += 1

    def _leave(self) -> None:
        with self._condition:
            self._depth -= 1
            if not self._depth:
                self._holder = None
                self._condition.notify_all()
