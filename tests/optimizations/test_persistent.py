"""The persistent decode kernel: its weights' layout and its compilation anywhere, its tokens on a GPU."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from ttsbench.errors import CellError
from ttsbench.model import quality
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import rules
from ttsbench.optimizations.kernels import nvrtc
from ttsbench.optimizations.kernels import persistent_decode as kernel
from ttsbench.optimizations.parts import persistent
from ttsbench.optimizations.parts.host_copy import HostCopy

VOCABULARY = 8194
Make = Callable[..., Pipeline]
PERSISTENT = {"decode": "persistent", "cache": "static", "sampler": "triton", "dtype": "bf16"}
ROTARY = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0}


def layer(generator: torch.Generator, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    """Of random weights under which activations keep their size."""

    def matrix(outputs: int, inputs: int, scale: float = 1.0) -> torch.Tensor:
        noise: torch.Tensor = torch.randn(outputs, inputs, generator=generator, device=generator.device)
        return noise.mul_(scale * inputs**-0.5).to(device, dtype)

    return kernel.Layer(
        matrix(3072, 1024), matrix(1024, 1024, 0.5), matrix(4096, 1024), matrix(4096, 1024), matrix(1024, 4096, 0.5)
    )


def test_packed_weights_are_the_matrices_in_another_order() -> None:
    generator = torch.Generator().manual_seed(0)
    layers = [layer(generator) for _ in range(2)]
    head = torch.randn(VOCABULARY, 1024, generator=generator)
    packed = kernel.pack(layers, head, count=2, dtype=torch.float32)
    again, head_again = kernel.unpack(packed, VOCABULARY)
    assert torch.equal(head, head_again)
    for before, after in zip(layers, again, strict=True):
        for name in ("qkv", "out", "gate", "up", "down"):
            assert torch.equal(getattr(before, name), getattr(after, name)), name


def test_a_lane_reads_its_columns_of_its_row() -> None:
    """As the kernel addresses them: a lane's sixteen bytes, then the next lane's; its 16 columns are two reads."""
    generator = torch.Generator().manual_seed(0)
    only, head = layer(generator), torch.randn(VOCABULARY, 1024, generator=generator)
    packed = kernel.pack([only], head, count=1, dtype=torch.float32)
    block, warp, lane, half, element = 77, 5, 22, 1, 3
    at = ((warp * 2 + half) * 32 + lane) * 8 + element
    row, column = lane // 4, warp * 64 + lane % 4 * 16 + half * 8 + element
    assert packed[block, 2, at] == only.qkv[block * 24 + 16 + row, column]
    assert packed[block, 3, at] == only.out[block * 8 + row, column]
    assert packed[block, 4, at] == only.gate[block * 32 + row, column]
    assert packed[block, 7, at] == only.up[block * 32 + 8 + row, column]
    assert packed[block, 14, at] == only.down[block * 8 + row, 2048 + column]
    assert packed[block, 17, at] == head[(128 + block) * 8 + row, column]
    assert packed[0, 24, warp * 512 + 8 * 4 + element] == head[8193, warp * 64 + element]  # the tail's last row


@pytest.fixture(scope="module")
def small_t3() -> Any:
    """Two layers of the kernel's shape by transformers, with what T3 has around them."""
    config = LlamaConfig(
        vocab_size=8, hidden_size=1024, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=16,
        num_key_value_heads=16, head_dim=64, rms_norm_eps=1e-5, max_position_embeddings=131072,
        rope_parameters={**ROTARY, "original_max_position_embeddings": 8192},
    )  # fmt: skip
    torch.manual_seed(0)
    tfmr, head = LlamaModel(config), torch.nn.Linear(1024, VOCABULARY, bias=False)
    for name, parameter in tfmr.named_parameters():
        if "norm" in name:
            parameter.data = 1 + torch.randn_like(parameter) * 0.2
    return SimpleNamespace(tfmr=tfmr, speech_head=head)


@torch.inference_mode()
def test_the_reference_computes_what_transformers_computes(small_t3: Any) -> None:
    """Norms' weights folded into matrices, cosines from the model's own rotary embedding."""
    packed = persistent.packed_weights(small_t3)
    layers, head = kernel.unpack(packed, VOCABULARY)
    embeds = torch.randn(2, 9, 1024)
    hidden = small_t3.tfmr(inputs_embeds=embeds).last_hidden_state
    keys, values = ([torch.zeros(2, 16, 9, 64) for _ in layers] for _ in range(2))
    rotary = persistent.rotary_table(small_t3.tfmr, 9)
    for position in range(9):
        logits = kernel.step_reference(layers, head, embeds[:, position], keys, values, position, rotary, 1e-5)
        expected = small_t3.speech_head(hidden[:, position])
        assert quality.relative_error(logits, expected) < 1e-5


def test_layers_with_biases_are_refused(small_t3: Any) -> None:
    small_t3.tfmr.layers[0].self_attn.q_proj.bias = torch.nn.Parameter(torch.zeros(1024))
    try:
        with pytest.raises(CellError, match="without biases"):
            persistent.packed_weights(small_t3)
    finally:
        small_t3.tfmr.layers[0].self_attn.q_proj.bias = None


def constants(rows: int, fp16: int) -> tuple[tuple[str, int], ...]:
    return (("VOCABULARY", VOCABULARY), ("LAYERS", 30), ("ROWS", rows), ("FP16", fp16))


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC comes with PyTorch on Linux")
@pytest.mark.parametrize(("rows", "fp16"), [(1, 0), (2, 0), (2, 1)])
def test_it_compiles_without_a_gpu_and_once(
    rows: int, fp16: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path))
    nvrtc.compiled.cache_clear()
    code = nvrtc.compiled("persistent_decode.cu", "sm_90", constants(rows, fp16))
    assert code.startswith(b"\x7fELF")
    assert [path.read_bytes() for path in (tmp_path / "kernels").iterdir()] == [code]
    nvrtc.compiled.cache_clear()
    monkeypatch.setattr(nvrtc, "_compile", lambda *_: pytest.fail("compiled again"))
    assert nvrtc.compiled("persistent_decode.cu", "sm_90", constants(rows, fp16)) == code
    nvrtc.compiled.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC comes with PyTorch on Linux")
def test_what_does_not_compile_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path))
    with pytest.raises(CellError, match=r"NVRTC could not compile persistent_decode.cu: .*rows of the activations"):
        nvrtc.compiled("persistent_decode.cu", "sm_90", constants(3, 0))
    assert not (tmp_path / "kernels").exists()


@pytest.mark.parametrize(
    ("changes", "family", "reason"),
    [
        ({}, "chatterbox", ""),
        ({"mlp": "triton_fused", "norm": "triton", "qkv": "fused", "prompt": "cuda_graph"}, "chatterbox", ""),
        ({"dtype": "fp16", "analyzer": "off"}, "multilingual", ""),
        ({}, "turbo", "is for chatterbox, multilingual"),
        ({"dtype": "stored"}, "chatterbox", "needs dtype: fp16 or bf16"),
        ({"cache": "dynamic"}, "chatterbox", "needs cache: static"),
        ({"sampler": "lean"}, "chatterbox", "needs sampler: triton"),
        ({"linear": "triton"}, "chatterbox", "linear: triton has no part in decode: persistent"),
        ({"attention": "triton"}, "chatterbox", "attention: triton has no part in decode: persistent"),
        ({"compile": "default"}, "chatterbox", "compile: default has no part in decode: persistent"),
        ({"quantize": "int8"}, "chatterbox", "quantize: int8 has no part in decode: persistent"),
        ({"serve": "batched"}, "chatterbox", "needs decode: lean or cuda_graph"),
        ({}, "multilingual", "need analyzer: off"),
    ],
    ids=str,
)
def test_what_has_no_part_in_it_is_refused(changes: dict[str, str], family: str, reason: str) -> None:
    result = rules.conflict({**PERSISTENT, **changes}, family=family, cfg_weight=None)
    assert reason in result if reason else not result


def test_forwards_of_the_backbone_alone_do_not_draw() -> None:
    result = rules.conflict(PERSISTENT, family="chatterbox", cfg_weight=None, forward_steps=3)
    assert "draws" in result or "no part" in result


def test_other_shapes_are_refused(make_pipeline: Make) -> None:
    with pytest.raises(CellError, match="written for hidden size 1024, and this model has"):
        make_pipeline(**PERSISTENT)


class Counting:
    """In the kernel's place, on a CPU: the draw of a step is that step, or what is forced; logits are its number."""

    stop_at = 0  # the step that draws the stop token

    def __init__(self, **shape: Any) -> None:
        self.rows, self.vocabulary = shape["rows"], shape["vocabulary"]
        self.state = torch.zeros(len(kernel.STATE), dtype=torch.int32)
        self.launched: list[int] = []

    def begin(self, token: torch.Tensor, *, step: int, position: int, stop_token: int) -> None:
        self.state.copy_(torch.tensor([int(token), step, position, int(token) == stop_token, 1, 0]))

    def launch(self, arguments: Any) -> None:
        self.launched.append(arguments.tokens)
        _, first, _, stopped, _, _ = self.state.tolist()
        drawn = ctypes.cast(arguments.drawn, ctypes.POINTER(ctypes.c_int64))
        forced = ctypes.cast(arguments.forced, ctypes.POINTER(ctypes.c_int64)) if arguments.forced else None
        logits = ctypes.cast(arguments.logits, ctypes.POINTER(ctypes.c_float)) if arguments.logits else None
        for step in range(first, first + arguments.tokens * (not stopped)):
            token = arguments.stop_token if step == self.stop_at else step
            token = forced[step] if forced and forced[step] >= 0 else token
            drawn[step] = token
            if logits:
                logits[(step - first) * self.rows * self.vocabulary] = step
            self.state += torch.tensor([0, 1, 1, 0, 0, 0], dtype=torch.int32)
            if token == arguments.stop_token:
                self.state[3] = 1
                return


@pytest.fixture
def counting(make_pipeline: Make, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """The loop over a tiny model, with a kernel that counts; only the first token is drawn."""
    monkeypatch.setattr(kernel, "check_shape", lambda **_: None)
    monkeypatch.setattr(kernel, "PersistentDecode", Counting)
    monkeypatch.setattr(persistent, "packed_weights", lambda t3: torch.zeros(1))
    monkeypatch.setattr(Counting, "stop_at", 0)
    return make_pipeline(**PERSISTENT | {"dtype": "stored"})


def tokens_and_launches(pipeline: Pipeline, limit: int, **decode: Any) -> tuple[list[int], list[int]]:
    """All tokens but the first, which is really drawn, and how many each launch was asked for."""
    for held in pipeline.loop._kernels.values():
        held.launched.clear()
    pipeline.decode(0, 3, limit, **decode)
    return pipeline._tokens.flatten().tolist()[1:], pipeline.loop._kernels[2].launched


@pytest.mark.parametrize(
    ("limit", "launches"), [(1, []), (2, [1]), (26, [25]), (27, [25, 1]), (101, [25, 25, 25, 25]), (60, [25, 25, 9])]
)
def test_launches_add_up_to_the_limit(counting: Pipeline, limit: int, launches: list[int]) -> None:
    assert tokens_and_launches(counting, limit) == (list(range(1, limit)), launches)
    assert counting.loop.steps == limit


@pytest.mark.parametrize("stop_at", [1, 24, 25, 26, 30, 59])
def test_after_a_stop_one_launch_at_most_is_in_vain(
    counting: Pipeline, stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "stop_at", stop_at)
    stop = counting.tts.t3.hp.stop_speech_token
    tokens, launches = tokens_and_launches(counting, 1000)
    assert tokens == [*range(1, stop_at), stop]
    assert len(launches) <= (stop_at - 1) // 25 + 2
    heard: list[torch.Tensor] = []
    assert tokens_and_launches(counting, 1000, take=lambda new: heard.append(new.clone()))[0] == tokens
    listened = torch.cat([part.flatten() for part in heard]).tolist()
    assert listened[1 : stop_at + 1] == tokens
    assert set(listened[stop_at + 1 :]) <= {stop}


@pytest.mark.parametrize("stop_at", [0, 40])
def test_every_draw_shows_its_logits_once(counting: Pipeline, stop_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counting, "stop_at", stop_at)
    with quality.taken_logits(counting) as logits, counting.forcing((5, 6, 7)):
        tokens, _ = tokens_and_launches(counting, 60)
    assert tokens[:4] == [6, 7, 3, 4]
    assert len(logits) == (stop_at or 59) + 1
    assert [int(rows[0, 0]) for rows in logits[1:]] == list(range(1, len(logits)))


def test_more_tokens_than_speech_positions_are_refused(counting: Pipeline) -> None:
    positions = counting.tts.t3.speech_pos_emb.emb.num_embeddings
    with pytest.raises(CellError, match=f"T3 has {positions} speech positions, and {positions + 1} tokens"):
        counting.decode_only(0, 3, positions + 1)


def test_a_loop_whose_kernel_never_ran_is_caught(counting: Pipeline) -> None:
    with pytest.raises(CellError, match="its kernel was never launched"):
        counting.loop.evidence()


class Decoding:
    """A model of few layers and an utterance of it, on the GPU."""

    def __init__(self, rows: int, dtype: torch.dtype, positions: int, settings: list[float], layers: int = 3) -> None:
        self.random = torch.Generator(device="cuda").manual_seed(0)
        self.rows, self.dtype, self.positions, self.settings = rows, dtype, positions, settings
        self.layers = [layer(self.random, dtype, "cuda") for _ in range(layers)]
        self.head = self.noise(VOCABULARY, 1024) / 8
        self.kernel = kernel.PersistentDecode(vocabulary=VOCABULARY, layers=layers, rows=rows, dtype=dtype)
        self.tokens, self.steps = self.noise(VOCABULARY, 1024), self.noise(4100, 1024)
        self.keys, self.values = ([self.noise(rows, 16, positions, 64) for _ in self.layers] for _ in range(2))
        self.bias = torch.randn(VOCABULARY, generator=self.random, device="cuda") / 10
        angles = torch.arange(positions)[:, None] * 500000.0 ** (-torch.arange(32) / 32)
        self.rotary = torch.stack([angles.cos(), angles.sin()], -1).cuda()
        self.seen = torch.zeros(1, VOCABULARY, dtype=torch.bool, device="cuda")
        self.drawn = torch.zeros(4100, dtype=torch.long, device="cuda")
        self.held = [
            kernel.pack(self.layers, self.head, count=layers, dtype=dtype),
            torch.tensor([part.data_ptr() for part in (*self.keys, *self.values)], device="cuda"),
            torch.tensor(settings, device="cuda"),
        ]

    def noise(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.random, device="cuda").to(self.dtype)

    def race(self, tokens: int) -> torch.Tensor:
        return torch.empty(tokens, VOCABULARY, device="cuda").exponential_(generator=self.random)

    def launch(
        self, race: torch.Tensor, *, stop: int = -1, blocks: int = 128, patience: float = 5.0,
        forced: torch.Tensor | None = None,
    ) -> dict[str, int]:  # fmt: skip
        """The state that it leaves."""
        self.logits = torch.full((len(race), self.rows, VOCABULARY), torch.nan, device="cuda")
        arguments = kernel.Arguments(
            weights=self.held[0].data_ptr(), token_embeddings=self.tokens.data_ptr(),
            step_embeddings=self.steps.data_ptr(), head_bias=self.bias.data_ptr(), rotary=self.rotary.data_ptr(),
            caches=self.held[1].data_ptr(), settings=self.held[2].data_ptr(), race=race.data_ptr(),
            forced=None if forced is None else forced.data_ptr(), drawn=self.drawn.data_ptr(),
            seen=self.seen.data_ptr(), logits=self.logits.data_ptr(), patience=int(patience * 1e9),
            cache_positions=self.positions, tokens=len(race), stop_token=stop, epsilon=1e-5,
        )  # fmt: skip
        self.kernel.launch(arguments, blocks=blocks)
        return dict(zip(kernel.STATE, self.kernel.state.tolist(), strict=True))

    def begin(self, token: int, position: int, stop: int = -1) -> None:
        self.seen.zero_()
        self.kernel.begin(torch.tensor(token, device="cuda"), step=1, position=position, stop_token=stop)

    def drawn_from(self, race: torch.Tensor, position: int, **launch: Any) -> list[int]:
        """All tokens of one launch."""
        self.begin(17, position)
        self.launch(race, **launch)
        return [int(token) for token in self.drawn[1 : 1 + len(race)]]


CFG_WEIGHT_TO_TOP_K = [0.5, 0.8, 1.2, 0.05, 1.0, 0.0]
LENGTHS = [(2, at) for at in (1, 3, 130, 766, 768, 769, 1535, 2051)] + [(1, at) for at in (2, 1535, 1537, 4090)]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("rows", "position", "dtype", "settings"),
    [
        *((rows, at, torch.bfloat16, CFG_WEIGHT_TO_TOP_K) for rows, at in LENGTHS),
        (2, 400, torch.float16, CFG_WEIGHT_TO_TOP_K),
        (2, 300, torch.bfloat16, [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]),
        (2, 300, torch.bfloat16, [0.5, 0.8, 1.2, 0.05, 0.9, 0.0]),
        (2, 300, torch.bfloat16, [0.5, 1.5, 2.0, 0.0, 0.3, 0.0]),
        (2, 300, torch.bfloat16, [0.7, 0.5, 1.1, 0.0, 1.0, 50.0]),
        (1, 300, torch.bfloat16, [0.7, 0.0, 1.1, 0.1, 0.95, 7.0]),
    ],
    ids=str,
)
@torch.inference_mode()
def test_gpu_logits_cache_and_tokens_are_the_references(
    rows: int, position: int, dtype: torch.dtype, settings: list[float]
) -> None:
    count, decoding = 5, Decoding(rows, dtype, position + 9, settings)
    keys, values = ([part.clone() for part in parts] for parts in (decoding.keys, decoding.values))
    race, token = decoding.race(count), 17
    decoding.begin(token, position)
    decoding.seen[:, ::3] = True
    seen = decoding.seen.clone()
    state = decoding.launch(race)
    assert (state["step"], state["position"], state["stopped"], state["gave_up"]) == (1 + count, position + count, 0, 0)
    tolerance = 2e-3 if dtype == torch.float16 else 1.2e-2
    for i in range(count):
        embed = (decoding.tokens[token] + decoding.steps[1 + i]).double().expand(rows, -1)
        expected = kernel.step_reference(
            decoding.layers, decoding.head, embed, keys, values, position + i, decoding.rotary, 1e-5
        )
        assert quality.relative_error(decoding.logits[i].double(), expected + decoding.bias) < tolerance
        token = int(decoding.drawn[1 + i])
        assert token == int(kernel.draw_reference(decoding.logits[i], seen, settings, race[i : i + 1]))
        seen[0, token] = True
    assert torch.equal(seen, decoding.seen)
    for got, exact in zip((*decoding.keys, *decoding.values), (*keys, *values), strict=True):
        assert quality.relative_error(got.double(), exact.double()) < tolerance


@pytest.mark.gpu
@torch.inference_mode()
def test_gpu_launches_go_on_where_the_last_one_ended_and_end_at_the_stop_token() -> None:
    decoding = Decoding(2, torch.bfloat16, 400, CFG_WEIGHT_TO_TOP_K)
    race = decoding.race(30)
    whole = decoding.drawn_from(race, 300)
    decoding.begin(17, 300)
    for first in range(0, 30, 7):
        decoding.launch(race[first : first + 7])
    assert decoding.drawn[1:31].tolist() == whole
    stop = whole[11]
    until = whole.index(stop) + 1
    decoding.drawn.zero_()
    decoding.begin(17, 300)
    for _ in range(2):  # the second finds that it has nothing to do
        state = decoding.launch(race, stop=stop)
        assert (state["token"], state["step"], state["stopped"]) == (stop, 1 + until, 1)
    assert decoding.drawn[1:31].tolist() == whole[:until] + [0] * (30 - until)
    forced = torch.full((40,), -1, device="cuda")
    forced[3], forced[5] = 77, 6561
    took = decoding.drawn_from(race, 300, forced=forced)
    assert (took[:2], took[2], took[4]) == (whole[:2], 77, 6561)


@pytest.mark.gpu
@torch.inference_mode()
def test_gpu_epochs_wrap_and_many_launches_draw_the_same() -> None:
    decoding = Decoding(2, torch.bfloat16, 400, CFG_WEIGHT_TO_TOP_K)
    race = decoding.race(8)
    whole = decoding.drawn_from(race, 300)
    decoding.kernel.state[kernel.STATE.index("epoch")] = -4
    assert decoding.drawn_from(race, 300) == whole
    assert decoding.kernel.state[kernel.STATE.index("epoch")] == 4
    for _ in range(200):
        assert decoding.drawn_from(race, 300) == whole


@pytest.mark.gpu
@torch.inference_mode()
def test_gpu_a_launch_that_misses_a_block_ends_with_an_error() -> None:
    decoding = Decoding(2, torch.bfloat16, 400, CFG_WEIGHT_TO_TOP_K)
    race = decoding.race(8)
    whole = decoding.drawn_from(race, 300)
    decoding.begin(17, 300)
    assert decoding.launch(race, blocks=127, patience=0.2)["gave_up"]
    with pytest.raises(CellError, match="blocks waited more than"):
        persistent.state_of(HostCopy(decoding.kernel.state), decoding.kernel)
    assert decoding.drawn_from(race, 300) == whole


@pytest.mark.gpu
@torch.inference_mode()
def test_gpu_two_of_them_on_two_streams_take_turns() -> None:
    both = [Decoding(2, torch.bfloat16, 400, CFG_WEIGHT_TO_TOP_K) for _ in range(2)]
    race = both[0].race(30)
    whole = both[0].drawn_from(race, 300)
    streams = [torch.cuda.Stream() for _ in both]  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    for _ in range(10):
        for stream, decoding in zip(streams, both, strict=True):
            with torch.cuda.stream(stream):
                decoding.begin(17, 300)
                decoding.launch(race)
    torch.cuda.synchronize()
    assert [decoding.drawn[1:31].tolist() for decoding in both] == [whole, whole]


@pytest.fixture(scope="module")
def make_full(make_pipeline: Make) -> Make:
    """The true size, which the kernel is written for."""
    return functools.partial(make_pipeline, device="cuda", size="full")


@pytest.mark.gpu
@pytest.mark.parametrize("sampling", [{}, {"cfg_weight": 0.0}], ids=str)
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_gpu_it_speaks_as_faithfully_as_the_graph(make_full: Make, dtype: str, sampling: dict[str, float]) -> None:
    count = 60
    reference = make_full(decode="lean", length=Length(fixed=count), sampling=sampling)
    reference.decode_only(0, 3, count)
    value = tuple(reference._tokens.flatten().tolist())
    graph = {**PERSISTENT, "decode": "cuda_graph", "dtype": dtype}
    errors, taken = {}, {}
    for name, pipeline in (
        ("reference", reference),
        ("graph", make_full(length=Length(fixed=count), sampling=sampling, **graph)),
        ("persistent", make_full(length=Length(fixed=count), sampling=sampling, **PERSISTENT | {"dtype": dtype})),
    ):
        with quality.taken_logits(pipeline) as logits, pipeline.forcing(value):
            pipeline.decode_only(0, 3, count)
        assert pipeline._tokens.flatten().tolist() == list(value)
        taken[name] = torch.cat([pipeline.guided(rows).float() for rows in logits])
        errors[name] = quality.relative_error(taken[name].double(), taken["reference"].double())
    assert errors["persistent"] <= 1.2 * errors["graph"]
    assert quality.kl_divergence(taken["reference"].double(), taken["persistent"].double()).mean() < 0.02


@pytest.mark.gpu
def test_gpu_a_stop_token_ends_it_and_the_random_stream_goes_on_from_there(
    make_full: Make, make_stop_likely: Callable[[Any], None]
) -> None:
    pipeline = make_full(length=Length(), **PERSISTENT)
    make_stop_likely(pipeline.tts.t3)
    heard: list[torch.Tensor] = []
    pipeline.decode(0, 5, 1000)
    alone, after = pipeline._tokens.flatten().tolist(), torch.rand(1, device="cuda").item()
    pipeline.decode(0, 5, 1000, lambda tokens: heard.append(tokens.clone()))
    assert torch.rand(1, device="cuda").item() == after
    assert pipeline._tokens.flatten().tolist() == alone
    assert 1 < len(alone) < 1000
    stop = pipeline.tts.t3.hp.stop_speech_token
    assert alone.index(stop) == len(alone) - 1
    listened = torch.cat([part.flatten() for part in heard]).tolist()
    assert listened[: len(alone)] == alone
    assert set(listened[len(alone) :]) <= {stop}


@pytest.mark.gpu
def test_gpu_calls_of_other_lengths_leave_no_trace_and_it_shows_what_ran(make_full: Make) -> None:
    pipeline = make_full(length=Length(fixed=40), **PERSISTENT)
    drawn = []
    for count in (40, 1, 2, 700, 40):
        pipeline.decode_only(0, 3, count)
        drawn.append(pipeline._tokens.flatten().tolist())
    assert drawn[0] == drawn[-1] == drawn[3][:40]
    assert [len(tokens) for tokens in drawn] == [40, 1, 2, 700, 40]
    result = pipeline.loop.evidence()
    assert result["launches"] == 2 + 0 + 1 + 28 + 2
    assert result["registers"][2] <= 96
