"""S3Gen's slots on the real modules at tiny size: the same tokens and noise must make the same mel and wave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import ModuleSpec
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.utils import parametrize

from ttsbench import bench, checkpoint, voice, worker
from ttsbench.attest import watch
from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.jobs import Job
from ttsbench.length_control import Length
from ttsbench.measured import STAGES
from ttsbench.optimizations import registry, rules
from ttsbench.optimizations.parts import graphs
from ttsbench.optimizations.parts.flow_attention import Flash2
from ttsbench.optimizations.parts.flow_estimator import LeanEstimator
from ttsbench.optimizations.parts.s3gen import installed
from ttsbench.optimizations.stacks import changes_output
from ttsbench.pipeline import Pipeline
from ttsbench.streaming import seams
from ttsbench.streaming.designs import Windowed
from ttsbench.streaming.schedule import Streaming
from ttsbench.streaming.synthesis import Synthesis

FAMILIES = ("chatterbox", "turbo")
SLOTS = ("s3gen_dtype", "s3gen_attention", "s3gen_graph", "s3gen_compile", "cfm_steps", "vocoder")
# Two of one bucket, one of the next, and the first again.
LENGTHS = (30, 37, 90, 30)

Make = Callable[..., Pipeline]


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
    wave, _ = s3gen.inference(speech, ref_dict=pipeline.tts.conds.gen, **steps)
    return Heard(mel, wave)


def off_by(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative: the norm of the difference over the reference's."""
    return float((one.double() - other.double()).norm() / other.double().norm())


def attest(pipeline: Pipeline, slot: str, option: str) -> dict[str, Any]:
    evidence: dict[str, Any] = bench.slot_module(slot).attest(pipeline, option)
    return evidence


@pytest.fixture
def make(load_tiny: Callable[..., Any]) -> Make:
    """A fresh pipeline with some slots applied, in the registry's order."""

    def build(family: str = "chatterbox", **slots: str) -> Pipeline:
        pipeline = Pipeline(
            load_tiny(family), texts=("Two words.",), length=Length(fixed=8), sampling={}, language=None
        )
        for slot in registry.BY_NAME:
            if slot in slots:
                bench.slot_module(slot).apply(pipeline, slots[slot])
        return pipeline

    return build


@pytest.fixture(scope="module")
def upstream(load_tiny: Callable[..., Any]) -> Callable[..., Heard]:
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
        query, key, value = (given.transpose(-3, -2) for given in (query, key, value))
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


# Everything that claims to change nothing: the slots, and how far off they may be.
SAME = [
    {},
    {"s3gen_dtype": "fp32"},
    {"s3gen_dtype": "tf32"},
    {"s3gen_attention": "sdpa"},
    {"s3gen_attention": "sdpa", "s3gen_graph": "exact"},
    {"s3gen_attention": "sdpa", "s3gen_graph": "bucket"},
    {"vocoder": "folded"},
    {"vocoder": "graph"},
    {"s3gen_attention": "sdpa", "s3gen_graph": "bucket", "vocoder": "graph"},
]


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", SAME, ids=str)
def test_in_fp32_every_option_makes_upstreams_mel(
    make: Make, upstream: Callable[..., Heard], family: str, slots: dict[str, str]
) -> None:
    pipeline = make(family, **slots)
    for seed, tokens in enumerate(LENGTHS):
        heard, wanted = vocode(pipeline, tokens, seed), upstream(family, tokens, seed)
        assert heard.mel.shape == wanted.mel.shape
        assert off_by(heard.mel, wanted.mel) < 1e-5
        # The vocoder's sines add up to thousands of periods, and carry a last bit of the mel further.
        assert off_by(heard.wave, wanted.wave) < (1e-5 if set(slots) <= {"vocoder"} else 1e-3)
    for slot, option in slots.items():
        attest(pipeline, slot, option)


# Measured at tiny: 0.8 % in bf16, 0.1 % in fp16. With upstream's own casts, times included, 4.9 % and 0.9 %.
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 0.015), ("fp16", 0.002)])
@pytest.mark.parametrize(
    "slots",
    [
        {},
        {"s3gen_attention": "sdpa", "s3gen_graph": "bucket"},
        {"s3gen_attention": "flash_attention_2"},
        {"s3gen_attention": "flash_attention_2", "s3gen_graph": "bucket"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("late", "flash_attn")
def test_in_half_precision_the_mel_is_near_and_not_equal(
    make: Make, upstream: Callable[..., Heard], family: str, dtype: str, bound: float, slots: dict[str, str]
) -> None:
    pipeline = make(family, s3gen_dtype=dtype, **slots)
    for tokens in (30, 37):
        assert 1e-5 < off_by(vocode(pipeline, tokens).mel, upstream(family, tokens).mel) < bound
    for slot, option in (slots | {"s3gen_dtype": dtype}).items():
        attest(pipeline, slot, option)


def test_only_the_estimators_parameters_are_cast(make: Make) -> None:
    pipeline = make(s3gen_dtype="bf16")
    before = {name: buffer.dtype for name, buffer in make().tts.s3gen.named_buffers()}
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


def test_the_references_ids_survive_the_cast_of_the_estimator(make: Make) -> None:
    plain, cast = make(), make(s3gen_dtype="bf16")
    for pipeline in (plain, cast):
        pipeline.tts.conds.gen["prompt_token"] = torch.arange(6500, 6550)[None]
        pipeline.tts.conds.gen["prompt_token_len"] = torch.tensor([50])
        vocode(pipeline)
    assert torch.equal(plain.tts.conds.gen["prompt_token"], cast.tts.conds.gen["prompt_token"])


def test_casting_all_of_s3gen_garbles_the_ids_and_is_caught(make: Make) -> None:
    """The planted failure: what a user would write first."""
    pipeline = make()
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


def test_a_vocoder_in_half_precision_is_caught(make: Make) -> None:
    pipeline = make(s3gen_dtype="bf16")
    pipeline.tts.s3gen.mel2wav.to(torch.bfloat16)
    with pytest.raises(CellError, match="only the estimator may be in half precision, and so are vocoder"):
        attest(pipeline, "s3gen_dtype", "bf16")


def test_tf32_is_allowed_while_s3gen_runs_and_not_after(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make(s3gen_dtype="tf32")
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
    bench.slot_module("s3gen_dtype").apply(pipeline, "fp32")
    assert attest(pipeline, "s3gen_dtype", "fp32")["estimator"] == "float32"


def test_the_lean_estimator_waits_for_nothing_and_biases_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
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
    found = []
    for slots in ({}, {"s3gen_attention": "sdpa"}):
        estimator = make(**slots).tts.s3gen.flow.decoder.estimator
        biases.clear()
        with Seen() as seen, torch.inference_mode():
            estimator.forward(mel, **arguments)
        found.append((seen.waits, set(biases), len(biases)))
    assert found == [(4, {True}, 4), (0, {False}, 4)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
@pytest.mark.usefixtures("flash_attn")
def test_several_padded_utterances_come_out_as_each_alone(make: Make, family: str, attention: str) -> None:
    """The estimator's true masks: rows of 40 and 28 frames side by side."""
    dtype = "bf16" if attention == "flash_attention_2" else "fp32"
    estimator = make(family, s3gen_dtype=dtype, s3gen_attention=attention).tts.s3gen.flow.decoder.estimator
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
            **{name: given[rows:] for name, given in end.items()},
        )
    assert off_by(together[rows:, :, :28], alone) < (1e-5 if dtype == "fp32" else 0.02)
    assert not together[rows:, :, 28:].any()


def test_flash_attention_runs_in_the_estimator_and_says_what_the_encoder_runs(
    make: Make, flash_attn: list[str]
) -> None:
    pipeline = make(s3gen_dtype="bf16", s3gen_attention="flash_attention_2")
    vocode(pipeline)
    assert flash_attn == ["plain"] * 2 * 10 * 4
    evidence = attest(pipeline, "s3gen_attention", "flash_attention_2")
    assert evidence["estimator_modules"] == 4
    assert evidence["estimator_calls"] == 20
    assert evidence["flow_encoder"].startswith("sdpa")
    assert evidence["flow_encoder_modules"] == 6


def test_flash_attention_in_a_bucket_masks_by_lengths(make: Make, flash_attn: list[str], late: type) -> None:
    vocode(make(s3gen_dtype="bf16", s3gen_attention="flash_attention_2", s3gen_graph="bucket"))
    assert set(flash_attn) == {"various"}


def test_flash_attention_marks_frames_and_padding_as_sequences_of_their_own(flash_attn: list[str]) -> None:
    mask = torch.ones(2, 1, 8)
    mask[:, :, 5:] = 0
    assert Flash2().mark_keys(mask).tolist() == [0, 5, 8, 13, 16]
    many = torch.ones(1, 1, 1024, dtype=torch.bfloat16)
    many[:, :, 1001:] = 0
    assert Flash2().mark_keys(many).tolist() == [0, 1001, 1024]


@pytest.mark.parametrize("change", [{"causal": False}, {"static_chunk_size": 25}])
def test_an_estimator_built_otherwise_is_refused(make: Make, change: dict[str, Any]) -> None:
    pipeline = make()
    vars(pipeline.tts.s3gen.flow.decoder.estimator).update(change)
    with pytest.raises(CellError, match="built otherwise"):
        bench.slot_module("s3gen_attention").apply(pipeline, "sdpa")


def test_an_encoder_built_otherwise_is_refused(make: Make) -> None:
    pipeline = make()
    pipeline.tts.s3gen.flow.encoder.encoders[0].normalize_before = False
    with pytest.raises(CellError, match="encoder is built otherwise"):
        bench.slot_module("s3gen_attention").apply(pipeline, "sdpa")


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(("option", "captured"), [("exact", 3), ("bucket", 2)])
def test_a_graph_serves_its_length_or_its_bucket(make: Make, option: str, captured: int) -> None:
    pipeline = make(s3gen_attention="sdpa", s3gen_graph=option)
    for tokens in LENGTHS:
        vocode(pipeline, tokens)
    evidence = attest(pipeline, "s3gen_graph", option)
    for part in ("solve", "flow_encoder"):
        assert (evidence[part]["captured"], evidence[part]["replays"]) == (captured, 2 * len(LENGTHS))
    assert evidence["estimator_calls_in_the_last_solve"] == 10


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("family", FAMILIES)
def test_one_graph_serves_all_windows_of_a_stream(make: Make, family: str) -> None:
    """Their lengths differ, look-ahead and all; each comes out as without a graph."""
    speech = torch.randint(0, 6561, (60,), generator=torch.Generator().manual_seed(7)).tolist()
    waves, pipelines = [], [make(family, s3gen_attention="sdpa", s3gen_graph=graph) for graph in ("off", "bucket")]
    for pipeline in pipelines:
        streaming, synthesis = Streaming(first_tokens=8, growth=1.0, prompt_tokens=10), Synthesis(pipeline.tts.s3gen)
        waves.append(seams.chunked(Windowed(synthesis, pipeline.tts.conds.gen, 1, streaming), speech, streaming)[0])
    assert off_by(waves[1], waves[0]) < 1e-4
    solve, encode = installed(pipelines[1])["s3gen_graph"]
    assert solve.graphs.captures == 1 < solve.graphs.replays
    assert encode.graphs.captures == 1 < encode.graphs.replays


@pytest.mark.usefixtures("late")
def test_what_was_in_a_bucket_before_leaves_no_trace(make: Make) -> None:
    fresh, used = (make(s3gen_attention="sdpa", s3gen_graph="bucket") for _ in range(2))
    # 50 prompt tokens and 60 share a bucket with 50 and 20.
    vocode(used, 60)
    solve, _ = installed(used)["s3gen_graph"]
    for _, static in solve.graphs._held.values():
        with torch.inference_mode():
            static[0].fill_(float("nan"))
    assert torch.equal(vocode(used, 20).mel, vocode(fresh, 20).mel)


@pytest.mark.usefixtures("late")
def test_the_noise_is_drawn_outside_the_graph(make: Make) -> None:
    pipeline = make(s3gen_attention="sdpa", s3gen_graph="exact")
    first, again, other = (vocode(pipeline, seed=seed).mel for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_graph_that_recorded_the_first_noise_is_noticed(
    make: Make, late: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted failure: values baked in at capture. Two seeds must not sound alike."""

    class Baked(late):  # type: ignore[misc]
        def replay(self) -> torch.Tensor:
            replayed: torch.Tensor = self._output if self._output is not None else super().replay()
            return replayed

    monkeypatch.setattr(graphs, "CudaRecording", Baked)
    pipeline = make(s3gen_attention="sdpa", s3gen_graph="exact")
    with pytest.raises(AssertionError):
        test_the_noise_is_drawn_outside_the_graph(lambda **_: pipeline)


@pytest.mark.usefixtures("late")
def test_the_least_recently_used_graphs_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "GRAPHS_MAX", 2)
    cache = graphs.Graphs()
    for length in (1, 2, 1, 3, 1, 2):
        given = torch.full((length,), float(length))
        assert torch.equal(cache(length, lambda x: x * 2, given), given * 2)
    assert cache.evidence() == {"captured": 4, "replays": 6, "held": ["1", "2"]}


@pytest.mark.usefixtures("late")
def test_a_result_outlives_the_next_replay() -> None:
    cache = graphs.Graphs()
    first = cache(0, lambda x: x * 2, torch.ones(3))
    cache(0, lambda x: x * 2, torch.zeros(3))
    assert torch.equal(first, torch.full((3,), 2.0))


@pytest.mark.usefixtures("late")
def test_a_batch_is_refused_by_a_graph(make: Make) -> None:
    decoder = make(s3gen_attention="sdpa", s3gen_graph="exact").tts.s3gen.flow.decoder
    mel = torch.zeros(2, 80, 20)
    with pytest.raises(CellError, match="one utterance at a time, not for 2"):
        decoder(mu=mel, mask=mel[:, :1], n_timesteps=2, spks=mel[:, :, 0], cond=mel)


@pytest.mark.parametrize(("family", "option"), [("chatterbox", "8"), ("chatterbox", "2"), ("turbo", "1")])
@pytest.mark.parametrize("slots", [{}, {"s3gen_attention": "sdpa", "s3gen_graph": "exact"}], ids=str)
@pytest.mark.usefixtures("late")
def test_fewer_steps_are_taken_and_counted(
    make: Make, upstream: Callable[..., Heard], family: str, option: str, slots: dict[str, str]
) -> None:
    pipeline = make(family, cfm_steps=option, **slots)
    assert off_by(vocode(pipeline).mel, upstream(family).mel) > 0.01
    for _ in range(2):
        assert attest(pipeline, "cfm_steps", option) == {"estimator_calls": int(option)}
        vocode(pipeline)


def test_steps_that_were_not_taken_are_refused(make: Make) -> None:
    pipeline = make(cfm_steps="4")
    installed(pipeline)["cfm_steps"].steps = 5
    vocode(pipeline)
    with pytest.raises(CellError, match="4 was asked for, and the estimator was called 5 times"):
        attest(pipeline, "cfm_steps", "4")


def test_folding_leaves_no_weight_norm_and_the_window_where_it_is_used(make: Make) -> None:
    hift = make(vocoder="folded").tts.s3gen.mel2wav
    assert not any(parametrize.is_parametrized(module) for module in hift.modules())
    assert not any("parametrizations" in name for name in hift.state_dict())


def test_folding_computes_no_norm_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[Any] = []
    compute = torch._weight_norm

    def noting(*args: Any) -> torch.Tensor:
        norms.append(args)
        return compute(*args)

    monkeypatch.setattr(torch, "_weight_norm", noting)
    counts = []
    for slots in ({}, {"vocoder": "folded"}):
        pipeline = make(**slots)
        norms.clear()
        vocode(pipeline)
        counts.append(len(norms))
    assert counts == [82, 0]


def test_a_vocoder_with_a_norm_left_is_refused(make: Make) -> None:
    pipeline = make(vocoder="folded")
    vocode(pipeline)
    torch.nn.utils.parametrizations.weight_norm(pipeline.tts.s3gen.mel2wav.conv_pre)
    with pytest.raises(CellError, match="folded was asked for, and upstream is what ran"):
        attest(pipeline, "vocoder", "folded")


def test_compiled_code_is_called_and_serves_other_lengths(
    make: Make, upstream: Callable[..., Heard], late: type
) -> None:
    """One compilation for all lengths, in a graph as outside of one."""
    pipeline = make(s3gen_attention="sdpa", s3gen_graph="bucket", s3gen_compile="default")
    for tokens in LENGTHS:
        assert off_by(vocode(pipeline, tokens).mel, upstream("chatterbox", tokens).mel) < 1e-5
    evidence = attest(pipeline, "s3gen_compile", "default")
    assert evidence["calls"] == 2 * len(LENGTHS) * 10
    assert (evidence["graphs"], evidence["recompilations"], evidence["graph_breaks"]) == (1, 0, 0)
    assert evidence["compile_seconds"][0] > 0


def test_the_vocoders_convolutions_are_one_graph_that_serves_other_lengths(
    make: Make, upstream: Callable[..., Heard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as ever, and run as traced: writing the code would take most of a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    pipeline = make(vocoder="compile")
    for seed, tokens in enumerate(LENGTHS):
        heard, wanted = vocode(pipeline, tokens, seed), upstream("chatterbox", tokens, seed)
        assert off_by(heard.wave, wanted.wave) < 1e-5
    evidence = attest(pipeline, "vocoder", "compile")
    assert evidence["folded"] == 82
    assert evidence["compile"]["graph_breaks"] == 0
    # On a CPU, PyTorch picks another convolution for fewer than 81 frames, and guards on it.
    assert evidence["compile"]["graphs"] <= 2


def test_a_compile_of_what_is_never_called_is_caught(make: Make) -> None:
    """The planted failure: `module.compile()` compiles the call of the module, and upstream calls its `forward`."""
    pipeline = make(s3gen_attention="sdpa")
    compiled: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph

    pipeline.tts.s3gen.flow.decoder.estimator.compile(backend=backend)
    vocode(pipeline)
    assert not compiled
    with pytest.raises(CellError, match="default was asked for, and nothing was put in the place"):
        attest(pipeline, "s3gen_compile", "default")


def test_a_compile_that_compiled_nothing_is_caught(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)
    pipeline = make(s3gen_attention="sdpa", s3gen_compile="default", vocoder="compile")
    vocode(pipeline)
    with pytest.raises(CellError, match="default was asked for, and nothing was compiled"):
        attest(pipeline, "s3gen_compile", "default")
    with pytest.raises(CellError, match="compile was asked for, and folded is what ran"):
        attest(pipeline, "vocoder", "compile")


# What each option refuses to attest when its work is taken away again.
@pytest.mark.parametrize(
    ("slot", "option"),
    [(slot.name, option.name) for slot in registry.SLOTS if slot.name in SLOTS for option in slot.options],
)
def test_an_option_that_was_not_applied_is_refused(make: Make, slot: str, option: str) -> None:
    pipeline = make("turbo" if (slot, option) == ("cfm_steps", "1") else "chatterbox")
    vocode(pipeline)
    if option in ("stored", "fp32", registry.BY_NAME[slot].default):
        attest(pipeline, slot, option)
        return
    with pytest.raises(CellError, match=f"{slot}: {option} was asked for"):
        attest(pipeline, slot, option)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    ("slot", "slots"),
    [
        ("s3gen_dtype", {"s3gen_dtype": "tf32"}),
        ("s3gen_attention", {"s3gen_attention": "sdpa"}),
        ("s3gen_graph", {"s3gen_attention": "sdpa", "s3gen_graph": "bucket"}),
        ("s3gen_compile", {"s3gen_attention": "sdpa", "s3gen_compile": "default"}),
        ("cfm_steps", {"cfm_steps": "4"}),
        ("vocoder", {"vocoder": "folded"}),
        ("vocoder", {"vocoder": "graph"}),
    ],
)
def test_an_option_that_was_never_called_is_refused(make: Make, slot: str, slots: dict[str, str]) -> None:
    with pytest.raises(CellError, match=f"{slot}: {slots[slot]} was asked for"):
        attest(make(**slots), slot, slots[slot])


@pytest.mark.usefixtures("late")
def test_nothing_reaches_another_pipeline_and_no_hook_stays(make: Make, upstream: Callable[..., Heard]) -> None:
    """All slots at once in one pipeline; the package's classes and modules, and a second pipeline, know nothing."""
    from chatterbox.models.s3gen import decoder, flow, flow_matching, hifigan

    classes = (decoder.ConditionalDecoder, flow.CausalMaskedDiffWithXvec, flow_matching.CausalConditionalCFM)
    watched: tuple[Any, ...] = (*classes, hifigan.HiFTGenerator, decoder, flow, flow_matching, hifigan)
    before = [dict(vars(owner)) for owner in watched]
    all_slots = {
        "s3gen_dtype": "tf32",
        "s3gen_attention": "sdpa",
        "s3gen_graph": "bucket",
        "cfm_steps": "4",
        "vocoder": "graph",
    }
    changed, plain, again = make(**all_slots), make(), make(**all_slots)
    first, untouched, second = (vocode(pipeline).wave for pipeline in (changed, plain, again))
    assert torch.equal(first, second)
    assert torch.equal(untouched, upstream("chatterbox").wave)
    assert [dict(vars(owner)) for owner in watched] == before
    for pipeline in (changed, again):
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipeline.tts.s3gen.modules())
        for slot, option in all_slots.items():
            attest(pipeline, slot, option)
    for slot in SLOTS:
        attest(plain, slot, registry.BY_NAME[slot].default)


@pytest.mark.usefixtures("late")
def test_the_stages_of_a_graphed_utterance_are_all_seen(make: Make) -> None:
    pipeline = make(s3gen_attention="sdpa", s3gen_graph="bucket", cfm_steps="4", vocoder="graph", s3gen_dtype="tf32")
    pipeline.control_length()
    timeline = Timeline(torch.device("cpu"))
    pipeline.speak_timed(0, 0, timeline)
    stages = timeline.stages()
    assert all(stages[name].host_seconds > 0 for name in STAGES if name != "voice")


def test_a_cell_proves_every_slot(make_job: Callable[..., Job], tmp_path: Path) -> None:
    """Through the worker, which prepares the voice before it applies the stack."""
    slots = {
        "s3gen_dtype": "bf16",
        "s3gen_attention": "sdpa",
        "cfm_steps": "4",
        "vocoder": "folded",
        "resample": "gpu",
        "watermark": "gpu",
    }
    job = make_job(slots=slots, voice_seconds=2.0)
    cell = worker.run(job, tmp_path, lambda stage: None, {})
    assert (cell.status, cell.reason) == ("ok", "")
    assert cell.evidence["s3gen_dtype"]["estimator"] == "bfloat16"
    assert cell.evidence["s3gen_dtype"]["times"] == "float32"
    assert cell.evidence["s3gen_attention"]["estimator_modules"] == 4
    assert cell.evidence["cfm_steps"] == {"estimator_calls": 4}
    assert cell.evidence["vocoder"]["weight_norms"] == 0
    assert cell.evidence["resample"]["voice"] > 0
    assert cell.evidence["s3gen_graph"] == {"captured": 0}
    assert len(cell.changes_output) == 3


def test_parameters_are_where_they_were(make: Make) -> None:
    """No slot hides a copy of the weights in the module tree."""
    plain, changed = make(), make(s3gen_attention="sdpa", vocoder="folded")
    estimators = [pipeline.tts.s3gen.flow.state_dict() for pipeline in (plain, changed)]
    assert estimators[0].keys() == estimators[1].keys()
    assert isinstance(changed.tts.s3gen.flow.decoder.estimator.forward, LeanEstimator)


# Where the host's and the device's arithmetic meet: the voice and the watermark.


def spoken(pipeline: Pipeline) -> np.ndarray:
    """Two seconds of breath in syllables; Perth takes unmarked tones for marked ones, and this not."""
    breath = np.cumsum(np.random.default_rng(0).standard_normal(48_000))
    breath -= np.convolve(breath, np.ones(200) / 200, mode="same")
    wave = 0.02 * breath * np.sin(2 * np.pi * 3 * np.arange(48_000) / 24_000) ** 2
    marked: np.ndarray = pipeline.tts.watermarker.apply_watermark(wave.astype(np.float32), sample_rate=24_000)
    return marked


def read_mark(wave: np.ndarray) -> float:
    import perth

    return float(np.mean(perth.PerthImplicitWatermarker().get_watermark(wave, 24_000, round=False)))


@pytest.mark.parametrize("slots", [{"watermark": "gpu"}, {"resample": "gpu"}, {"resample": "gpu", "watermark": "gpu"}])
def test_the_mark_set_on_the_device_is_read_by_perth(make: Make, slots: dict[str, str]) -> None:
    host, device = spoken(make()), make(**slots)
    marked = spoken(device)
    assert read_mark(host) > 0.9
    assert read_mark(marked) > 0.9
    assert marked.shape == host.shape
    assert marked.dtype == host.dtype
    assert 1e-7 < off_by(torch.from_numpy(marked), torch.from_numpy(host)) < 0.01
    for slot in ("resample", "watermark"):
        attest(device, slot, slots.get(slot, registry.BY_NAME[slot].default))


def test_no_mark_is_read_where_none_was_set(make: Make) -> None:
    assert read_mark(spoken(make(watermark="off"))) < 0.1


def test_a_voice_is_resampled_on_the_device_and_librosa_comes_back(make: Make, tmp_path: Path) -> None:
    """An odd rate, so that both of upstream's resamplings have work to do."""
    import librosa
    import soundfile
    from chatterbox import tts as upstream_module

    wave, rate_hz = soundfile.read(voice.synthesize(tmp_path / "24k.wav", 3.0))
    path = str(tmp_path / "22k.wav")
    soundfile.write(path, librosa.resample(wave, orig_sr=rate_hz, target_sr=22_050), 22_050)
    host, device = make(), make(resample="gpu")
    for pipeline in (host, device):
        pipeline.tts.prepare_conditionals(path)
    assert upstream_module.librosa is librosa
    assert attest(device, "resample", "gpu") == {"voice": 2, "watermark": 0}
    wanted, heard = (pipeline.tts.conds.gen["prompt_feat"] for pipeline in (host, device))
    assert 1e-7 < off_by(heard, wanted) < 0.02
    assert off_by(device.tts.conds.t3.speaker_emb, host.tts.conds.t3.speaker_emb) < 0.02


@pytest.mark.parametrize(("slot", "option"), [("resample", "gpu"), ("watermark", "gpu")])
def test_what_the_device_never_did_is_refused(make: Make, slot: str, option: str) -> None:
    for pipeline in (make(), make(**{slot: option})):
        with pytest.raises(CellError, match=f"{slot}: {option} was asked for"):
            attest(pipeline, slot, option)


def test_the_network_stays_on_the_host_unless_the_watermark_moves(make: Make) -> None:
    pipeline = make(resample="gpu")
    spoken(pipeline)
    with pytest.raises(CellError, match="gpu was asked for, and ResampledWatermarker is what ran"):
        attest(pipeline, "watermark", "gpu")


# What makes no sense together.


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"s3gen_graph": "exact"}, "s3gen_graph: exact needs s3gen_attention"),
        ({"s3gen_graph": "bucket"}, "upstream's waits for the host"),
        ({"s3gen_compile": "default"}, "s3gen_compile: default needs s3gen_attention"),
        (
            {"s3gen_attention": "sdpa", "s3gen_graph": "bucket", "s3gen_compile": "reduce-overhead"},
            "captures graphs of its own",
        ),
        ({"s3gen_attention": "flash_attention_2"}, "needs s3gen_dtype: fp16 or bf16"),
        ({"s3gen_attention": "flash_attention_2", "s3gen_dtype": "tf32"}, "needs s3gen_dtype: fp16 or bf16"),
        ({"cfm_steps": "1"}, "cfm_steps: 1 is for turbo, nano, not for chatterbox"),
    ],
    ids=str,
)
def test_combinations_without_sense_are_refused(slots: dict[str, str], reason: str) -> None:
    assert reason in rules.conflict(slots, family="chatterbox", cfg_weight=0.5)


@pytest.mark.parametrize(
    "slots",
    [
        {"s3gen_attention": "flash_attention_2", "s3gen_dtype": "bf16", "s3gen_graph": "bucket"},
        {"s3gen_attention": "sdpa", "s3gen_graph": "exact", "s3gen_compile": "max-autotune"},
        {"s3gen_attention": "sdpa", "s3gen_compile": "reduce-overhead", "vocoder": "compile"},
        {"cfm_steps": "4", "vocoder": "graph", "resample": "gpu", "watermark": "gpu"},
    ],
    ids=str,
)
def test_combinations_with_sense_are_taken(slots: dict[str, str]) -> None:
    assert rules.conflict(slots, family="chatterbox", cfg_weight=0.5) == ""


def test_other_sounds_are_marked_as_such() -> None:
    for slots in ({"cfm_steps": "4"}, {"resample": "gpu"}, {"watermark": "gpu"}, {"watermark": "off"}):
        assert len(changes_output(slots)) == 1
    assert changes_output({"s3gen_dtype": "bf16", "s3gen_graph": "bucket", "vocoder": "compile"}) == ()


# On a GPU.


@pytest.fixture
def on_gpu() -> Callable[..., Pipeline]:
    def build(family: str = "chatterbox", size: str = "tiny", **slots: str) -> Pipeline:
        tts = checkpoint.load(checkpoint.ensure(family, size, "fp32", 0), family, "cuda")
        pipeline = Pipeline(tts, texts=("Two words.",), length=Length(fixed=8), sampling={}, language=None)
        for slot in registry.BY_NAME:
            if slot in slots:
                bench.slot_module(slot).apply(pipeline, slots[slot])
        return pipeline

    return build


@pytest.fixture
def full_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32 anywhere: cuDNN allows it by default, and picks other algorithms for other lengths."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def watched(pipeline: Pipeline) -> Pipeline:
    """After a few whole utterances: what the device ran."""
    pipeline.control_length()
    for seed in range(3):
        pipeline.speak(0, seed)
    pipeline.seen = watch(pipeline, 0, 0)
    return pipeline


def first_call(pipeline: Pipeline, tokens: int, seed: int) -> torch.Tensor:
    """One mel and nothing before it, so that a capture which is not replayed would show."""
    s3gen = pipeline.tts.s3gen
    speech = torch.randint(0, 6561, (tokens,), generator=torch.Generator().manual_seed(7)).to(pipeline.device)
    torch.manual_seed(seed)
    steps = {"n_cfm_timesteps": 2} if s3gen.meanflow else {}
    mel: torch.Tensor = s3gen.flow_inference(speech, ref_dict=pipeline.tts.conds.gen, finalize=True, **steps)
    return mel.cpu().clone()


def check_graphs(eager: Pipeline, graphed: Pipeline, bound: float) -> None:
    """First calls, later calls, other seeds, other lengths, the first length again."""
    for tokens, seed in ((30, 0), (30, 1), (37, 0), (90, 2), (30, 0)):
        wanted, heard = first_call(eager, tokens, seed), first_call(graphed, tokens, seed)
        assert torch.isfinite(heard).all()
        assert off_by(heard, wanted) < bound, (tokens, seed)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_fp32")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("option", ["exact", "bucket"])
def test_gpu_graphs_make_the_eager_mel(on_gpu: Make, family: str, option: str) -> None:
    graphed = on_gpu(family, s3gen_attention="sdpa", s3gen_graph=option)
    check_graphs(on_gpu(family), graphed, 1e-4)
    evidence = attest(graphed, "s3gen_graph", option)
    assert evidence["solve"]["captured"] == (3 if option == "exact" else 2)
    assert evidence["solve"]["replays"] == 5


@pytest.mark.gpu
@pytest.mark.usefixtures("full_fp32")
@pytest.mark.parametrize("option", ["exact", "bucket"])
def test_gpu_graphs_make_the_eager_mel_at_full_size(on_gpu: Make, option: str) -> None:
    graphed = on_gpu(size="full", s3gen_attention="sdpa", s3gen_graph=option)
    check_graphs(on_gpu(size="full"), graphed, 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("slots", [{}, {"s3gen_compile": "default"}], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_gpu_half_precision_graphs_stay_near(on_gpu: Make, attention: str, slots: dict[str, str]) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    all_slots = {"s3gen_dtype": "bf16", "s3gen_attention": attention, "s3gen_graph": "bucket", **slots}
    graphed = on_gpu(**all_slots)
    check_graphs(on_gpu(), graphed, 0.03)
    watched(graphed)
    for slot, option in all_slots.items():
        attest(graphed, slot, option)
    if slots:
        assert attest(graphed, "s3gen_compile", "default")["recompilations"] <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["off", "exact", "bucket"])
def test_gpu_flash_attention_2_is_the_packages_kernel(on_gpu: Make, graph: str) -> None:
    pytest.importorskip("flash_attn")
    from torch.profiler import ProfilerActivity, profile

    pipeline = on_gpu(s3gen_dtype="bf16", s3gen_attention="flash_attention_2", s3gen_graph=graph)
    first_call(pipeline, 30, 0)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        first_call(pipeline, 30, 1)
        torch.cuda.synchronize()
    kernels = [event.name for event in profiler.events() if event.device_type.name == "CUDA"]
    flash = [name for name in kernels if "flash_fwd" in name and "pytorch_flash" not in name]
    # Ten steps of four blocks; where keys are split, a second kernel joins the parts.
    assert len(flash) >= 40
    assert not any("pytorch_flash" in name for name in kernels)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_fp32")
@pytest.mark.parametrize("option", ["folded", "compile", "graph"])
def test_gpu_vocoders_make_the_same_wave(on_gpu: Make, option: str) -> None:
    plain, other = on_gpu(), on_gpu(vocoder=option)
    for tokens, seed in ((30, 0), (30, 1), (37, 0), (30, 0)):
        wanted, heard = vocode(plain, tokens, seed), vocode(other, tokens, seed)
        assert off_by(heard.wave, wanted.wave) < 1e-3, (tokens, seed)
    attest(other, "vocoder", option)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_gpu_compile_modes_with_graphs_of_their_own(on_gpu: Make, mode: str) -> None:
    compiled = on_gpu(s3gen_attention="sdpa", s3gen_dtype="bf16", s3gen_compile=mode)
    check_graphs(on_gpu(), compiled, 0.03)
    assert attest(watched(compiled), "s3gen_compile", mode)["graph_breaks"] == 0


@pytest.mark.gpu
def test_gpu_tf32_changes_products_while_s3gen_runs(on_gpu: Make, full_fp32: None) -> None:
    plain, rounded = on_gpu(), on_gpu(s3gen_dtype="tf32", s3gen_attention="sdpa", s3gen_graph="exact")
    wanted = first_call(plain, 30, 0)
    for _ in range(2):
        assert 1e-5 < off_by(first_call(rounded, 30, 0), wanted) < 0.02
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.gpu
def test_gpu_the_mark_set_on_the_device_is_read_by_perth(on_gpu: Make) -> None:
    pipeline = on_gpu(watermark="gpu")
    assert read_mark(spoken(pipeline)) > 0.9
    assert attest(pipeline, "watermark", "gpu")["network"].startswith("cuda")


@pytest.mark.gpu
def test_gpu_memory_and_graphs_do_not_grow_with_calls(on_gpu: Make) -> None:
    pipeline = on_gpu(s3gen_dtype="bf16", s3gen_attention="sdpa", s3gen_graph="bucket", vocoder="graph")
    for call in range(5):
        first_call(pipeline, 30 + call, call)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for call in range(200):
        first_call(pipeline, 30 + call % 5, call)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + 2**20
    assert attest(pipeline, "s3gen_graph", "bucket")["solve"]["captured"] == 1
