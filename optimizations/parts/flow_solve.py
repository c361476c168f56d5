"""S3Gen's Euler solve with its state and its times in fp32, whatever precision the estimator works in.

Upstream casts both to the estimator's dtype. The estimator multiplies a time by 1000 and takes its sine: rounded to
bf16, such an angle is wrong by up to 2 rad. At tiny size a mel made so is 4.9 % off in bf16 and 0.9 % in fp16; with the
times in fp32 it is 0.8 % and 0.1 %.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ttsbench.optimizations.parts.modules import Counted
from ttsbench.optimizations.undo import Undo

Velocity = Callable[..., torch.Tensor]


def euler(
    velocity: Velocity,
    decoder: Any,
    x: torch.Tensor,
    times: torch.Tensor,
    mu: torch.Tensor,
    spks: torch.Tensor,
    cond: torch.Tensor,
) -> torch.Tensor:
    """Upstream's steps. With guidance, rows without conditions follow those with; a mean flow has none."""
    dtype, guided = decoder.estimator.dtype, not decoder.estimator.meanflow
    mu, spks, cond = (tensor.to(dtype) for tensor in (mu, spks, cond))
    if guided:
        mu, spks, cond = (torch.cat([tensor, torch.zeros_like(tensor)]) for tensor in (mu, spks, cond))
    for start, end in zip(times[:-1, None], times[1:, None], strict=True):
        if guided:
            both = velocity(x.to(dtype).repeat(2, 1, 1), mu, start.repeat(mu.size(0)), spks, cond, None)
            with_text, without = both.to(x.dtype).chunk(2)
            step = (1.0 + decoder.inference_cfg_rate) * with_text - decoder.inference_cfg_rate * without
        else:
            step = velocity(x.to(dtype), mu, start, spks, cond, end).to(x.dtype)
        x = x + (end - start) * step
    return x


class Solve:
    """In the place of both of upstream's solvers, step by step."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder

    def __call__(
        self,
        x: torch.Tensor,
        t_span: torch.Tensor,
        mu: torch.Tensor,
        mask: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
        meanflow: bool = False,
    ) -> torch.Tensor:
        """Upstream's signature; whether it is a mean flow, the estimator knows."""
        return self.solved(x, t_span, mu, mask, spks, cond)

    def solved(
        self,
        x: torch.Tensor,
        times: torch.Tensor,
        mu: torch.Tensor,
        mask: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
    ) -> torch.Tensor:
        estimator = self.decoder.estimator
        mask = mask.to(estimator.dtype)
        rows_mask = mask if estimator.meanflow else mask.repeat(2, 1, 1)

        def velocity(x: torch.Tensor, mu: Any, t: Any, spks: Any, cond: Any, r: Any) -> torch.Tensor:
            moved = estimator.forward(x, mask=rows_mask, mu=mu, t=t, spks=spks, cond=cond, r=r)
            assert isinstance(moved, torch.Tensor)
            return moved

        return euler(velocity, self.decoder, x, times, mu, spks, cond)


def install(undo: Undo, decoder: Any, solve: Solve) -> None:
    """The first is what models with guidance call, the second what mean flows call."""
    undo.replace(decoder, "solve_euler", solve)
    undo.replace(decoder, "basic_euler", solve)


def keep_time_exact(undo: Undo, decoder: Any) -> None:
    """The sines of a time are taken in fp32, and rounded where the estimator's weights begin."""
    time_mlp = decoder.estimator.time_mlp
    forward = time_mlp.forward
    undo.replace(time_mlp, "forward", lambda sample: forward(sample.to(decoder.estimator.dtype)))
    install(undo, decoder, Solve(decoder))


class FixedSteps:
    """The flow with its number of steps fixed, counting the estimator's calls."""

    def __init__(self, undo: Undo, flow: Any, steps: int) -> None:
        self._inference = flow.inference
        self._decoder = flow.decoder
        self._eager = Counted(flow.decoder.estimator.forward)
        undo.replace(flow.decoder.estimator, "forward", self._eager)
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
