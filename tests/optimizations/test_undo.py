"""Two stacks one after the other in one process: what a stack changed is taken back, and the package is as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry, rules
from ttsbench.optimizations.undo import Undo
from ttsbench.running.cells import common

pytest_plugins = ("tiny_s3gen",)
pytestmark = pytest.mark.usefixtures("graphs_without_a_gpu", "flash_attn")

TEXTS = ("Two words.",)
OURS = {"decode": "lean", "cache": "static", "sampler": "lean"}
# What else an option needs, by slot; and what has no CPU kernel or takes minutes under Triton's interpreter.
WITH: dict[str, dict[str, str]] = {
    "cache": {"decode": "lean"},
    "sampler": {"decode": "lean"},
    "analyzer": {"decode": "lean"},
    "decode": {"cache": "static", "sampler": "lean"},
    "prompt": OURS,
    "serve": {**OURS, "s3gen_attention": "sdpa"},
    "s3gen_graph": {"s3gen_attention": "sdpa"},
    "s3gen_blocks": {"s3gen_attention": "sdpa", "cfm_steps": "2"},
    "s3gen_compile": {"s3gen_attention": "sdpa"},
    "quantize": {"dtype": "bf16"},
}
WITH_OPTION: dict[tuple[str, str], dict[str, str]] = {
    ("attention", "triton"): {"decode": "lean", "cache": "static"},
    ("attention", "sdpa_flash"): {"dtype": "bf16"},
    ("s3gen_attention", "flash_attention_2"): {"s3gen_dtype": "bf16"},
    ("s3gen_attention", "triton"): {"cfm_steps": "2"},
    ("decode", "lean"): {},
}
NOT_ON_A_CPU = {
    ("attention", "sdpa_efficient"), ("attention", "sdpa_cudnn"), ("attention", "flash_attention_2"),
    ("mlp", "liger"), ("norm", "liger"), ("rope", "liger"), ("quantize", "int4"), ("quantize", "fp8"),
    ("decode", "persistent"),
}  # fmt: skip
# What they put in place is replaced as by other slots; Inductor itself takes minutes.
COMPILED = {"compile", "s3gen_compile"}
STACKS = [
    (slot.name, option.name)
    for slot in registry.SLOTS
    for option in slot.options[1:]
    if slot.is_part and not option.inductor and (slot.name, option.name) not in NOT_ON_A_CPU
]


def family_of(slot: str, option: str) -> str:
    return next(
        family
        for family in ("chatterbox", "turbo", "multilingual")
        if " is for " not in rules.conflict({slot: option}, family=family, cfg_weight=None)
    )


def state(tts: Any) -> Iterator[tuple[str, Any]]:
    """All that a slot may change, so that it can be compared: attributes by identity, tensors by value."""
    for part in (tts.t3, tts.s3gen):
        for name, module in part.named_modules():
            own = {
                key: value
                for key, value in vars(module).items()
                if key == "forward" or callable(value) or isinstance(value, torch.Tensor)
            }
            yield f"{name} {type(module).__qualname__} attributes", sorted(own)
            yield f"{name} hooks", len(module._forward_hooks) + len(module._forward_pre_hooks)
            for key, tensor in module.named_parameters(recurse=False):
                yield f"{name}.{key}", (tensor.dtype, tensor.detach().double().sum().item())
    yield "methods", sorted(key for key, value in vars(tts).items() if callable(value))
    yield "attention", tts.t3.tfmr.config._attn_implementation
    yield "watermarker", id(tts.watermarker)
    yield "tf32", torch.backends.cuda.matmul.allow_tf32


def pipeline_of(tts: Any, slots: dict[str, str]) -> Pipeline:
    pipeline = Pipeline(
        tts, texts=TEXTS, length=Length(fixed=2), sampling={}, language=None, slots=slots, keep_weights=True
    )
    common.apply(pipeline, pipeline.slots)
    pipeline.control_length()
    return pipeline


def utterance(tts: Any) -> tuple[list[int], torch.Tensor]:
    """Of the package as it is, with nothing applied."""
    pipeline = pipeline_of(tts, {})
    spoken = pipeline.speak(0, 3)
    pipeline.undo.restore()
    return spoken.tokens.flatten().tolist(), torch.as_tensor(spoken.wave)


@pytest.fixture(scope="module")
def packages(load_tiny: Callable[..., Any]) -> Callable[[str], tuple[Any, Any]]:
    """Each family's package, the same for all stacks, and what it said before any of them."""
    loaded: dict[str, tuple[Any, Any]] = {}

    def package(family: str) -> tuple[Any, Any]:
        if family not in loaded:
            tts = load_tiny(family)
            loaded[family] = tts, utterance(tts)
        return loaded[family]

    return package


@pytest.mark.parametrize(("slot", "option"), STACKS)
def test_a_stack_is_taken_back(packages: Callable[[str], tuple[Any, Any]], slot: str, option: str) -> None:
    if slot == "quantize":
        pytest.importorskip("torchao")
    slots = {**WITH_OPTION.get((slot, option), WITH.get(slot, {})), slot: option}
    family = family_of(slot, option)
    assert rules.conflict(slots, family=family, cfg_weight=None) == ""
    tts, before = packages(family)
    as_it_was = dict(state(tts))
    pipeline = pipeline_of(tts, slots)
    pipeline.speak(0, 3)
    pipeline.undo.restore()
    assert dict(state(tts)) == as_it_was
    tokens, wave = utterance(tts)
    assert tokens == before[0]
    assert torch.equal(wave, before[1])


def test_every_slot_is_tried() -> None:
    assert {slot for slot, _ in STACKS} | COMPILED == {slot.name for slot in registry.SLOTS if slot.is_part}


def test_weights_that_were_not_kept_are_not_taken_for_restored() -> None:
    undo = Undo()
    undo.weights(lambda: None)
    with pytest.raises(RuntimeError, match="make the pipeline with keep_weights=True"):
        undo.restore()
