"""Stages and kernels against what the same card did in the same process: a large copy, and large products.

A stage's bytes and operations are those of its products, convolutions and attention: what is left when everything else
is fused into them, and therefore the same for an eager stack and for one that is compiled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ttsbench.profiling import families
from ttsbench.profiling.attribution import AttributedKernel
from ttsbench.profiling.costs import Cost
from ttsbench.profiling.tables import by_stage
from ttsbench.records.profile_rows import Ceilings, KernelRow, Roofline, RooflinePoint, Stage

KERNELS_MAX = 25
LAUNCH_SECONDS = 5e-6
FALL_BACK = "fp32"
UNCOUNTED_SHARE_MAX = 0.02
PRODUCTS = ("gemm", "attention", "convolution")
HOST_BOUND_SHARE_MIN = BUSY_SHARE_MAX = 0.5


def roofline(
    ceilings: Ceilings | None, executed: Sequence[AttributedKernel], stages: Sequence[Stage],
    kernels: Sequence[KernelRow], twin: Sequence[AttributedKernel],
) -> Roofline | None:  # fmt: skip
    """Points for every stage that has products, and for the dearest kernels whose cost is known."""
    if ceilings is None:
        return None
    uncounted = uncounted_shares(twin or executed)
    costs = {stage: of_stage for stage, of_stage in products(twin or executed).items() if stage not in uncounted}
    points = [
        point
        for stage in stages
        if (of_stage := costs.get(stage.name)) and (point := stage_point(ceilings, stage, of_stage))
    ]
    dtypes = {(kernel.event.name, kernel.stage): kernel.cost.dtype for kernel in executed if kernel.cost is not None}
    points += [
        kernel_point(ceilings, kernel, dtypes.get((kernel.name, kernel.stage), FALL_BACK))
        for kernel in kernels[:KERNELS_MAX]
        if kernel.bytes and kernel.operations is not None and kernel.seconds
    ]
    seconds = sum(kernel.event.seconds for kernel in executed)
    counted = sum(kernel.event.seconds for kernel in executed if kernel.cost is not None)
    return Roofline(ceilings, tuple(points), main_dtype(costs), counted / seconds if seconds else 0.0)


def products(executed: Sequence[AttributedKernel]) -> dict[str, list[Cost]]:
    return {
        stage: [kernel.cost for kernel in kernels if kernel.cost is not None and kernel.cost.product]
        for stage, kernels in by_stage(executed).items()
    }


def uncounted_shares(executed: Sequence[AttributedKernel]) -> dict[str, float]:
    """Stages whose products tell no shapes, as replayed ones do and those of Triton or another package: what share of
    their time those take. Their floor would be one of half the work."""
    shares = {}
    for stage, kernels in by_stage(executed).items():
        whole = sum(kernel.event.seconds for kernel in kernels)
        costless = (kernel.event for kernel in kernels if kernel.cost is None)
        uncounted = sum(event.seconds for event in costless if is_product(event.name))
        if whole and uncounted / whole > UNCOUNTED_SHARE_MAX:
            shares[stage] = uncounted / whole
    return shares


def is_product(kernel: str) -> bool:
    """By its name."""
    return families.family(kernel) in PRODUCTS or families.is_our_product(kernel)


def main_dtype(costs: Mapping[str, Sequence[Cost]]) -> str:
    """In which most of the operations are done."""
    operations: dict[str, float] = defaultdict(float)
    for of_stage in costs.values():
        for cost in of_stage:
            operations[cost.dtype] += cost.operations
    return max(operations, key=lambda dtype: operations[dtype], default=FALL_BACK)


def stage_point(ceilings: Ceilings, stage: Stage, costs: Sequence[Cost]) -> RooflinePoint | None:
    """Against the stage's time on the stream without the profiler, its waits included."""
    measured = stage.unprofiled_device_seconds or stage.busy_seconds + stage.idle_seconds
    if not measured:
        return None
    memory = sum(cost.bytes for cost in costs) / ceilings.copy_bytes_per_second
    compute = sum(cost.operations / rate(ceilings, cost.dtype) for cost in costs)
    waiting = stage.busy_seconds < BUSY_SHARE_MAX * measured and stage.host_bound_share >= HOST_BOUND_SHARE_MIN
    return RooflinePoint(
        name=stage.name,
        kind="stage",
        stage=stage.name,
        bytes=round(sum(cost.bytes for cost in costs)),
        operations=round(sum(cost.operations for cost in costs)),
        measured_seconds=measured,
        floor_seconds=max(memory, compute),
        bound="launch" if waiting else "memory" if memory >= compute else "compute",
    )


def kernel_point(ceilings: Ceilings, kernel: KernelRow, dtype: str) -> RooflinePoint:
    """All calls of a kernel within a stage."""
    assert kernel.bytes is not None
    assert kernel.operations is not None
    memory = kernel.bytes / ceilings.copy_bytes_per_second
    compute = kernel.operations / rate(ceilings, dtype)
    short = kernel.seconds / kernel.calls < LAUNCH_SECONDS
    return RooflinePoint(
        name=kernel.readable,
        kind="kernel",
        stage=kernel.stage,
        bytes=kernel.bytes,
        operations=kernel.operations,
        measured_seconds=kernel.seconds,
        floor_seconds=max(memory, compute),
        bound="launch" if short else "memory" if memory >= compute else "compute",
    )


def rate(ceilings: Ceilings, dtype: str) -> float:
    rates = ceilings.matmul_flops_per_second
    return rates.get(dtype, rates[FALL_BACK])
