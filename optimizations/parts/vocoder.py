"""HiFT with its weight norms folded, and its convolutions apart from the transforms around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from ttsbench.optimizations.options import Evidence
from ttsbench.optimizations.parts import compiled
from ttsbench.optimizations.parts.compiled import CompiledForAnyLength
from ttsbench.optimizations.parts.graphs import Graphs
from ttsbench.optimizations.undo import Undo

# Windows of a stream that begin with the utterance have up to 14 lengths, those after it some more.
LENGTHS_MAX = 24


def weight_norms(hift: Any) -> list[Any]:
    return [module for module in hift.modules() if parametrize.is_parametrized(module, "weight")]


def fold(undo: Undo, hift: Any) -> int:
    """Replaces each weight norm by the weights it stands for; returns how many there were."""
    normed = weight_norms(hift)
    for module in normed:
        undo.weights(_as_it_is(module))
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    undo.replace(hift, "stft_window", hift.stft_window.to(next(hift.parameters()).device))
    for down in hift.source_downs:
        # Upstream leaves them as numpy's numbers, which Dynamo takes for values that are not known before running.
        for name in ("stride", "padding", "kernel_size"):
            undo.replace(down, name, tuple(map(int, getattr(down, name))))
    return len(normed)


def _as_it_is(module: Any) -> Callable[[], None]:
    """Puts a weight norm back; PyTorch takes it away together with a property of the module's own class."""
    kind, norms = type(module), module.parametrizations
    weight, norm = kind.weight, norms["weight"]

    def restore() -> None:
        del module.weight
        kind.weight = weight
        module.__class__ = kind
        norms["weight"] = norm
        module.parametrizations = norms

    return restore


class Decode:
    """HiFT's `decode`, its convolutions apart from the transforms around them."""

    def __init__(self, hift: Any, folded: int) -> None:
        self._hift = hift
        self.folded = folded
        self.calls = 0
        self.convolve: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = self.convolutions

    @property
    def ran(self) -> str:
        """The option of slot `vocoder` whose work was done."""
        if isinstance(self.convolve, CompiledForAnyLength):
            return "folded" if compiled.hindrance([self.convolve]) else "compile"
        if isinstance(self.convolve, GraphedConvolutions):
            return "graph" if self.convolve.graphs.replays else "folded"
        return "folded"

    def evidence(self) -> Evidence:
        evidence: Evidence = {"folded": self.folded, "calls": self.calls}
        if isinstance(self.convolve, CompiledForAnyLength):
            return evidence | {"compile": compiled.evidence([self.convolve])}
        if isinstance(self.convolve, GraphedConvolutions):
            return evidence | {"graph": self.convolve.graphs.evidence()}
        return evidence

    def __call__(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
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
        return self.graphs(x.size(2), self._work, x, source)
