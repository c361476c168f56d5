"""S3Gen's slots on the real modules at tiny size: pipelines that have them, and what is heard of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.nn import functional

from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry

FAMILIES = ("chatterbox", "turbo")
# Two of one bucket, one of the next, and the first again.
LENGTHS = (30, 37, 90, 30)

Slotted = Callable[..., Pipeline]


class Heard:
    """What S3Gen made of some tokens, on its way out."""

    def __init__(self, mel: torch.Tensor, wave: torch.Tensor) -> None:
        self.mel = mel.clone().cpu()
        self.wave = wave.clone().cpu()


def vocode(pipeline: Pipeline, tokens: int = 30, seed: int = 0) -> Heard:
    """S3Gen over given tokens and from a seeded random stream, as `generate` calls it."""
    s3gen = pipeline.tts.s3gen
    speech = torch.randint(0, 6561, (tokens,), generator=torch.Generator().manual_seed(7)).to(pipeline.device)
    steps = {"n_cfm_timesteps": 2} if s3gen.meanflow else {}
    torch.manual_seed(seed)
    mel = s3gen.flow_inference(speech, ref_dict=pipeline.tts.conds.gen, finalize=True, **steps)
    torch.manual_seed(seed)
    wave, _ = s3gen.inference(speech_tokens=speech, ref_dict=pipeline.tts.conds.gen, **steps)
    return Heard(mel, wave)


def off_by(item: torch.Tensor, other: torch.Tensor) -> float:
    """Relative: the norm of the difference over the reference's."""
    return float((item.double() - other.double()).norm() / other.double().norm())


def attest(pipeline: Pipeline, slot: str, option: str) -> dict[str, Any]:
    return registry.BY_NAME[slot].attest(pipeline, option)


@pytest.fixture(scope="session")
def slotted(make_pipeline: Slotted) -> Slotted:
    """A fresh pipeline with some slots applied."""
    return partial(make_pipeline, texts=("Two words.",), length=Length(fixed=8))


@pytest.fixture(scope="session")
def slotted_on_gpu(slotted: Slotted) -> Slotted:
    """The same on a GPU."""
    return partial(slotted, device="cuda")


@pytest.fixture(scope="session")
def upstream_heard(load_tiny: Callable[..., Any]) -> Callable[..., Heard]:
    """The unmodified package's answer, each asked for once."""
    pipelines: dict[str, Pipeline] = {}
    answers: dict[tuple[str, int, int], Heard] = {}

    def answer(family: str, tokens: int = 30, seed: int = 0) -> Heard:
        if family not in pipelines:
            pipelines[family] = Pipeline(load_tiny(family), texts=("A",), length=Length(), sampling={}, language=None)
        key = (family, tokens, seed)
        if key not in answers:
            answers[key] = vocode(pipelines[family], tokens, seed)
        return answers[key]

    return answer


@pytest.fixture
def flash_attn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The package's two functions in plain PyTorch, refusing what its kernels refuse; hands out who was called."""
    called: list[str] = []

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        assert query.dtype in (torch.float16, torch.bfloat16)
        assert query.size(-1) <= 256
        query, key, value = (values.transpose(-3, -2) for values in (query, key, value))
        return functional.scaled_dot_product_attention(query, key, value).transpose(-3, -2)

    def flash_attn_func(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        called.append("plain")
        return attend(query, key, value)

    def flash_attn_varlen_func(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
    ) -> torch.Tensor:
        called.append("various")
        assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
        ends = cu_seqlens_q.tolist()
        assert (ends[0], ends[-1]) == (0, query.size(0))
        parts = [slice(start, end) for start, end in pairwise(ends)]
        assert max(part.stop - part.start for part in parts) <= min(max_seqlen_q, max_seqlen_k)
        return torch.cat([attend(query[part], key[part], value[part]) for part in parts if part.stop > part.start])

    package = ModuleType("flash_attn")
    package.__spec__ = ModuleSpec("flash_attn", None)
    vars(package).update(flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    return called
