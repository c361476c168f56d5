"""torch.compile on S3Gen's estimator, and on the vocoder's convolutions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from tiny_s3gen import LENGTHS, Heard, Slotted, attest, off_by, vocode
from ttsbench.errors import CellError

pytest_plugins = ("tiny_s3gen",)


def test_compiled_code_is_called_and_serves_other_lengths(
    slotted: Slotted, upstream_heard: Callable[..., Heard], late: type
) -> None:
    """One compilation for all lengths, in a graph as outside of one."""
    pipeline = slotted(s3gen_attention="sdpa", s3gen_graph="bucket", s3gen_compile="default")
    for tokens in LENGTHS:
        assert off_by(vocode(pipeline, tokens).mel, upstream_heard("chatterbox", tokens).mel) < 1e-5
    evidence = attest(pipeline, "s3gen_compile", "default")
    assert evidence["calls"] == 2 * len(LENGTHS) * 10
    assert (evidence["graphs"], evidence["recompilations"], evidence["graph_breaks"]) == (1, 0, 0)
    assert evidence["compile_seconds"][0] > 0


def test_the_vocoders_convolutions_are_one_graph_that_serves_other_lengths(
    slotted: Slotted, upstream_heard: Callable[..., Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as ever, and run as traced: writing the code would take most of a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    pipeline = slotted(vocoder="compile")
    for seed, tokens in enumerate(LENGTHS):
        heard, expected = vocode(pipeline, tokens, seed), upstream_heard("chatterbox", tokens, seed)
        assert off_by(heard.wave, expected.wave) < 1e-5
    evidence = attest(pipeline, "vocoder", "compile")
    assert evidence["folded"] == 82
    assert evidence["compile"]["graph_breaks"] == 0
    # On a CPU, PyTorch picks another convolution for fewer than 81 frames, and guards on it.
    assert evidence["compile"]["graphs"] <= 2


def test_a_compile_of_what_is_never_called_is_caught(slotted: Slotted) -> None:
    """The planted failure: `module.compile()` compiles the call of the module, and upstream calls its `forward`."""
    pipeline = slotted(s3gen_attention="sdpa")
    compiled: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph

    pipeline.tts.s3gen.flow.decoder.estimator.compile(backend=backend)
    vocode(pipeline)
    assert not compiled
    with pytest.raises(CellError, match="default was asked for, and nothing was put in the place"):
        attest(pipeline, "s3gen_compile", "default")


def test_a_compile_that_compiled_nothing_is_caught(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    pipeline = slotted(s3gen_attention="sdpa", s3gen_compile="default", vocoder="compile")
    vocode(pipeline)
    with pytest.raises(CellError, match="default was asked for, and nothing was compiled"):
        attest(pipeline, "s3gen_compile", "default")
    with pytest.raises(CellError, match="compile was asked for, and folded is what ran"):
        attest(pipeline, "vocoder", "compile")
