"""T3's loops, caches, graphs and samplers on the tiny model: they draw upstream's tokens, whatever is asked of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.model import quality
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts import graph_loop
from ttsbench.optimizations.parts.backbones import SPAN, StaticBackbone
from ttsbench.optimizations.parts.samplers import SAMPLERS, UpstreamSampler
from ttsbench.optimizations.parts.t3 import Sampling, model_of

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


@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
@pytest.mark.parametrize(
    "slots", [{}, {"decode": "lean"}, {"decode": "cuda_graph", "cache": "static", "sampler": "lean"}], ids=str
)
def test_every_loop_hands_its_tokens_over_as_they_are_drawn(make: Make, family: str, slots: dict[str, str]) -> None:
    pipeline, taken = make(family, **slots), list[torch.Tensor]()
    request, drawn = pipeline.decode(0, 3, 24, lambda tokens: taken.append(tokens.clone()))
    assert torch.cat([part.flatten() for part in taken]).tolist() == drawn.flatten().tolist()
    assert len(taken) >= 24 // graph_loop.LOOK_EVERY
    assert max(part.numel() for part in taken) <= 2 * graph_loop.LOOK_EVERY
    assert request["speech_tokens"].flatten().tolist()[:24] == drawn.flatten().tolist()


EXACT = [
    {"decode": "lean", "sampler": "lean"},
    {"decode": "lean", "cache": "static"},
    {"decode": "lean", "cache": "static", "attention": "eager"},
    {"decode": "lean", "attention": "sdpa_math"},
    {"attention": "eager"},
    {"dtype": "fp32"},
    GRAPH,
    {**GRAPH, "attention": "eager"},
    {"decode": "lean", "cache": "static", "attention": "triton"},
    {**GRAPH, "attention": "triton"},
    {"decode": "lean", "cache": "static", "prompt": "cuda_graph"},
    {**GRAPH, "prompt": "cuda_graph"},
]


@pytest.fixture(scope="module")
def upstreams_tokens(make: Make, tokens_of: TokensOf) -> Callable[[str], list[int]]:
    return functools.cache(lambda family: tokens_of(make(family), limit=200))


@pytest.fixture(scope="module")
def upstreams_work(make: Make) -> Callable[[str, int], tuple[torch.Tensor, dict[str, Any]]]:
    """The tokens of an utterance of so many, and what quality is judged by."""

    @functools.cache
    def of(family: str, count: int) -> tuple[torch.Tensor, dict[str, Any]]:
        reference = make(family, length=Length(fixed=count))
        value = reference.speak(0, 3).tokens.flatten()
        return value, quality.outputs(reference, 0, 3, value)

    return of


def interpreted(slots: dict[str, str]) -> bool:
    """Whether a step takes half a second, since Triton's interpreter runs it."""
    return slots.get("attention") == "triton" and not ON_GPU


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", EXACT, ids=str)
def test_what_promises_to_change_nothing_draws_upstreams_tokens(
    make: Make, tokens_of: TokensOf, upstreams_tokens: Callable[[str], list[int]], family: str, slots: dict[str, str]
) -> None:
    count = 8 if interpreted(slots) else 200
    assert tokens_of(make(family, **slots), limit=count) == upstreams_tokens(family)[:count]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", EXACT, ids=str)
def test_their_logits_are_upstreams(
    make: Make,
    upstreams_work: Callable[[str, int], tuple[torch.Tensor, dict[str, Any]]],
    family: str,
    slots: dict[str, str],
) -> None:
    """Within 1e-5 relative, step by step, over the reference's tokens."""
    count = 6 if interpreted(slots) else 24
    value, expected = upstreams_work(family, count)
    other = make(family, length=Length(fixed=count), **slots)
    other.speak(0, 3)
    got = quality.outputs(other, 0, 3, value)
    assert quality.relative_error(got["logits"].double(), expected["logits"].double()) < 1e-5
    assert torch.equal(got["mel"], expected["mel"])


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1.0}, {"top_p": 0.8}, {"min_p": 0.2, "repetition_penalty": 2.0}, {"cfg_weight": 1.5}]
)
@pytest.mark.parametrize("slots", [{"decode": "lean", "sampler": "lean"}, GRAPH], ids=str)
def test_llamas_sampling_is_followed(
    make: Make, tokens_of: TokensOf, slots: dict[str, str], sampling: dict[str, float]
) -> None:
    assert tokens_of(make(sampling=sampling, **slots)) == tokens_of(make(sampling=sampling))


@pytest.mark.parametrize("sampling", [{"temperature": 0.5}, {"top_p": 0.5}, {"top_k": 3}, {"repetition_penalty": 3.0}])
@pytest.mark.parametrize("slots", [{"decode": "lean", "sampler": "lean"}, GRAPH], ids=str)
def test_gpt2s_sampling_is_followed(
    make: Make, tokens_of: TokensOf, slots: dict[str, str], sampling: dict[str, float]
) -> None:
    assert tokens_of(make("turbo", sampling=sampling, **slots)) == tokens_of(make("turbo", sampling=sampling))


def test_a_graph_serves_other_weights_and_temperatures_without_a_new_capture(make: Make, tokens_of: TokensOf) -> None:
    """The planted failure of a graph with its parameters baked in."""
    pipeline = make(**GRAPH)
    plain = tokens_of(pipeline)
    captures = pipeline.loop.evidence()["captures"]
    arguments = dict(pipeline._arguments)
    for changed in ({"temperature": 3.0}, {"cfg_weight": 100.0}):
        pipeline._arguments = {**arguments, **changed}
        drawn = tokens_of(pipeline)
        assert drawn == tokens_of(make(sampling=changed))
        assert drawn != plain
    assert pipeline.loop.evidence()["captures"] == captures


def test_logits_of_every_graph_are_seen_whatever_was_captured_since(make: Make) -> None:
    """Of a second text, after the first has led into another span and to another capture."""
    count = SPAN + 20
    reference, graph = (make(length=Length(fixed=count), **slots) for slots in ({"decode": "lean"}, GRAPH))
    for text in (0, 1):
        taken = []
        for pipeline in (reference, graph):
            with quality.taken_logits(pipeline) as logits, pipeline.forcing((7,) * count):
                pipeline.decode_only(text, 1, count)
            taken.append(torch.cat(logits).double())
        assert quality.relative_error(taken[1], taken[0]) < 1e-5


def test_a_graph_runs_without_guidance(make: Make, tokens_of: TokensOf) -> None:
    assert tokens_of(make(sampling={"cfg_weight": 0.0}, **GRAPH)) == tokens_of(
        make(sampling={"cfg_weight": 0.0}, decode="lean")
    )


def test_calls_of_other_lengths_and_texts_leave_no_trace(make: Make, tokens_of: TokensOf) -> None:
    pipeline = make(**GRAPH)
    first = tokens_of(pipeline)
    pipeline.decode_only(1, 9, 60)
    pipeline.speak(1, 5)
    assert tokens_of(pipeline) == first


def test_a_step_into_the_next_span_goes_on_as_upstream(make: Make, tokens_of: TokensOf) -> None:
    count = SPAN + 40
    length = Length(fixed=count)
    graph = make(length=length, **GRAPH)
    assert tokens_of(graph, limit=count) == tokens_of(make(length=length), limit=count)
    assert graph.loop.evidence()["graphs"] == 2


@pytest.mark.parametrize("slots", [{"decode": "lean", "sampler": "lean"}, GRAPH], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_stop_token_ends_it_where_upstream_ends(
    make: Make, tokens_of: TokensOf, make_stop_likely: Callable[[Any], None], family: str, slots: dict[str, str]
) -> None:
    spoken = []
    for stack in ({}, slots):
        pipeline = make(family, length=Length(), **stack)
        make_stop_likely(pipeline.tts.t3)
        spoken.append(tokens_of(pipeline, seed=5, limit=1000))
    assert spoken[0] == spoken[1]
    assert 1 <= len(spoken[0]) < 1000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", [{}, {"decode": "lean", "sampler": "lean"}, GRAPH], ids=str)
def test_given_tokens_are_spoken_whatever_is_drawn(make: Make, family: str, slots: dict[str, str]) -> None:
    value = (5, 900, 6560, 0, 5, 5)
    pipeline = make(family, length=Length(replay=(value, value)), **slots)
    assert pipeline.speak(0, 0).tokens.flatten().tolist() == list(value)
    assert pipeline.speak(1, 1).tokens.flatten().tolist() == list(value)


@pytest.mark.parametrize("name", ["lean", "triton"])
@pytest.mark.parametrize(("family", "order"), [("chatterbox", "llama"), ("turbo", "gpt2")])
def test_our_samplers_take_upstreams_token(make: Make, name: str, family: str, order: str) -> None:
    model = model_of(make(family).tts.t3)
    ours, theirs = SAMPLERS[name](model), UpstreamSampler(model)
    random = torch.Generator().manual_seed(0)
    vocabulary = model.t3.speech_head.out_features
    cases = 12 if name == "triton" and not ON_GPU else 60  # there are 12 settings; interpreted, a case takes 0.2 s
    for case in range(cases):
        sampling = Sampling(
            temperature=(0.3, 0.8, 1.0, 2.0)[case % 4],
            repetition_penalty=(1.0, 1.2, 3.0)[case % 3],
            top_p=(1.0, 0.95, 0.3)[case % 3],
            min_p=(0.0, 0.05, 0.5)[case // 3 % 3] if order == "llama" else 0.0,
            top_k=0 if order == "llama" else (1, 50, 1000)[case % 3],
        )
        for sampler in (ours, theirs):
            sampler.begin(sampling, 3)
        for step in range(3):
            logits = torch.randn(1, vocabulary, generator=random).to(DEVICE) * 3
            drawn = []
            for sampler in (ours, theirs):
                torch.manual_seed(case * 10 + step)
                drawn.append(sampler.draw(logits.clone()))
                if step == 0 and not model.penalizes_start:
                    sampler.forget_start()
                sampler.observe(drawn[-1])
            assert torch.equal(*drawn), (case, step)


def test_the_kv_cache_of_a_static_one_is_its_memory(make: Make) -> None:
    pipeline = make(decode="lean", cache="static")
    pipeline.decode_only(0, 1, 4)
    layers, keys = len(pipeline.tts.t3.tfmr.layers), pipeline.loop.backbone.keys[0]
    assert pipeline.kv_cache_bytes() == 2 * layers * keys.nbytes
    assert keys.size(2) == SPAN


def test_a_larger_request_gets_more_memory_and_a_smaller_one_none(make: Make) -> None:
    backbone = StaticBackbone(make().tts.t3.tfmr)
    with torch.inference_mode():
        width = backbone._tfmr.config.hidden_size
        backbone.prefill(torch.zeros(1, 5, width, device=DEVICE), SPAN - 5)
        assert backbone.keys[0].size(2) == SPAN
        place = backbone.keys[0].data_ptr()
        backbone.prefill(torch.zeros(1, 5, width, device=DEVICE), 10)
        assert backbone.keys[0].data_ptr() == place
        backbone.prefill(torch.zeros(1, 5, width, device=DEVICE), SPAN)
        assert backbone.keys[0].size(2) == 2 * SPAN


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_gpu_after_an_early_stop_the_random_stream_is_upstreams(
    make: Make, make_stop_likely: Callable[[Any], None], family: str
) -> None:
    """S3Gen draws its noise next: the waves agree only if as much was drawn before."""
    waves = []
    for slots in ({}, GRAPH):
        pipeline = make(family, length=Length(), **slots)
        make_stop_likely(pipeline.tts.t3)
        waves.append(pipeline.speak(0, 5).wave)
    assert waves[0].shape == waves[1].shape
    assert torch.allclose(waves[0], waves[1], atol=1e-4)
