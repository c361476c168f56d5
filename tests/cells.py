"""Jobs that tests vary by a field or two, and the real worker in this process to run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.records import runs
from ttsbench.records.jobs import Job


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """A job of the tiny model on the CPU."""

    def make(**changes: Any) -> Job:
        values: dict[str, Any] = {
            "key": "lean", "kind": "timed", "stack": "lean", "slots": {"decode": "lean"}, "point": {}, "process": 0,
            "order": 0, "start_method": "forkserver", "device": "cpu", "family": "chatterbox", "weights": "synthetic",
            "size": "tiny", "dtype": "fp32", "model_seed": 0, "texts": ("One short sentence.",), "fixed_tokens": 6,
            "replay_tokens": (), "voice_wav": "", "voice_seconds": None, "language": None, "sampling": {}, "seed": 0,
            "warmup": 1, "repeats": 2, "passes": ("time", "memory"), "timeout_seconds": 60.0, "keep_audio": True,
            "reference": "", "limits": {},
        }  # fmt: skip
        return Job(**{**values, **changes})

    return make


@pytest.fixture
def run_cell(tmp_path: Path) -> Callable[[Job], runs.Cell]:
    """What the worker makes of a job; files go into the test's own folder."""
    from ttsbench.running import worker

    return lambda job: worker.run(job, tmp_path, lambda stage: None, {})
