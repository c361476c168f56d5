"""Another forward for one module instance, counted; how the slots of T3's layers take effect and prove it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline


class Counted:
    """In another's place, counting its calls; a compiled or captured step calls it while it is made, and not after."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The call. A compiler would take a changing count for a reason to compile again."""
        if not torch.compiler.is_compiling():
            self.calls += 1
        return self.call(*args, **kwargs)


class Replaced(Counted):
    """In the place of a module's `forward`, by a slot."""

    def __init__(self, slot: str, call: Callable[..., Any]) -> None:
        super().__init__(call)
        self.slot = slot


def replace_forward(
    slot: str, modules: Iterable[torch.nn.Module], computing: Callable[[Any], Callable[..., Any]]
) -> None:
    """Gives each module a forward of its own; the class, which other models share, stays as it is."""
    for module in modules:
        module.forward = Replaced(slot, computing(module))


def attest_replaced(
    pipeline: Pipeline, slot: str, option: str, also: Iterable[Counted] = ()
) -> dict[str, Any]:  # fmt: skip
    """What of T3's modules was replaced, and what that is no module."""
    forwards = (module.__dict__.get("forward") for module in pipeline.tts.t3.modules())
    # What was compiled is called by the compiled one's count.
    found = [(getattr(forward, "wrapped", forward), forward) for forward in forwards]
    ours = [(forward, outer) for forward, outer in found if isinstance(forward, Replaced) and forward.slot == slot]
    calls = [forward.calls or outer.calls for forward, outer in ours] + [counted.calls for counted in also]
    return attest_calls(slot, option, calls, wanted=option != BY_DEFAULT)


def attest_calls(slot: str, option: str, calls: list[int], *, wanted: bool) -> dict[str, Any]:
    """How many were replaced and how often those were called; none, or one that was never called, is an error."""
    idle = calls.count(0)
    if bool(calls) != wanted or idle:
        raise CellError(
            f"{slot}: {option} was asked for; {len(calls)} modules were replaced, {idle} of them never called"
        )
    return {"replaced": len(calls), "calls": sum(calls)}


BY_DEFAULT = "eager"
