"""T3's slots on the tiny model: each takes effect and can show it, and what did not is caught."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.errors import CellError
from ttsbench.instruments import attest
from ttsbench.model import quality
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import attention as attention_module
from ttsbench.optimizations import registry, rules
from ttsbench.optimizations.parts import graphs
from ttsbench.running.cells import common

pytestmark = pytest.mark.usefixtures("graphs_without_a_gpu")

FAMILIES = ("chatterbox", "turbo")
GRAPH = {"decode": "cuda_graph", "cache": "static", "sampler": "lean"}
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"

Make = Callable[..., Pipeline]
TokensOf = Callable[..., list[int]]


@pytest.fixture(scope="module")
def make(make_pipeline: Make) -> Make:
    return functools.partial(make_pipeline, device=DEVICE)


def evidence(pipeline: Pipeline, slot: str) -> dict[str, Any]:
    pipeline.speak(0, 3)
    pipeline.warm_call = attest.record_warm_call(pipeline, 0, 3)
    return registry.BY_NAME[slot].attest(pipeline, pipeline.slots[slot])


KERNELS = [{"mlp": "triton"}, {"mlp": "triton_fused"}, {"norm": "triton"}, {"rope": "triton"}, {"qkv": "fused"}]
KERNELS += [{"linear": "triton"}, {"linear": "triton", "qkv": "fused", "mlp": "triton_fused"}]
KERNELS += [{slot: "liger"} for slot in ("mlp", "norm", "rope")] if ON_GPU else []
# The first comes from the prompt, the second from a step; interpreted, a step of `linear` takes 5 s.
TOKENS = 2


@pytest.mark.parametrize("slots", KERNELS, ids=str)
def test_kernels_take_effect_and_compute_what_eager_computes(make: Make, slots: dict[str, str]) -> None:
    reference, other = make(decode="lean"), make(decode="lean", cache="static", **slots)
    reference.decode_only(0, 3, TOKENS)
    value = reference._tokens.flatten()
    taken = []
    for pipeline in (reference, other):
        with quality.taken_logits(pipeline) as logits, pipeline.forcing(tuple(value.tolist())):
            pipeline.decode_only(0, 3, TOKENS)
        taken.append(torch.cat(logits).double())
    assert quality.relative_error(taken[1], taken[0]) < 1e-5
    layers = len(other.tts.t3.tfmr.layers)
    left_to_linear = 3 if "qkv" in slots else 7
    replaced = {"norm": 2 * layers + 1, "linear": left_to_linear * layers + 1}
    for slot, option in slots.items():
        assert registry.BY_NAME[slot].attest(other, option)["replaced"] == replaced.get(slot, layers)
        with pytest.raises(CellError, match=f"{option} was asked for; 0 modules were replaced"):
            registry.BY_NAME[slot].attest(reference, option)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_replayed_prompt_serves_other_lengths_and_is_seen(make: Make, family: str) -> None:
    slots = {"decode": "lean", "cache": "static"}
    pipeline, eager = make(family, **slots, prompt="cuda_graph"), make(family, **slots)
    for text_index, count in ((0, 6), (1, 6), (0, 600), (0, 6)):  # the third needs more memory than the first had
        both = [item.decode_only(text_index, 3, count) and item._tokens.tolist() for item in (pipeline, eager)]
        assert both[0] == both[1]
    result = registry.BY_NAME["prompt"].attest(pipeline, "cuda_graph")
    assert (result["replays"], result["captured"], result["held"]) == (
        4,
        2,
        ["(2, 64)" if family != "turbo" else "(1, 448)"],
    )
    with pytest.raises(CellError, match="prompt: cuda_graph was asked for, and method is what ran"):
        registry.BY_NAME["prompt"].attest(eager, "cuda_graph")


def test_the_dtype_is_seen_where_a_prompt_is_replayed(make: Make, late: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay calls no layer; what a capture calls has to be noted."""

    class Recorded(late):  # type: ignore[misc]
        def __init__(self, work: Any, inputs: tuple[Any, ...], pool: Any) -> None:
            super().__init__(work, inputs, pool)
            self._output = work(*inputs)

        def replay(self) -> torch.Tensor:
            output: torch.Tensor = self._output
            return output

    monkeypatch.setattr(graphs, "CudaRecording", Recorded)
    for part in ("SHORT", "LONG"):
        monkeypatch.setattr(attest, part, 1)  # the prompt alone: here a captured step calls its layers at each replay
    slots = {"decode": "lean", "cache": "static", "dtype": "bf16"}
    replayed = evidence(make(prompt="cuda_graph", **slots), "dtype")
    assert replayed == evidence(make(**slots), "dtype")
    assert replayed["activations"] == ["bfloat16"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("option", ["fp16", "bf16"])
def test_a_native_cast_takes_effect_and_stays_faithful(make: Make, family: str, option: str) -> None:
    reference, half = make(family), make(family, dtype=option, decode="lean")
    value = reference.speak(0, 3).tokens.flatten()
    expected = quality.outputs(reference, 0, 3, value)
    half.speak(0, 3)
    error = quality.relative_error(quality.outputs(half, 0, 3, value)["logits"].double(), expected["logits"].double())
    assert 1e-5 < error < 0.05
    result = evidence(half, "dtype")
    assert result["activations"] == result["parameters"] == [{"fp16": "float16", "bf16": "bfloat16"}[option]]


def test_autocast_takes_effect_and_leaves_the_weights(make: Make) -> None:
    result = evidence(make(dtype="amp_bf16"), "dtype")
    assert result["parameters"] == ["float32"]
    assert "bfloat16" in result["activations"]


def test_a_cast_that_did_nothing_is_caught(make: Make) -> None:
    pipeline = make(dtype="bf16")
    pipeline.tts.t3.float()
    pipeline.tts.conds.t3.to(dtype=torch.float32)
    with pytest.raises(CellError, match="bf16 was asked for"):
        evidence(pipeline, "dtype")


def test_token_ids_that_were_cast_are_caught(make: Make) -> None:
    pipeline = make(dtype="bf16")
    pipeline.speak(0, 3)
    pipeline.warm_call = attest.record_warm_call(pipeline, 0, 3)
    conds = pipeline.tts.conds.t3
    conds.cond_prompt_speech_tokens = conds.cond_prompt_speech_tokens.to(torch.bfloat16)
    with pytest.raises(CellError, match="token ids were cast to bfloat16"):
        registry.BY_NAME["dtype"].attest(pipeline, "bf16")


@pytest.mark.parametrize(
    ("option", "slots"),
    [
        ("eager", {}),
        ("sdpa_math", {}),
        ("sdpa_flash", {"dtype": "bf16"}),
        ("eager", {"decode": "lean", "cache": "static"}),
    ],
)
def test_the_attention_asked_for_is_the_one_seen(make: Make, option: str, slots: dict[str, str]) -> None:
    result = evidence(make(attention=option, **slots), "attention")
    assert bool(result["decode"]) == (option != "eager")


@pytest.mark.parametrize("option", ["eager", "sdpa_math"])
def test_a_silent_fallback_of_attention_is_caught(make: Make, option: str) -> None:
    pipeline = make(attention=option)
    pipeline.tts.t3.tfmr.config._attn_implementation = "sdpa"
    with pytest.raises(CellError, match=f"{option} was asked for, and in prefill what ran is: .*attention"):
        evidence(pipeline, "attention")


@pytest.mark.parametrize("family", FAMILIES)
def test_our_kernel_of_a_step_is_seen_and_its_absence_caught(make: Make, family: str) -> None:
    pipeline = make(family, decode="lean", cache="static", attention="triton")
    assert evidence(pipeline, "attention")["steps"]["layers"] == pipeline.tts.t3.tfmr.config.num_hidden_layers
    other = make(family, decode="lean", cache="static")
    other.warm_call = pipeline.warm_call
    with pytest.raises(CellError, match="triton was asked for, and its kernel ran"):
        attention_module.attest(other, "triton")


def test_weights_side_by_side_take_no_more_memory(make: Make) -> None:
    separate, fused = make(decode="lean"), make(decode="lean", qkv="fused")
    assert fused.weights_bytes() == separate.weights_bytes()
    first = fused.tts.t3.tfmr.layers[0].self_attn
    [joined] = {getattr(first, f"{name}_proj").weight.untyped_storage().data_ptr() for name in "qkv"}
    assert joined == first.forward.project.call._weight.untyped_storage().data_ptr()


def test_flash_attention_that_is_pytorchs_own_is_caught() -> None:
    pytorchs = ["void pytorch_flash::flash_fwd_splitkv_kernel<...>"]
    with pytest.raises(CellError, match="flash_attention_2 was asked for"):
        attention_module.refuse_other("flash_attention_2", "decode", pytorchs, on_gpu=True)
    packages = ["void flash::flash_fwd_splitkv_kernel<...>"]
    attention_module.refuse_other("flash_attention_2", "decode", packages, on_gpu=True)


def test_a_static_cache_that_nobody_writes_is_caught(make: Make) -> None:
    pipeline = make(decode="lean", cache="static")
    with pytest.raises(CellError, match="0 of 0 layers wrote into it"):
        registry.BY_NAME["cache"].attest(pipeline, "static")
    result = evidence(pipeline, "cache")
    assert result["layers"] == len(pipeline.tts.t3.tfmr.layers)


def test_a_loop_that_was_put_back_is_caught(make: Make) -> None:
    pipeline = make(**GRAPH)
    pipeline.speak(0, 0)
    pipeline.loop = pipeline.tts.t3.inference
    for slot in ("decode", "cache", "sampler"):
        with pytest.raises(CellError, match="was asked for"):
            registry.BY_NAME[slot].attest(pipeline, GRAPH[slot])


def test_a_compile_on_what_is_never_called_is_caught(make: Make) -> None:
    pipeline = make(decode="lean", cache="static", compile="default")
    pipeline.loop.backbone.forward_one = pipeline.loop.backbone._forward_one
    pipeline.speak(0, 0)
    with pytest.raises(CellError, match="1 of 1 compiled parts were never called"):
        registry.BY_NAME["compile"].attest(pipeline, "default")


def test_what_was_replaced_and_then_compiled_is_still_attested(make: Make) -> None:
    """Over the growing cache each MLP is compiled by itself, around the forward that another slot gave it."""
    pipeline = make(norm="triton", compile="default")
    for part in pipeline.t3_parts.compiled:
        part._call = part.wrapped  # what a compiler makes of it is not the question here
    pipeline.decode_only(0, 3, 4)
    result = registry.BY_NAME["norm"].attest(pipeline, "triton")
    assert result["calls"] > 0


def test_a_compiler_that_made_nothing_is_caught(make: Make) -> None:
    pipeline = make(decode="lean", cache="static", compile="default")
    pipeline.t3_parts.compiled[0]._call = pipeline.t3_parts.compiled[0].wrapped
    pipeline.decode_only(0, 3, 4)
    with pytest.raises(CellError, match="nothing was compiled"):
        registry.BY_NAME["compile"].attest(pipeline, "default")


def test_precisions_that_need_fp32_weights_are_caught_without(make: Make) -> None:
    for option in ("tf32", "amp_bf16"):
        pipeline = make(dtype="bf16")
        pipeline.decode_only(0, 3, 4)
        pipeline.warm_call = attest.WarmCall(activation_dtypes=frozenset({torch.bfloat16}), tf32_allowed=True)
        with pytest.raises(CellError, match=f"{option} works on fp32 weights"):
            registry.BY_NAME["dtype"].attest(pipeline, option)


def test_fused_kernels_in_a_replay_are_no_eager_attention() -> None:
    kernels = ["fmha_cutlassF_f32_aligned_64x64_rf_sm80"]
    for option in ("eager", "sdpa_math"):
        with pytest.raises(CellError, match=f"{option} was asked for"):
            attention_module.refuse_other(option, "decode", kernels, on_gpu=True)
        attention_module.refuse_other(option, "decode", [], on_gpu=True)


def test_a_compiled_step_draws_the_same_and_breaks_nowhere(make: Make, tokens_of: TokensOf) -> None:
    from ttsbench.instruments.compiler import compilations

    before = compilations()
    pipeline = make(decode="lean", cache="static", compile="default")
    assert tokens_of(pipeline) == tokens_of(make())
    warm = compilations()
    assert warm.since(before).graphs == 1
    assert warm.since(before).graph_breaks == 0
    pipeline.decode_only(1, 7, 40)
    assert compilations() == warm
    assert evidence(pipeline, "compile")["calls"] > 24


@pytest.mark.parametrize("slots", [{}, {"decode": "lean"}, GRAPH], ids=str)
def test_steps_and_hooks_do_not_grow_with_use(make: Make, slots: dict[str, str]) -> None:
    pipeline = make(**slots)
    seen = []
    for calls in (2, 20):
        for seed in range(calls):
            pipeline.decode_only(0, seed, 4)
        pipeline.speak(0, 1)
        activity = attest.record_warm_call(pipeline, 0, 3).evidence()
        for part in activity.values():
            del part["device_busy_ms"]  # a time, which is never twice the same
        seen.append((activity, common.count_hooks(pipeline)))
    assert seen[0] == seen[1]


def test_upstreams_multilingual_hooks_do_grow(make: Make) -> None:
    """The planted failure: a check that could never say no would be no check."""
    pipeline = make("multilingual")
    pipeline.decode_only(0, 0, 3)
    before = common.count_hooks(pipeline)
    pipeline.decode_only(0, 1, 3)
    assert common.count_hooks(pipeline) > before


@pytest.mark.parametrize(
    ("slots", "family", "reason"),
    [
        ({"cache": "static"}, "chatterbox", "needs decode: lean or cuda_graph"),
        ({"sampler": "lean"}, "turbo", "draws by itself"),
        ({"decode": "cuda_graph"}, "chatterbox", "needs cache: static"),
        ({"decode": "cuda_graph", "cache": "static"}, "chatterbox", "needs sampler: lean"),
        ({"compile": "reduce-overhead"}, "chatterbox", "needs cache: static"),
        ({**GRAPH, "compile": "reduce-overhead"}, "chatterbox", "captures graphs of its own"),
        (GRAPH, "multilingual", "need analyzer: off"),
        ({"dtype": "amp_bf16", "decode": "lean", "cache": "static"}, "chatterbox", "needs cache: dynamic"),
        ({"attention": "flash_attention_2"}, "chatterbox", "fp16 and bf16 only"),
        ({"attention": "sdpa_flash", "dtype": "bf16", "decode": "lean", "cache": "static"}, "turbo", "takes no mask"),
        ({"analyzer": "off"}, "chatterbox", "is for multilingual"),
        ({"attention": "triton"}, "chatterbox", "needs cache: static"),
        ({"prompt": "cuda_graph", "decode": "lean"}, "chatterbox", "needs cache: static"),
        ({"attention": "triton", "rope": "triton", "decode": "lean", "cache": "static"}, "chatterbox", "no part"),
        ({"qkv": "fused", "quantize": "int8", "dtype": "bf16"}, "chatterbox", "qkv: fused needs quantize: off"),
        ({"qkv": "fused"}, "turbo", "is for chatterbox"),
        ({"linear": "triton", "quantize": "int8", "dtype": "bf16"}, "chatterbox", "linear: triton needs quantize: off"),
        ({"linear": "triton", "dtype": "amp_bf16", "decode": "lean"}, "chatterbox", "use linear: eager"),
        ({"linear": "triton", "compile": "default", "decode": "lean"}, "chatterbox", "needs cache: static"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_the_reason(slots: dict[str, str], family: str, reason: str) -> None:
    assert reason in rules.conflict(slots, family=family, cfg_weight=None)


def test_quantized_weights_are_smaller_and_attested(make: Make) -> None:
    pytest.importorskip("torchao")
    plain, quantized = make(dtype="bf16", decode="lean"), make(dtype="bf16", decode="lean", quantize="int8")
    assert quantized.weights_bytes() < plain.weights_bytes()
    result = evidence(quantized, "quantize")
    assert result["layers"] == 7 * len(quantized.tts.t3.tfmr.layers)
    value = plain.speak(0, 3).tokens.flatten()
    expected, got = quality.outputs(plain, 0, 3, value), quality.outputs(quantized, 0, 3, value)
    assert 1e-4 < quality.relative_error(got["logits"].double(), expected["logits"].double()) < 0.2


def test_quantization_that_did_nothing_is_caught(make: Make) -> None:
    with pytest.raises(CellError, match="int8 was asked for, and 0 of"):
        registry.BY_NAME["quantize"].attest(make(dtype="bf16"), "int8")


BEST = {**GRAPH, "dtype": "bf16", "sampler": "triton", "attention": "flash_attention_2"}


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cache", ["static", "dynamic"])
def test_gpu_flash_attention_2_is_the_packages_kernel_in_prompt_and_steps(make: Make, family: str, cache: str) -> None:
    pytest.importorskip("flash_attn")
    slots = BEST if cache == "static" else {"dtype": "bf16", "decode": "lean", "attention": "flash_attention_2"}
    result = evidence(make(family, **slots), "attention")
    for part in ("prefill", "decode"):
        assert any("flash_fwd" in name and "pytorch_flash" not in name for name in result[part])


@pytest.mark.gpu
@pytest.mark.parametrize("option", ["sdpa_efficient", "sdpa_cudnn", "sdpa_flash"])
def test_gpu_backends_of_sdpa_are_the_ones_seen(make: Make, option: str) -> None:
    assert evidence(make(dtype="bf16", attention=option), "attention")["decode"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "slots",
    [
        {"compile": "default"},
        {"compile": "default", "mlp": "triton", "norm": "triton"},
        {"compile": "default", "mlp": "triton_fused", "qkv": "fused", "attention": "triton"},
        {"compile": "default", "mlp": "triton_fused", "qkv": "fused", "attention": "triton", "linear": "triton"},
        {"compile": "default", "mlp": "triton_fused", "prompt": "cuda_graph"},
    ],
    ids=str,
)
def test_gpu_a_compiled_step_can_be_captured(make: Make, tokens_of: TokensOf, slots: dict[str, str]) -> None:
    pipeline = make(**GRAPH, **slots)
    assert tokens_of(pipeline) == tokens_of(make())
    assert evidence(pipeline, "decode")["replays"] > 20


@pytest.mark.gpu
@pytest.mark.parametrize("slots", [{"decode": "lean", "sampler": "lean"}, GRAPH, BEST], ids=str)
def test_gpu_200_utterances_leave_everything_as_five_did(make: Make, slots: dict[str, str]) -> None:
    pipeline, seen = make(**slots), []
    for calls in (5, 195):
        for seed in range(calls):
            pipeline.speak(seed % 2, seed)
        activity = attest.record_warm_call(pipeline, 0, 3)
        launches = activity.decode.per(activity.steps)["launches"]
        seen.append((launches, common.count_hooks(pipeline), torch.cuda.memory_allocated()))
    assert seen[0] == seen[1]
