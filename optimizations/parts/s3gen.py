"""What the slots of S3Gen share: where they keep what they put into a pipeline, and a count of calls.

Everything is put into the instances of one pipeline. The package's classes and modules stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttsbench.pipeline import Pipeline

_PLACE = "_installed_by_ttsbench"


def installed(pipeline: Pipeline) -> dict[str, Any]:
    """What each slot of S3Gen put into this pipeline, by the slot's name."""
    held: dict[str, Any] = vars(pipeline.tts.s3gen).setdefault(_PLACE, {})
    return held


class Counted:
    """A callable in another's place that counts its calls."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The call, counted."""
        self.calls += 1
        return self._call(*args, **kwargs)
