"""Another forward for one module instance, counted; how the slots of T3's layers take effect and prove it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence
from ttsbench.optimizations.registry import BY_NAME
from ttsbench.optimizations.target import Target
from ttsbench.optimizations.undo import Undo


class Counted:
    """In another's place, counting its calls; a compiled or captured step calls it while it is made, and not after."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The call. A changing count would make the compiler recompile."""
        if not torch.compiler.is_compiling():
            self.calls += 1
        return self.call(*args, **kwargs)


class Replaced(Counted):
    def __init__(self, slot: str, call: Callable[..., Any]) -> None:
        super().__init__(call)
        self.slot = slot


def replace_forward(
    target: Target, slot: str, modules: Iterable[torch.nn.Module], make: Callable[[Any], Callable[..., Any]]
) -> None:
    """Gives each module a forward of its own; the class, which other models share, stays as it is."""
    for module in modules:
        target.undo.replace(module, "forward", Replaced(slot, make(module)))


def attest_replaced(target: Target, slot: str, option: str, others: Iterable[Counted] = ()) -> Evidence:
    """By the forwards that were replaced in T3's modules, and by what else the slot put there."""
    forwards = (module.__dict__.get("forward") for module in target.tts.t3.modules())
    # What was compiled is called by the compiled one's count.
    inner_and_outer = [(getattr(forward, "wrapped", forward), forward) for forward in forwards]
    ours = [(inner, outer) for inner, outer in inner_and_outer if isinstance(inner, Replaced) and inner.slot == slot]
    calls = [inner.calls or outer.calls for inner, outer in ours] + [counted.calls for counted in others]
    return attest_calls(slot, option, calls)


def attest_calls(slot: str, option: str, calls: list[int]) -> Evidence:
    """How many were replaced and how often those were called; none, or one that was never called, is an error."""
    idle = calls.count(0)
    if bool(calls) != (option != BY_NAME[slot].default) or idle:
        raise CellError(
            f"{slot}: {option} was asked for; {len(calls)} modules were replaced, {idle} of them never called"
        )
    return {"replaced": len(calls), "calls": sum(calls)}


def cast(undo: Undo, module: torch.nn.Module, dtype: torch.dtype) -> None:
    for parameter in module.parameters():
        undo.weights(partial(setattr, parameter, "data", parameter.data))
        parameter.data = parameter.data.to(dtype)
