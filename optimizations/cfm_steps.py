"""Slot `cfm_steps`: how many Euler steps turn noise into a mel spectrogram; fewer are faster, and another sound."""

from __future__ import annotations

from collections.abc import Callable

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.options import Evidence, Option, Slot
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.flow_solve import FixedSteps

    flow = target.tts.s3gen.flow
    fixed = FixedSteps(target.undo, flow, int(option))
    target.undo.replace(flow, "inference", fixed)
    target.undo.replace(target.s3gen_parts, "fixed_steps", fixed)


def attest(target: Target, option: str) -> Evidence:
    """By the estimator's calls in the last utterance; another number than was asked for is an error."""
    fixed = target.s3gen_parts.fixed_steps
    calls = None if fixed is None else fixed.estimator_calls
    if calls != (None if option == "upstream" else int(option)):
        ran = "by upstream" if calls is None else calls
        raise CellError(f"cfm_steps: {option} was asked for, and the estimator was called {ran} times")
    return {"estimator_calls": calls or "upstream's"}


def _fewer(steps: int, fits: Callable[[Family], bool]) -> Option:
    return Option(
        str(steps),
        f"{steps} step{'s' * (steps > 1)}",
        changes_output="fewer Euler steps make another sound",
        fits=fits,
    )


SLOT = Slot(
    "cfm_steps",
    "Euler steps from noise to a mel spectrogram",
    (
        Option("upstream", "10 with guidance, 2 for mean flows"),
        *(_fewer(steps, Family.guided) for steps in (8, 6, 5, 4, 2)),
        _fewer(1, lambda family: family.mean_flow),
    ),
    apply=apply,
    attest=attest,
)
