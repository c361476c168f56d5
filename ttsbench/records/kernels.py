"""What `ttsbench kernels` leaves behind: one row per kernel, shape, dtype and contender, raw times included."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from ttsbench.errors import ExitCode

SCHEMA_VERSION = 1

DTYPES = ("fp32", "fp16", "bf16")
EAGER, OURS = "eager", "triton"

# graph: one launch of many in a CUDA graph. cold: the same after the L2 was flushed. eager: with the host's share.
TIMINGS = ("graph", "cold", "eager")


@dataclass(frozen=True)
class KernelTiming:
    """One contender. `wrong` and `failed` ones have a reason and no times."""

    kernel: str
    shape: str
    dtype: str
    contender: str
    status: str
    reason: str = ""
    relative_error: float | None = None
    max_abs_diff: float | None = None
    tolerance: float | None = None
    bytes_moved: int = 0
    flops: int = 0
    microseconds: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def median(self, timing: str) -> float | None:
        samples = self.microseconds.get(timing)
        return statistics.median(samples) if samples else None

    def spread(self, timing: str) -> float | None:
        """Half the distance between the quartiles, over the median."""
        samples, middle = self.microseconds.get(timing, ()), self.median(timing)
        if len(samples) < 2 or not middle:
            return None
        low, _, high = statistics.quantiles(samples, n=4)
        return (high - low) / 2 / middle

    def bytes_per_second(self, timing: str = "cold") -> float | None:
        middle = self.median(timing)
        return self.bytes_moved / middle * 1e6 if middle else None

    def flops_per_second(self, timing: str = "cold") -> float | None:
        """Multiplications and additions of its matrix products, over its time."""
        middle = self.median(timing)
        return self.flops / middle * 1e6 if middle else None


@dataclass(frozen=True)
class MeasuredCeilings:
    """What the same card did in the same run: a large copy, and a large product per dtype."""

    copy_bytes_per_second: float
    matmul_flops_per_second: dict[str, float]
    l2_bytes: int

    def share(self, row: KernelTiming) -> float | None:
        """The least time that bytes and operations allow, over the time with a cold L2."""
        middle = row.median("cold")
        if not middle:
            return None
        bound = max(
            row.bytes_moved / self.copy_bytes_per_second, row.flops / self.matmul_flops_per_second[row.dtype]
        )  # fmt: skip
        return bound * 1e6 / middle


@dataclass(frozen=True)
class KernelRun:
    schema_version: int
    ttsbench_version: str
    environment: dict[str, Any]
    rows: tuple[KernelTiming, ...]
    ceilings: MeasuredCeilings | None = None
    notes: tuple[str, ...] = ()
    complete: bool = True

    @property
    def exit_code(self) -> ExitCode:
        """Ours must be right and must run; what others do wrong is their row's business."""
        states = {row.status for row in self.rows if row.contender == OURS}
        if not self.complete:
            return ExitCode.INTERRUPTED
        if "wrong" in states:
            return ExitCode.QUALITY
        return ExitCode.CELL_FAILED if "failed" in states else ExitCode.OK
