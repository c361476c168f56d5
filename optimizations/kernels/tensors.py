"""What every kernel's launch needs to know about its tensors."""

from __future__ import annotations

import torch


def as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as [rows, columns] with neighbouring columns; copied only where strides cannot say so."""
    rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.numel() else tensor.new_empty(0, tensor.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def require(condition: bool, problem: str) -> None:
    """Refuses what a kernel would read past."""
    if not condition:
        raise ValueError(problem)


def wants_gradient(*tensors: torch.Tensor) -> bool:
    """Whether autograd will ask for a backward pass."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def refuse_gradient(kernel: str, *tensors: torch.Tensor) -> None:
    """A kernel without a backward pass must not cut the graph in silence."""
    if wants_gradient(*tensors):
        raise RuntimeError(f"{kernel} has no backward pass; call it under torch.inference_mode()")
