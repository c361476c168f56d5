"""Slot `cfm_steps`: how many Euler steps turn noise into a mel spectrogram; fewer are faster, and another sound."""

from __future__ import annotations

from typing import Any

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.modules import Counted
from ttsbench.optimizations.parts.s3gen import installed

SLOT = "cfm_steps"


def apply(pipeline: Pipeline, option: str) -> None:
    """Gives S3Gen's flow that number of steps at every call."""
    if option == "upstream":
        return
    flow = pipeline.tts.s3gen.flow
    flow.inference = installed(pipeline)[SLOT] = FixedSteps(flow, int(option))


class FixedSteps:
    """The flow with its number of steps fixed, counting what the estimator is really called."""

    def __init__(self, flow: Any, steps: int) -> None:
        self._inference = flow.inference
        self._decoder = flow.decoder
        self._eager = flow.decoder.estimator.forward = Counted(flow.decoder.estimator.forward)
        self.steps = steps
        self.estimator_calls = 0

    def __call__(self, **arguments: Any) -> Any:
        """Upstream's signature, by keyword as S3Gen calls it."""
        before = self._eager.calls
        result = self._inference(**{**arguments, "n_timesteps": self.steps})
        # A replayed solve calls nothing from Python; it knows how many calls it holds.
        graphed = getattr(self._decoder.solve_euler, "estimator_calls", 0)
        self.estimator_calls = graphed or self._eager.calls - before
        return result


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """The estimator's calls in the last utterance; another number than was asked for is an error."""
    fixed = installed(pipeline).get(SLOT)
    calls = None if fixed is None else fixed.estimator_calls
    if calls != (None if option == "upstream" else int(option)):
        raise CellError(f"{SLOT}: {option} was asked for, and the estimator was called {calls or 'by upstream'} times")
    return {"estimator_calls": calls or "upstream's"}
