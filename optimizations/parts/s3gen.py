"""Where the slots of S3Gen keep what they put into a pipeline.

Everything is put into the instances of one pipeline. The package's classes and modules stay as they are.
"""

from __future__ import annotations

from typing import Any

from ttsbench.model.pipeline import Pipeline

_PLACE = "_installed_by_ttsbench"


def installed(pipeline: Pipeline) -> dict[str, Any]:
    """What each slot of S3Gen put into this pipeline, by the slot's name."""
    held: dict[str, Any] = vars(pipeline.tts.s3gen).setdefault(_PLACE, {})
    return held
