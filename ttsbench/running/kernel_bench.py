"""Kernels against PyTorch, its compiler and Liger: checked first, then timed.

A call is checked on fresh inputs, over memory poisoned with NaN, against float64. One that is wrong is a row with the
reason and is never timed. Times are the device's, from CUDA graphs of many launches, without the host: with the L2 as
the previous launch left it, and with the L2 flushed by a write larger than it. `eager` is what a caller who launches
one after the other sees.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from triton import TritonError

from ttsbench import __version__
from ttsbench.errors import first_line
from ttsbench.instruments.tf32 import ALLOWED, FORBIDDEN, tf32
from ttsbench.optimizations.kernels import catalog
from ttsbench.optimizations.kernels.kernel import DTYPES, Case, Forward, Shape, Tensors
from ttsbench.records.kernels import EAGER, OURS, SCHEMA_VERSION, KernelRun, KernelTiming, MeasuredCeilings
from ttsbench.running import host

CHECKS = 3
LAUNCHES = 20
SAMPLES, SAMPLES_QUICK = 50, 15
COPY_BYTES = 2**30
MATMUL_SIZE = {"fp32": 4096, "tf32": 8192, "fp16": 8192, "bf16": 8192}
QUICK_SHAPES = 2

COMPILED, LIGER = "compiled", "liger"

Call = Callable[[], Any]


def run(
    names: Sequence[str], *, dtypes: Sequence[str], quick: bool, report_row: Callable[[KernelTiming], None]
) -> KernelRun:
    """All rows of these cases, each reported as soon as it is measured; Ctrl-C keeps those before it."""
    cases, machine = catalog.cases(), host.machine()
    device = host.resolve_device("auto", machine)
    ceilings = measure_ceilings() if machine.has_cuda else None
    rows, complete = [], True
    try:
        for row in measure([cases[name] for name in names], device, dtypes, quick=quick):
            report_row(row)
            rows.append(row)
    except KeyboardInterrupt:
        complete = False
    notes = () if machine.has_cuda else without_gpu(machine.cuda_problem)
    stopped = () if complete else (f"stopped after {len(rows)} rows; the others were not measured",)
    return KernelRun(
        schema_version=SCHEMA_VERSION,
        ttsbench_version=__version__,
        environment=host.fingerprint(device),
        rows=tuple(rows),
        ceilings=ceilings,
        notes=(*notes, *stopped),
        complete=complete,
    )


def without_gpu(problem: str) -> tuple[str, ...]:
    return (
        f"timing needs a GPU, and there is none to use: {problem}",
        "checked under Triton's interpreter on small shapes; a GPU also compares compiled and liger",
    )


def measure(cases: Sequence[Case], device: str, dtypes: Sequence[str], *, quick: bool) -> Iterator[KernelTiming]:
    """Case by case, shape by shape; contenders of one shape and dtype follow each other."""
    on_gpu = device != "cpu"
    for case in cases:
        shapes = (case.shapes[:QUICK_SHAPES] if quick else case.shapes) if on_gpu else case.small
        for shape in shapes:
            for dtype in dtypes:
                for contender in contenders(case, on_gpu=on_gpu):
                    yield row_of(case, shape, dtype, contender, device, quick=quick)


def contenders(case: Case, *, on_gpu: bool) -> tuple[str, ...]:
    """Eager first, ours last."""
    return (EAGER, COMPILED, *([LIGER] if case.load_liger else []), OURS) if on_gpu else (EAGER, OURS)


def row_of(case: Case, shape: Shape, dtype: str, contender: str, device: str, *, quick: bool) -> KernelTiming:
    """One contender, checked and then timed. An error is its row's reason; the others go on."""
    row = KernelTiming(case.name, str(shape), dtype, contender, "ok", tolerance=case.tolerances[dtype])
    generator = torch.Generator(device)
    try:
        forward = prepared(case, contender)
        row = checked(row, case, shape, forward, generator)
        if row.ok and device != "cpu":
            row = timed(row, case, shape, forward, generator, SAMPLES_QUICK if quick else SAMPLES)
    except (RuntimeError, TritonError, ValueError) as problem:
        return replace(row, status="failed", reason=first_line(problem), microseconds={})
    return row


def prepared(case: Case, contender: str) -> Forward:
    """The contender. Compiled is the reference, whole: a graph break is an error, as is a fall-back to eager."""
    if contender == LIGER:
        assert case.load_liger is not None
        return case.load_liger()
    if contender != COMPILED:
        return case.ours if contender == OURS else case.reference
    torch.compiler.reset()
    compiled: Forward = torch.compile(case.reference, fullgraph=True, dynamic=False)
    return compiled


def call_of(case: Case, forward: Forward, inputs: Tensors, upstream: Tensors) -> Call:
    """One launch: forward, or forward and backward of the outputs weighted by `upstream`."""
    if not case.gradient:
        return lambda: forward(*inputs)
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def call() -> Tensors:
        outputs = as_tuple(forward(*leaves))
        return (*outputs, *torch.autograd.grad(outputs, leaves, upstream))

    return call


def gradient_mode(case: Case) -> AbstractContextManager[Any]:
    return nullcontext() if case.gradient else torch.inference_mode()


def as_tuple(outputs: Any) -> Tensors:
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)


def checked(row: KernelTiming, case: Case, shape: Shape, forward: Forward, generator: torch.Generator) -> KernelTiming:
    """The row with its errors, the worst of several fresh inputs, and with the bytes that it has to move."""
    relative, largest, moved = 0.0, 0.0, 0
    for seed in range(CHECKS):
        inputs, upstream = fresh(case, shape, row.dtype, generator.manual_seed(seed))
        with gradient_mode(case):
            exact = as_tuple(call_of(case, case.exact, wide(inputs) if case.gradient else inputs, wide(upstream))())
            poison(exact, inputs[0].dtype)
            outputs = as_tuple(call_of(case, forward, inputs, upstream)())
        moved = bytes_of(case, inputs, outputs)
        for output, expected in zip(outputs, exact, strict=True):
            if output.shape != expected.shape:
                reason = f"shape {tuple(output.shape)}, not {tuple(expected.shape)}"
                return replace(row, status="wrong", reason=reason)
            errors = errors_of(output.detach().double(), expected.detach().double())
            if not all(map(math.isfinite, errors)):
                return replace(row, status="wrong", reason="values that are not finite")
            relative, largest = max(relative, errors[0]), max(largest, errors[1])
    row = replace(row, relative_error=relative, max_abs_diff=largest, bytes_moved=moved, flops=case.flops(shape.dims))
    if relative > case.tolerances[row.dtype]:
        reason = f"relative error {relative:.1e} exceeds {case.tolerances[row.dtype]:.1e}"
        return replace(row, status="wrong", reason=reason)
    return row


def errors_of(output: torch.Tensor, exact: torch.Tensor) -> tuple[float, float]:
    """‖output − exact‖ over ‖exact‖, and the largest difference."""
    difference = (output - exact).abs()
    return float(difference.norm() / exact.norm().clamp_min(1e-300)), float(difference.amax())


def fresh(case: Case, shape: Shape, dtype: str, generator: torch.Generator) -> tuple[Tensors, Tensors]:
    """Inputs, and what weights the outputs where gradients are asked for: as large as the first input."""
    inputs = case.inputs(shape.dims, DTYPES[dtype], generator)
    upstream = (torch.randn_like(inputs[0], generator=generator),) if case.gradient else ()
    return inputs, upstream


def wide(tensors: Tensors) -> Tensors:
    return tuple(tensor.double() for tensor in tensors)


def poison(outputs: Tensors, dtype: torch.dtype) -> None:
    """NaN into the memory that the allocator hands out next, so that what is not written is seen."""
    blocks = [torch.full(output.shape, torch.nan, dtype=dtype, device=output.device) for output in outputs]
    del blocks


def bytes_of(case: Case, inputs: Tensors, outputs: Tensors) -> int:
    """What has to be read and written once; a backward pass reads inputs and the gradient of the output again."""
    read, written = (sum(t.numel() * t.element_size() for t in tensors) for tensors in (inputs, outputs))
    if not case.gradient:
        return read + written
    return 2 * read + written + outputs[0].numel() * outputs[0].element_size()


def timed(
    row: KernelTiming, case: Case, shape: Shape, forward: Forward, generator: torch.Generator, samples: int
) -> KernelTiming:
    """The row with its times; where the calls cannot be captured, with the eager ones and the reason."""
    inputs, upstream = fresh(case, shape, row.dtype, generator.manual_seed(CHECKS))
    call = call_of(case, forward, inputs, upstream)
    with gradient_mode(case):
        times = {"eager": tuple(eager_times(call, samples))}
        try:
            times |= {"graph": tuple(graph_times(call, samples)), "cold": tuple(cold_times(call, samples))}
        except RuntimeError as problem:
            torch.cuda.synchronize()
            return replace(row, microseconds=times, reason=f"not captured: {first_line(problem)}")
    return replace(row, microseconds=times)


def eager_times(call: Call, samples: int) -> Iterator[float]:
    """Microseconds per call, of many in a row: host or device, whichever is slower."""
    for _ in range(3):
        call()

    def batch() -> None:
        for _ in range(LAUNCHES):
            call()

    for _ in range(samples):
        yield between_events(batch) / LAUNCHES


def graph_times(call: Call, samples: int) -> Iterator[float]:
    """Microseconds per launch, of many in one graph."""
    graph = captured(call)
    for _ in range(samples):
        yield between_events(graph.replay) / LAUNCHES


def cold_times(call: Call, samples: int) -> Iterator[float]:
    """The same with the L2 flushed before each launch: a graph of flushes and calls, less one of flushes alone."""
    flushed = torch.empty(2 * l2_bytes(), dtype=torch.int8, device="cuda")

    def flush_and_call() -> None:
        flushed.zero_()
        call()

    both, alone = captured(flush_and_call), captured(flushed.zero_)
    flush = statistics.median(between_events(alone.replay) for _ in range(samples))
    for _ in range(samples):
        yield (between_events(both.replay) - flush) / LAUNCHES


def captured(call: Call) -> torch.cuda.CUDAGraph:
    """Many launches in one graph, after some on a stream of their own."""
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            call()
    graph.replay()
    return graph


def between_events(work: Call) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e3


def l2_bytes() -> int:
    properties: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    return int(properties.L2_cache_size)


def measure_ceilings() -> MeasuredCeilings:
    """A copy of 1 GiB and products of random matrices, each the median of many."""
    source = torch.randn(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copied = statistics.median(eager_times(lambda: target.copy_(source), SAMPLES_QUICK))
    rates = {}
    for dtype, size in MATMUL_SIZE.items():
        a, b = (torch.randn(size, size, device="cuda", dtype=DTYPES.get(dtype, torch.float32)) for _ in range(2))
        with tf32(ALLOWED if dtype == "tf32" else FORBIDDEN):
            took = statistics.median(eager_times(lambda a=a, b=b: a @ b, SAMPLES_QUICK))  # type: ignore[misc]
        rates[dtype] = 2 * size**3 / took * 1e6
    return MeasuredCeilings(2 * COPY_BYTES / copied * 1e6, rates, l2_bytes())
