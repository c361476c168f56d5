"""Compiles every launch of every kernel for a GPU that need not be here; the interpreter knows no types to disagree.

A program of its own: where kernels are interpreted, nothing can be compiled. Numbers of the host are handed over in
single precision by a launch, and in double by torch.compile.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from ttsbench.optimizations.kernels import catalog

HOPPER = GPUTarget("cuda", 90, 32)
OPTIONS = ("num_warps", "num_stages")
Launch = tuple[Any, dict[str, Any]]


def main() -> None:
    """Prints each kernel that was compiled."""
    launches: list[Launch] = []
    JITFunction.run = lambda self, *args, grid, warmup, **named: launches.append(
        (self, dict(zip(self.arg_names, args, strict=False)) | named)
    )
    for case in catalog.cases().values():
        for dtype in (torch.float32, torch.bfloat16):
            for shape in case.small:
                call(case, shape, dtype)
    done = set()
    for kernel, value in launches:
        for of_numbers in ("fp32", "fp64"):
            signature, constants = typed(kernel, value, of_numbers)
            key = (kernel.fn.__name__, tuple(signature.items()), repr(constants))
            if key not in done:
                options = {name: value[name] for name in OPTIONS if name in value}
                triton.compile(ASTSource(kernel, signature, constants), target=HOPPER, options=options)
                done.add(key)
    sys.stdout.write("\n".join(sorted({name for name, *_ in done})))


def call(case: Any, shape: Any, dtype: torch.dtype) -> None:
    """Our kernel, forward and, where there is one, backward."""
    inputs = case.inputs(shape.dims, dtype, torch.Generator().manual_seed(0))
    if not case.gradient:
        with torch.inference_mode():
            case.ours(*inputs)
        return
    inputs = [tensor.requires_grad_() for tensor in inputs]
    result = case.ours(*inputs)
    torch.autograd.grad(result.sum(), inputs)


def typed(kernel: Any, value: dict[str, Any], of_numbers: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Triton's name for the type of each argument, and the values of those that are compiled in."""
    constants = {p.name: value[p.name] for p in kernel.params if p.is_constexpr or value[p.name] is None}
    signature = {
        p.name: "constexpr" if p.name in constants else name_of(value[p.name], of_numbers) for p in kernel.params
    }
    return signature, constants


def name_of(value: Any, of_numbers: str) -> str:
    """As a launch would name it."""
    if isinstance(value, torch.Tensor):
        return f"*{triton.runtime.jit.type_canonicalisation_dict[str(value.dtype).removeprefix('torch.')]}"
    return of_numbers if isinstance(value, float) else "i32"


if __name__ == "__main__":
    main()
