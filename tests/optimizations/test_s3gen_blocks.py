"""S3Gen's estimator in fused kernels: the same velocity as upstream's, in fewer launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tiny_s3gen import FAMILIES, Slotted, attest, off_by
from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry
from ttsbench.optimizations.parts import flow_blocks
from ttsbench.optimizations.parts.flow_blocks import FusedEstimator

pytest_plugins = ("tiny_s3gen",)

# Two steps say what ten do, in a fifth of the interpreter's time; a mean flow takes no more anyway.
STEPS = {"chatterbox": {"cfm_steps": "2"}, "turbo": {}}
WAYS: list[dict[str, str]] = [
    {"s3gen_attention": "sdpa"},
    {"s3gen_attention": "sdpa", "s3gen_graph": "bucket"},
    {"s3gen_attention": "triton", "s3gen_graph": "bucket"},
]
# As for the lean estimator, of mels; but the interpreter cuts bf16 instead of rounding.
BOUNDS = {"fp32": 1e-5, "fp16": 0.002, "bf16": 0.02}


def mel_of(pipeline: Pipeline, tokens: int) -> torch.Tensor:
    """S3Gen's frames for given tokens, from a seeded noise."""
    s3gen = pipeline.tts.s3gen
    speech = torch.randint(0, 6561, (tokens,), generator=torch.Generator().manual_seed(7)).to(pipeline.device)
    torch.manual_seed(0)
    steps = {"n_cfm_timesteps": 2} if s3gen.meanflow else {}
    mel: torch.Tensor = s3gen.flow_inference(speech, ref_dict=pipeline.tts.conds.gen, finalize=True, **steps)
    return mel.clone()


def fused_in(pipeline: Pipeline) -> FusedEstimator:
    estimator = pipeline.s3gen_parts.estimator
    assert isinstance(estimator, FusedEstimator)
    return estimator


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("dtype", "way"), [*(("fp32", way) for way in WAYS), ("fp16", WAYS[2]), ("bf16", WAYS[1])], ids=str
)
def test_the_mel_is_upstreams(slotted: Slotted, family: str, dtype: str, way: dict[str, str]) -> None:
    slots = {**STEPS[family], **way, "s3gen_dtype": dtype, "s3gen_blocks": "fused"}
    fused = slotted(family, **slots)
    heard, reference = mel_of(fused, 30), mel_of(slotted(family, **STEPS[family]), 30)
    assert heard.shape == reference.shape
    assert off_by(heard, reference) < BOUNDS[dtype]
    for slot, option in slots.items():
        attest(fused, slot, option)
    evidence = attest(fused, "s3gen_blocks", "fused")
    assert (evidence["transformer_blocks"], evidence["resnets"]) == (4, 4)
    assert evidence["estimator_calls"] >= 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "triton"])
@torch.inference_mode()
def test_several_padded_utterances_come_out_as_each_alone(slotted: Slotted, family: str, attention: str) -> None:
    """As the batched service solves: 40 and 28 frames side by side, whatever stands in the padding."""
    pipeline = slotted(family, s3gen_attention=attention, s3gen_blocks="fused")
    estimator, decoder = fused_in(pipeline), pipeline.tts.s3gen.flow.decoder
    x, mu, cond = (torch.randn(2, 80, 40) for _ in range(3))
    times, spks, mask = torch.tensor([0.0, 0.3, 1.0]), torch.randn(2, 80), torch.ones(2, 1, 40)
    mask[1, :, 28:] = 0
    keys = estimator.attention.mark_keys(mask if family == "turbo" else mask.repeat(2, 1, 1))
    together = estimator.solve(decoder, x, times, mu, spks, cond, keys)
    for row, frames in enumerate((40, 28)):
        own = slice(row, row + 1)
        inputs = [tensor[own, :, :frames] for tensor in (x, mu, cond)]
        alone = estimator.solve(decoder, inputs[0], times, inputs[1], spks[own], inputs[2], None)
        assert off_by(together[own, :, :frames], alone) < 1e-5
    assert estimator.calls == 6


@torch.inference_mode()
def test_a_step_is_five_kernels_a_block_and_times_are_made_once(
    slotted: Slotted, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = slotted(s3gen_attention="sdpa", s3gen_blocks="fused")
    estimator, decoder = fused_in(pipeline), pipeline.tts.s3gen.flow.decoder
    called: Counter[str] = Counter()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            called[name] += 1
            return call(*args, **kwargs)

        return counted

    for name in ("norm_linear", "add_linear", "flow_conv", "flow_norm"):
        monkeypatch.setattr(flow_blocks, name, counting(name, getattr(flow_blocks, name)))
    for owner, name in ((estimator.attention, "attend"), (decoder.estimator.time_mlp, "forward")):
        monkeypatch.setattr(owner, name, counting(name, getattr(owner, name)))
    x = torch.randn(1, 80, 20)
    estimator.solve(decoder, x, torch.linspace(0, 1, 4), x, x[:, :, 0], x, None)
    # Of four blocks and four resnets in three steps, with the convolutions at either end and the last one.
    assert called == {
        "norm_linear": 3 * 2 * 4,
        "attend": 3 * 4,
        "add_linear": 3 * (2 * 4 + 4),
        "flow_conv": 3 * (2 * 4 + 3),
        "flow_norm": 3 * (4 + 1),
        "forward": 1,
    }


def test_layers_that_the_kernels_do_not_know_are_refused(slotted: Slotted) -> None:
    pipeline = slotted(s3gen_attention="sdpa")
    pipeline.tts.s3gen.flow.decoder.estimator.mid_blocks[0][1][0].ff.net[0].approximate = "tanh"
    with pytest.raises(CellError, match="s3gen_blocks: this estimator is built otherwise"):
        registry.BY_NAME["s3gen_blocks"].apply(pipeline, "fused")


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "triton"])
def test_gpu_fused_blocks_make_the_eager_mel(
    slotted_on_gpu: Slotted, family: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    fused = slotted_on_gpu(family, s3gen_attention=attention, s3gen_blocks="fused", s3gen_graph="bucket")
    plain = slotted_on_gpu(family)
    for tokens in (30, 37, 90, 30):
        assert off_by(mel_of(fused, tokens).cpu(), mel_of(plain, tokens).cpu()) < 1e-4
