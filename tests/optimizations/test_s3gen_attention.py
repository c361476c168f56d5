from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from tiny_s3gen import FAMILIES, Slotted, attest, off_by, vocode
from ttsbench.errors import CellError
from ttsbench.optimizations import registry
from ttsbench.optimizations.parts.flow_attention import Flash2

pytest_plugins = ("tiny_s3gen",)


def test_the_lean_estimator_waits_for_nothing_and_biases_nothing(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream asks once a block whether its mask is empty, and always hands attention a bias."""
    from torch.overrides import TorchFunctionMode

    class Seen(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.waits = 0

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.waits += func is torch.Tensor.item
            return func(*args, **(kwargs or {}))

    biases: list[bool] = []
    attend: Callable[..., torch.Tensor] = functional.scaled_dot_product_attention

    def noting(*args: Any, **kwargs: Any) -> torch.Tensor:
        biases.append(kwargs["attn_mask"] is not None)
        return attend(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noting)
    mel = torch.randn(2, 80, 50)
    arguments = {"mask": torch.ones(2, 1, 50), "mu": mel, "t": torch.ones(2), "spks": mel[:, :, 0], "cond": mel}
    result = []
    for slots in ({}, {"s3gen_attention": "sdpa"}):
        estimator = slotted(**slots).tts.s3gen.flow.decoder.estimator
        biases.clear()
        with Seen() as seen, torch.inference_mode():
            estimator.forward(mel, **arguments)
        result.append((seen.waits, set(biases), len(biases)))
    assert result == [(4, {True}, 4), (0, {False}, 4)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
@pytest.mark.usefixtures("flash_attn")
def test_several_padded_utterances_come_out_as_each_alone(slotted: Slotted, family: str, attention: str) -> None:
    """The estimator's true masks: rows of 40 and 28 frames side by side."""
    dtype = "bf16" if attention == "flash_attention_2" else "fp32"
    estimator = slotted(family, s3gen_dtype=dtype, s3gen_attention=attention).tts.s3gen.flow.decoder.estimator
    rows = 1 if family == "turbo" else 2
    mel = torch.randn(2 * rows, 80, 40, dtype=estimator.dtype)
    mask = torch.ones(2 * rows, 1, 40, dtype=estimator.dtype)
    mask[rows:, :, 28:] = 0
    spks = mel[:, :, 0]
    time = torch.full((2 * rows,), 0.25, dtype=estimator.dtype)
    end = {"r": time + 0.5} if family == "turbo" else {}
    with torch.inference_mode():
        together = estimator.forward(mel, mask=mask, mu=mel, t=time, spks=spks, cond=mel, **end)
        short = mel[rows:, :, :28]
        alone = estimator.forward(
            short,
            mask=torch.ones(rows, 1, 28),
            mu=short,
            t=time[rows:],
            spks=spks[rows:],
            cond=short,
            **{name: value[rows:] for name, value in end.items()},
        )
    assert off_by(together[rows:, :, :28], alone) < (1e-5 if dtype == "fp32" else 0.02)
    assert not together[rows:, :, 28:].any()


def test_flash_attention_runs_in_the_estimator_and_says_what_the_encoder_runs(
    slotted: Slotted, flash_attn: list[str]
) -> None:
    pipeline = slotted(s3gen_dtype="bf16", s3gen_attention="flash_attention_2")
    vocode(pipeline)
    assert flash_attn == ["plain"] * 2 * 10 * 4
    evidence = attest(pipeline, "s3gen_attention", "flash_attention_2")
    assert evidence["estimator_modules"] == 4
    assert evidence["estimator_calls"] == 20
    assert evidence["flow_encoder"].startswith("sdpa")
    assert evidence["flow_encoder_modules"] == 6


def test_flash_attention_in_a_bucket_masks_by_lengths(slotted: Slotted, flash_attn: list[str], late: type) -> None:
    vocode(slotted(s3gen_dtype="bf16", s3gen_attention="flash_attention_2", s3gen_graph="bucket"))
    assert set(flash_attn) == {"various"}


def test_flash_attention_marks_frames_and_padding_as_sequences_of_their_own(flash_attn: list[str]) -> None:
    mask = torch.ones(2, 1, 8)
    mask[:, :, 5:] = 0
    assert Flash2().mark_keys(mask).tolist() == [0, 5, 8, 13, 16]
    many = torch.ones(1, 1, 1024, dtype=torch.bfloat16)
    many[:, :, 1001:] = 0
    assert Flash2().mark_keys(many).tolist() == [0, 1001, 1024]


@pytest.mark.parametrize("change", [{"causal": False}, {"static_chunk_size": 25}])
def test_an_estimator_built_otherwise_is_refused(slotted: Slotted, change: dict[str, Any]) -> None:
    pipeline = slotted()
    vars(pipeline.tts.s3gen.flow.decoder.estimator).update(change)
    with pytest.raises(CellError, match="built otherwise"):
        registry.BY_NAME["s3gen_attention"].apply(pipeline, "sdpa")


def test_an_encoder_built_otherwise_is_refused(slotted: Slotted) -> None:
    pipeline = slotted()
    pipeline.tts.s3gen.flow.encoder.encoders[0].normalize_before = False
    with pytest.raises(CellError, match="encoder is built otherwise"):
        registry.BY_NAME["s3gen_attention"].apply(pipeline, "sdpa")
