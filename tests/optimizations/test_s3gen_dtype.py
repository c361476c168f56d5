from __future__ import annotations

from typing import Any

import pytest
import torch

from tiny_s3gen import Slotted, attest, vocode
from ttsbench.errors import CellError
from ttsbench.model import checkpoint
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry

pytest_plugins = ("tiny_s3gen",)


def test_only_the_estimators_parameters_are_cast(slotted: Slotted) -> None:
    pipeline = slotted(s3gen_dtype="bf16")
    before = {name: buffer.dtype for name, buffer in slotted().tts.s3gen.named_buffers()}
    s3gen = pipeline.tts.s3gen
    for _ in range(2):
        vocode(pipeline)
    evidence = attest(pipeline, "s3gen_dtype", "bf16")
    assert evidence["estimator"] == "bfloat16"
    assert {evidence[part] for part in ("flow_encoder", "vocoder", "speech_tokenizer", "speaker_encoder")} == {
        "float32"
    }
    assert evidence["reference_is_cast_to"] == evidence["prompt_token"] == "float32"
    assert {name: buffer.dtype for name, buffer in s3gen.named_buffers()} == before


def test_the_references_ids_survive_the_cast_of_the_estimator(slotted: Slotted) -> None:
    plain, cast = slotted(), slotted(s3gen_dtype="bf16")
    for pipeline in (plain, cast):
        pipeline.tts.conds.gen["prompt_token"] = torch.arange(6500, 6550)[None]
        pipeline.tts.conds.gen["prompt_token_len"] = torch.tensor([50])
        vocode(pipeline)
    assert torch.equal(plain.tts.conds.gen["prompt_token"], cast.tts.conds.gen["prompt_token"])


def test_casting_all_of_s3gen_garbles_the_ids_and_is_caught(slotted: Slotted) -> None:
    """The planted failure: what a user would write first."""
    pipeline = slotted()
    ids = pipeline.tts.conds.gen["prompt_token"] = torch.arange(6500, 6550)[None]
    pipeline.tts.conds.gen["prompt_token_len"] = torch.tensor([50])
    pipeline.tts.s3gen.to(torch.bfloat16)
    pipeline.tts.s3gen.flow_inference(torch.arange(20), ref_dict=pipeline.tts.conds.gen, finalize=True)
    garbled = pipeline.tts.conds.gen["prompt_token"].long() != ids
    assert garbled.float().mean() > 0.5
    with pytest.raises(CellError, match="cast to bfloat16, which garbles them"):
        attest(pipeline, "s3gen_dtype", "bf16")
    pipeline.tts.s3gen.flow.to(torch.float32)
    with pytest.raises(CellError, match="cast to bfloat16, which garbles them"):
        attest(pipeline, "s3gen_dtype", "stored")


def test_a_vocoder_in_half_precision_is_caught(slotted: Slotted) -> None:
    pipeline = slotted(s3gen_dtype="bf16")
    pipeline.tts.s3gen.mel2wav.to(torch.bfloat16)
    with pytest.raises(CellError, match="only the estimator may be in half precision, and so are vocoder"):
        attest(pipeline, "s3gen_dtype", "bf16")


def test_tf32_is_allowed_while_s3gen_runs_and_not_after(slotted: Slotted, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = slotted(s3gen_dtype="tf32")
    seen: list[tuple[bool, bool]] = []
    for owner, method in ((pipeline.tts.s3gen.flow, "inference"), (pipeline.tts.s3gen.mel2wav, "inference")):
        call = getattr(owner, method)

        def noting(*args: Any, _call: Any = call, **kwargs: Any) -> Any:
            seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
            return _call(*args, **kwargs)

        monkeypatch.setattr(owner, method, noting)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    vocode(pipeline)
    assert set(seen) == {(True, True)}
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert attest(pipeline, "s3gen_dtype", "tf32")["tf32"]


def test_an_estimator_stored_in_half_precision_keeps_it() -> None:
    tts = checkpoint.load(checkpoint.ensure("chatterbox", "tiny", "bf16", 0), "chatterbox", "cpu")
    pipeline = Pipeline(tts, texts=("A",), length=Length(), sampling={}, language=None)
    assert attest(pipeline, "s3gen_dtype", "stored")["estimator"] == "bfloat16"
    registry.BY_NAME["s3gen_dtype"].apply(pipeline, "fp32")
    assert attest(pipeline, "s3gen_dtype", "fp32")["estimator"] == "float32"
