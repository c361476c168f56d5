"""S3Gen's slots on a GPU."""

from __future__ import annotations

import pytest
import torch

from tiny_s3gen import FAMILIES, Slotted, attest, off_by, vocode
from ttsbench.instruments.attest import record_warm_call
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations.parts.graphs import Graphs

pytest_plugins = ("tiny_s3gen",)


@pytest.fixture
def full_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32 anywhere: cuDNN allows it by default, and picks other algorithms for other lengths."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def watched(pipeline: Pipeline) -> Pipeline:
    """After a few whole utterances: what the device ran."""
    for seed in range(3):
        pipeline.speak(0, seed)
    pipeline.warm_call = record_warm_call(pipeline, 0, 0)
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
        expected, heard = first_call(eager, tokens, seed), first_call(graphed, tokens, seed)
        assert torch.isfinite(heard).all()
        assert off_by(heard, expected) < bound, (tokens, seed)


@pytest.mark.gpu
@pytest.mark.usefixtures("full_fp32")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("option", ["exact", "bucket"])
def test_gpu_graphs_make_the_eager_mel(slotted_on_gpu: Slotted, family: str, option: str) -> None:
    graphed = slotted_on_gpu(family, s3gen_attention="sdpa", s3gen_graph=option)
    check_graphs(slotted_on_gpu(family), graphed, 1e-4)
    evidence = attest(graphed, "s3gen_graph", option)
    assert evidence["solve"]["captured"] == (3 if option == "exact" else 2)
    assert evidence["solve"]["replays"] == 5


@pytest.mark.gpu
@pytest.mark.usefixtures("full_fp32")
@pytest.mark.parametrize("option", ["exact", "bucket"])
def test_gpu_graphs_make_the_eager_mel_at_full_size(slotted_on_gpu: Slotted, option: str) -> None:
    graphed = slotted_on_gpu(size="full", s3gen_attention="sdpa", s3gen_graph=option)
    check_graphs(slotted_on_gpu(size="full"), graphed, 1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("slots", [{}, {"s3gen_compile": "default"}], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_gpu_half_precision_graphs_stay_near(slotted_on_gpu: Slotted, attention: str, slots: dict[str, str]) -> None:
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    all_slots = {"s3gen_dtype": "bf16", "s3gen_attention": attention, "s3gen_graph": "bucket", **slots}
    graphed = slotted_on_gpu(**all_slots)
    check_graphs(slotted_on_gpu(), graphed, 0.03)
    watched(graphed)
    for slot, option in all_slots.items():
        attest(graphed, slot, option)
    if slots:
        assert attest(graphed, "s3gen_compile", "default")["recompilations"] <= 1


@pytest.mark.gpu
@pytest.mark.parametrize("graph", ["off", "exact", "bucket"])
def test_gpu_flash_attention_2_is_the_packages_kernel(slotted_on_gpu: Slotted, graph: str) -> None:
    pytest.importorskip("flash_attn")
    from torch.profiler import ProfilerActivity, profile

    pipeline = slotted_on_gpu(s3gen_dtype="bf16", s3gen_attention="flash_attention_2", s3gen_graph=graph)
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
def test_gpu_vocoders_make_the_same_wave(slotted_on_gpu: Slotted, option: str) -> None:
    plain, other = slotted_on_gpu(), slotted_on_gpu(vocoder=option)
    for tokens, seed in ((30, 0), (30, 1), (37, 0), (30, 0)):
        expected, heard = vocode(plain, tokens, seed), vocode(other, tokens, seed)
        assert off_by(heard.wave, expected.wave) < 1e-3, (tokens, seed)
    attest(other, "vocoder", option)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_gpu_compile_modes_with_graphs_of_their_own(slotted_on_gpu: Slotted, mode: str) -> None:
    compiled = slotted_on_gpu(s3gen_attention="sdpa", s3gen_dtype="bf16", s3gen_compile=mode)
    check_graphs(slotted_on_gpu(), compiled, 0.03)
    assert attest(watched(compiled), "s3gen_compile", mode)["graph_breaks"] == 0


@pytest.mark.gpu
def test_gpu_tf32_changes_products_while_s3gen_runs(slotted_on_gpu: Slotted, full_fp32: None) -> None:
    plain, rounded = slotted_on_gpu(), slotted_on_gpu(s3gen_dtype="tf32", s3gen_attention="sdpa", s3gen_graph="exact")
    expected = first_call(plain, 30, 0)
    for _ in range(2):
        assert 1e-5 < off_by(first_call(rounded, 30, 0), expected) < 0.02
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.gpu
def test_gpu_memory_and_graphs_do_not_grow_with_calls(slotted_on_gpu: Slotted) -> None:
    pipeline = slotted_on_gpu(s3gen_dtype="bf16", s3gen_attention="sdpa", s3gen_graph="bucket", vocoder="graph")
    for call in range(5):
        first_call(pipeline, 30 + call, call)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for call in range(200):
        first_call(pipeline, 30 + call % 5, call)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() <= before + 2**20
    assert attest(pipeline, "s3gen_graph", "bucket")["solve"]["captured"] == 1


@pytest.mark.gpu
def test_gpu_graphs_of_other_shapes_share_their_memory() -> None:
    """64 MB of intermediates each, in one pool: what one capture needs serves the next."""
    graphs = Graphs()

    def work(x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = x.repeat(1 << 14, 1).sin().sum(dim=0)
        return x

    reserved = []
    for length in range(1024, 1032):
        value = torch.ones(length, device="cuda")
        graphs(length, work, value)
        reserved.append(torch.cuda.memory_reserved())
    assert graphs.captures == len(reserved)
    assert reserved[-1] - reserved[0] < 64 << 20
