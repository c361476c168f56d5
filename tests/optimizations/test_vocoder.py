from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.utils import parametrize

from tiny_s3gen import Slotted, attest, vocode
from ttsbench.errors import CellError

pytest_plugins = ("tiny_s3gen",)


def test_folding_leaves_no_weight_norm_and_the_window_where_it_is_used(slotted: Slotted) -> None:
    hift = slotted(vocoder="folded").tts.s3gen.mel2wav
    assert not any(parametrize.is_parametrized(module) for module in hift.modules())
    assert not any("parametrizations" in name for name in hift.state_dict())


def test_folding_computes_no_norm_again(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[Any] = []
    compute = torch._weight_norm

    def noting(*args: Any) -> torch.Tensor:
        norms.append(args)
        return compute(*args)

    monkeypatch.setattr(torch, "_weight_norm", noting)
    counts = []
    for slots in ({}, {"vocoder": "folded"}):
        pipeline = slotted(**slots)
        norms.clear()
        vocode(pipeline)
        counts.append(len(norms))
    assert counts == [82, 0]


def test_a_vocoder_with_a_norm_left_is_refused(slotted: Slotted) -> None:
    pipeline = slotted(vocoder="folded")
    vocode(pipeline)
    torch.nn.utils.parametrizations.weight_norm(pipeline.tts.s3gen.mel2wav.conv_pre)
    with pytest.raises(CellError, match="folded was asked for, and upstream is what ran"):
        attest(pipeline, "vocoder", "folded")
