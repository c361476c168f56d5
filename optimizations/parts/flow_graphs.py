"""S3Gen's flow encoder and Euler solve by CUDA graph.

The solve's graph holds all steps with their guidance, so that ten steps of some 1,400 operations cost one launch. Noise
is drawn outside, by upstream's own code, and so from the same place of the random stream. In a bucket of lengths the
padding is masked by data on the device. Only attention needs the mask: convolutions are causal, and the encoder's one
look ahead is cleared. What counts comes out as without padding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from ttsbench.errors import CellError
from ttsbench.optimizations.parts import flow_solve
from ttsbench.optimizations.parts.buckets import round_up
from ttsbench.optimizations.parts.flow_encoder import LeanEncoder
from ttsbench.optimizations.parts.flow_estimator import LeanEstimator
from ttsbench.optimizations.parts.graphs import Graphs

# 2.56 s of sound: with a 10 s reference and 10 s of speech, 1000 frames are padded by 2 %.
BUCKET_TOKENS = 64
FRAMES_PER_TOKEN = 2


class GraphedSolve(flow_solve.Solve):
    def __init__(self, decoder: Any, estimator: LeanEstimator, bucket_tokens: int) -> None:
        super().__init__(decoder)
        self._estimator = estimator
        self._bucket = 1 if bucket_tokens == 1 else bucket_tokens * FRAMES_PER_TOKEN
        self._calls_of: dict[tuple[int, int], int] = {}
        self.graphs = Graphs()
        self.estimator_calls = 0

    def solved(
        self,
        x: torch.Tensor,
        times: torch.Tensor,
        mu: torch.Tensor,
        mask: torch.Tensor,
        spks: torch.Tensor,
        cond: torch.Tensor,
    ) -> torch.Tensor:
        """`mask` is full, since one utterance has no padding of its own."""
        if x.size(0) > 1:
            raise CellError(f"s3gen_graph: graphs are captured for one utterance at a time, not for {x.size(0)}")
        frames = x.size(2)
        length = round_up(frames, self._bucket)
        key = (length, times.numel() - 1)
        inputs = [_padded(tensor, length) for tensor in (x, mu, cond)]
        if self._bucket > 1:
            inputs.append(_padded(torch.ones_like(mask), length))
        solved = self.graphs(key, self._solve, *inputs, spks, times)
        self.estimator_calls = self._calls_of[key]
        return solved[:, :, :frames]

    def _solve(self, *inputs: torch.Tensor) -> torch.Tensor:
        x, mu, cond, *valid, spks, times = inputs
        estimator, keys = self._estimator, None
        if valid:
            rows = 1 if estimator.module.meanflow else 2
            keys = estimator.attention.mark_keys(valid[0].to(estimator.module.dtype).expand(rows, -1, -1))
        before = estimator.calls
        solved = estimator.solve(self.decoder, x, times, mu, spks, cond, keys)
        self._calls_of[(x.size(2), times.numel() - 1)] = estimator.calls - before
        return solved


class GraphedEncoder:
    def __init__(self, encoder: LeanEncoder, bucket_tokens: int) -> None:
        self._encoder = encoder
        self._bucket = bucket_tokens
        self._positions: set[torch.Tensor] = set()
        self.graphs = Graphs()

    def __call__(self, xs: torch.Tensor, _: None) -> torch.Tensor:
        """`LeanEncoder.work` without padding of the caller's."""
        tokens = xs.size(1)
        length = round_up(tokens, self._bucket)
        inputs = [functional.pad(xs, (0, 0, 0, length - tokens))]
        if self._bucket > 1:
            inputs.append(_padded(torch.ones_like(xs[:, :, 0]), length))
        encoded = self.graphs(length, self._encode, *inputs)
        return encoded[:, : FRAMES_PER_TOKEN * tokens]

    def _encode(self, xs: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        encoded = self._encoder.work(xs, valid)
        # A longer utterance replaces these tables, and graphs captured before go on reading them.
        module = self._encoder.module
        self._positions.update((module.embed.pos_enc.pe, module.up_embed.pos_enc.pe))
        return encoded


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    return functional.pad(tensor, (0, length - tensor.size(-1)))
