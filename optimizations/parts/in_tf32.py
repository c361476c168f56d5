"""A half of S3Gen that runs with TF32 allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttsbench.instruments.tf32 import ALLOWED, tf32, tf32_setting
from ttsbench.optimizations.parts.modules import Counted


class InTf32(Counted):
    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__(call)
        self.was_allowed = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with tf32():
            self.was_allowed = tf32_setting() == ALLOWED
            return super().__call__(*args, **kwargs)
