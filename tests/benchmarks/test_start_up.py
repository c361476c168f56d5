"""Commands that look something up start in a blink: no torch, no numpy, no pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from processes import python_usage, ttsbench_usage

# What any command line of this kind has to import. On two quiet cores it takes 0.07 s of the processor.
REFERENCE = "import typer, yaml"
RATIO_MAX = 5.0
RUN = Path(__file__).parents[2] / "docs" / "results" / "h200-step-kernels"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("list",), ("validate", "quickstart"), ("show", str(RUN))], ids=lambda a: a[0]
)
def test_a_look_up_starts_in_a_blink(arguments: tuple[str, ...], benchmark: Any, tmp_path: Path) -> None:
    usage = benchmark.pedantic(ttsbench_usage, args=(tmp_path, *arguments), rounds=1)
    ratio = usage.cpu_seconds / python_usage(tmp_path, REFERENCE).cpu_seconds
    benchmark.extra_info.update(cpu_seconds=usage.cpu_seconds, ratio=ratio)
    assert usage.exit_code == 0
    assert ratio < RATIO_MAX
