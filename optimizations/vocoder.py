"""Slot `vocoder`: HiFT, which turns the mel spectrogram into a wave.

`folded` computes each of the 82 weight norms once instead of at every call, and keeps the window on the device instead
of copying it there twice a call. `compile` folds and compiles the convolutions, `graph` folds and captures them for
each length. Both leave the transforms at either end as they are, since Inductor has no complex numbers, and the source
of sound too, since upstream draws its phase on the host.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.compiled import evidence as of_compiler
from ttsbench.optimizations.parts.compiled import hindrance
from ttsbench.optimizations.parts.graphs import Graphs
from ttsbench.optimizations.parts.s3gen import installed
from ttsbench.optimizations.s3gen_compile import OfAnyLength

SLOT = "vocoder"
# Windows of a stream that begin with the utterance have up to 14 lengths, those after it some more.
LENGTHS_MAX = 24


def apply(pipeline: Pipeline, option: str) -> None:
    """Folds, and puts another way to run the convolutions in their place."""
    if option == "upstream":
        return
    hift = pipeline.tts.s3gen.mel2wav
    hift.decode = decode = Decode(hift, fold(hift))
    installed(pipeline)[SLOT] = decode
    if option == "compile":
        decode.convolve = OfAnyLength(decode.convolutions, "default", fullgraph=True)
    elif option == "graph":
        decode.convolve = GraphedConvolutions(decode)


def fold(hift: Any) -> int:
    """Replaces each weight norm by the weights it stands for; returns how many there were."""
    normed = [module for module in hift.modules() if parametrize.is_parametrized(module, "weight")]
    for module in normed:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    hift.stft_window = hift.stft_window.to(next(hift.parameters()).device)
    for down in hift.source_downs:
        # Upstream leaves them as numpy's numbers, which Dynamo takes for values that are not known before running.
        down.stride, down.padding = tuple(map(int, down.stride)), tuple(map(int, down.padding))
        down.kernel_size = tuple(map(int, down.kernel_size))
    return len(normed)


class Decode:
    """HiFT's `decode`, its convolutions apart from the transforms around them."""

    def __init__(self, hift: Any, folded: int) -> None:
        self._hift = hift
        self.folded = folded
        self.calls = 0
        self.convolve: Any = self.convolutions

    def __call__(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """The wave for a mel spectrogram and a source."""
        self.calls += 1
        hift = self._hift
        half = hift.istft_params["n_fft"] // 2 + 1
        bands = self.convolve(x, torch.cat(hift._stft(s.squeeze(1)), dim=1))
        wave = hift._istft(torch.exp(bands[:, :half]), torch.sin(bands[:, half:]))
        return torch.clamp(wave, -hift.audio_limit, hift.audio_limit)

    def convolutions(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """Mel frames and the source's spectrum to logarithmic magnitudes and phases."""
        hift = self._hift
        x = hift.conv_pre(x)
        for stage, upsample in enumerate(hift.ups):
            x = upsample(functional.leaky_relu(x, hift.lrelu_slope))
            if stage == hift.num_upsamples - 1:
                x = hift.reflection_pad(x)
            x = x + hift.source_resblocks[stage](hift.source_downs[stage](source))
            first, count = stage * hift.num_kernels, hift.num_kernels
            mixed = hift.resblocks[first](x)
            for number in range(first + 1, first + count):
                mixed = mixed + hift.resblocks[number](x)
            x = mixed / count
        bands = hift.conv_post(functional.leaky_relu(x))
        assert isinstance(bands, torch.Tensor)
        return bands


class GraphedConvolutions:
    """The convolutions, captured once for each length; they look both ways, so no length can stand for another."""

    def __init__(self, decode: Decode) -> None:
        self._work = decode.convolutions
        self.graphs = Graphs(held_max=LENGTHS_MAX)

    def __call__(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """`Decode.convolutions`, replayed."""
        return self.graphs(x.size(2), self._work, x, source)


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many weight norms are left, and what ran the convolutions."""
    hift, decode = pipeline.tts.s3gen.mel2wav, installed(pipeline).get(SLOT)
    normed = sum(parametrize.is_parametrized(module, "weight") for module in hift.modules())
    ran = "upstream" if decode is None or not decode.calls or normed else _way(decode)
    if ran != option:
        raise CellError(f"{SLOT}: {option} was asked for, and {ran} is what ran")
    if decode is None:
        return {"weight_norms": normed}
    more = {"compile": of_compiler([decode.convolve])} if ran == "compile" else {}
    more |= {"graph": decode.convolve.graphs.evidence()} if ran == "graph" else {}
    return {"weight_norms": normed, "folded": decode.folded, "calls": decode.calls} | more


def _way(decode: Decode) -> str:
    if isinstance(decode.convolve, OfAnyLength):
        return "folded" if hindrance([decode.convolve]) else "compile"
    if isinstance(decode.convolve, GraphedConvolutions):
        return "graph" if decode.convolve.graphs.replays else "folded"
    return "folded"
