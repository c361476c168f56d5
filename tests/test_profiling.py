"""From traces to tables, on traces that are made here: a GPU's, as CUPTI records them, without a GPU."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ttsbench import profile_rows, profiles
from ttsbench.profile_rows import UNATTRIBUTED, Ceilings
from ttsbench.profiles import Profile
from ttsbench.profiling import (
    attribution,
    chrome,
    costs,
    families,
    findings,
    flames,
    memory,
    roofline,
    tables,
    timeline,
    trace,
)
from ttsbench.profiling.attribution import Attributed, attribute
from ttsbench.profiling.build import Recording, build
from ttsbench.profiling.trace import MARK, MODULE, Host, Trace
from ttsbench.reports import profile_files, profile_summary

Event = dict[str, Any]


@dataclass
class Recorded:
    """Writes events as Kineto exports them; times in microseconds."""

    events: list[Event] = field(default_factory=list)

    def add(self, category: str, name: str, start: float, length: float, **arguments: Any) -> Recorded:
        device = category in trace.DEVICE_KINDS
        event = {"ph": "X", "cat": category, "name": name, "ts": start, "dur": length, "args": arguments}
        self.events.append(event | {"pid": 0 if device else 7, "tid": arguments.get("stream", 7) if device else 7})
        return self

    def mark(self, stage: str, at: float) -> Recorded:
        return self.add("user_annotation", MARK + stage, at, 0.0)

    def module(self, path: str, start: float, length: float) -> Recorded:
        return self.add("user_annotation", MODULE + path, start, length)

    def op(self, name: str, start: float, length: float, number: int = 0, **arguments: Any) -> Recorded:
        return self.add("cpu_op", name, start, length, **{"External id": number or int(start)}, **arguments)

    def launch(self, at: float, correlation: int, name: str = "cudaLaunchKernel", length: float = 2.0) -> Recorded:
        return self.add("cuda_runtime", name, at, length, correlation=correlation)

    def kernel(self, name: str, start: float, length: float, correlation: int, stream: int = 7) -> Recorded:
        return self.add("kernel", name, start, length, correlation=correlation, stream=stream)

    @property
    def chrome(self) -> dict[str, Any]:
        return {"schemaVersion": 1, "traceEvents": self.events}

    def parsed(self) -> Trace:
        return trace.parse(self.chrome)


GEMM = "nvjet_tst_64x8_64x16_2x1_v_bz_TNT"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >"
SHAPED = {"Input Dims": [[2, 64], [64, 32]], "Input type": ["float", "float"], "Concrete Inputs": ["", ""]}


def eager() -> Recorded:
    """Two stages; the device runs behind, so that decode's kernel ends after the host is in `cfm`."""
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.module("t3.tfmr", 5, 80).module("t3.tfmr.layers.0.mlp", 10, 60)
    recorded.op("aten::linear", 12, 50, 1).op("aten::mm", 20, 30, 2, **SHAPED).launch(30, 100)
    recorded.kernel(GEMM, 60, 60, 100)
    recorded.op("aten::add", 110, 20, 3).launch(115, 101).kernel(ADD, 150, 10, 101)
    return recorded


def replayed() -> Recorded:
    """The same work out of a graph."""
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.launch(30, 300, "cudaGraphLaunch").kernel(GEMM, 50, 20, 300).kernel(ADD, 71, 9, 300)
    return recorded


def by_name(found: Attributed) -> dict[str, attribution.Ran]:
    return {ran.event.name: ran for ran in found.ran}


def test_a_kernel_belongs_to_the_stage_that_launched_it_however_late_it_runs() -> None:
    found = by_name(attribute(eager().parsed()))
    assert (found[GEMM].stage, found[GEMM].op, found[GEMM].module) == ("decode", "aten::mm", "t3.tfmr.layers.0.mlp")
    assert (found[ADD].stage, found[ADD].op, found[ADD].module) == ("cfm", "aten::add", None)


def test_replayed_kernels_have_the_stage_of_the_replay_and_no_op_of_their_own() -> None:
    found = attribute(replayed().parsed())
    assert {(ran.stage, ran.op, ran.module, ran.replayed) for ran in found.ran} == {("decode", None, None, True)}
    level = {row.level: row for row in tables.coverage(found.ran)}
    assert level["stage"].share == 1.0
    assert level["op"].share == level["module"].share == 0.0
    stage = tables.stages(found, timeline.waits(found), {}, {}, {})[0]
    assert stage.busy_seconds == pytest.approx(29e-6)
    assert stage.idle_seconds == pytest.approx(1e-6)
    assert {row.op for row in tables.kernels(found)} == {UNATTRIBUTED}
    assert [row.name for row in tables.ops(found) if row.self_device_seconds] == [UNATTRIBUTED]


def test_the_eager_twin_says_what_replayed_kernels_are() -> None:
    twin = eager()
    twin.op("aten::add", 72, 8, 9).launch(74, 109).kernel(ADD, 130, 9, 109)
    found = attribute(replayed().parsed(), attribute(twin.parsed()))
    gemm, add = by_name(found)[GEMM], by_name(found)[ADD]
    assert (gemm.op, gemm.module, gemm.by_twin) == ("aten::mm", "t3.tfmr.layers.0.mlp", frozenset({"op", "module"}))
    assert (add.op, add.module) == ("aten::add", "t3.tfmr"), "not the one of the stage cfm"
    assert gemm.cost is not None
    assert gemm.cost.operations == 2 * 2 * 64 * 32
    assert next(row for row in tables.coverage(found.ran) if row.level == "op").twin_seconds == pytest.approx(29e-6)


@pytest.mark.parametrize(
    ("launched", "modules"),
    [(1, ["t3.layers.0", "t3.layers.1"]), (2, [None] * 4)], ids=["as many", "more"],
)  # fmt: skip
def test_kernels_of_one_name_are_laid_beside_those_as_far_along(launched: int, modules: list[str | None]) -> None:
    """Where there are more or fewer than in the twin, nobody knows which is which."""
    twin = Recorded().mark("decode", 0).mark("end", 100)
    for layer in (0, 1):
        twin.module(f"t3.layers.{layer}", 10 + 40 * layer, 30).op("aten::mm", 12 + 40 * layer, 20)
        twin.launch(15 + 40 * layer, layer + 1).kernel(GEMM, 20 + 40 * layer, 5, layer + 1)
    graph = Recorded().mark("decode", 0).mark("end", 100)
    for step in (0, 1):
        graph.launch(50 * step + 1, step + 1, "cudaGraphLaunch")
        for number in range(launched):
            graph.kernel(GEMM, 50 * step + 10 * (number + 1), 5, step + 1)
    found = attribute(graph.parsed(), attribute(twin.parsed()))
    assert [ran.module for ran in found.ran] == modules


@pytest.mark.parametrize("cost", [True, False])
def test_a_stage_whose_products_tell_no_shapes_has_no_floor(cost: bool) -> None:
    recorded = eager()
    if not cost:
        recorded.launch(70, 55).kernel("_gate_up_few_rows_kernel", 60, 30, 55)
    profile = built(recorded)
    assert profile.roofline is not None
    stages = {point.stage for point in profile.roofline.points if point.kind == "stage"}
    assert ("decode" in stages) == cost
    assert any("no floor for decode" in note for note in profile.notes) != cost


def test_what_was_recorded_and_left_out_shows_in_the_reconciliation() -> None:
    recorded = eager().launch(-50, 77).kernel(GEMM, 150, 50, 77)
    assert any(row.flagged for row in built(recorded).reconciliation)


def test_a_kernel_whose_launch_is_unknown_counts_against_the_coverage() -> None:
    recorded = eager().kernel("mystery", 170, 30, 999)
    found = attribute(recorded.parsed())
    assert next(row for row in tables.coverage(found.ran) if row.level == "stage").share == pytest.approx(0.7)
    assert tables.stages(found, [], {}, {}, {})[-1].name == UNATTRIBUTED


def test_a_kernel_launched_before_the_window_is_none_of_it() -> None:
    recorded = eager().launch(-20, 50).kernel("before", 1, 9, 50)
    assert "before" not in by_name(attribute(recorded.parsed()))


def test_a_kernel_without_a_recorded_launch_is_found_by_its_ops_number() -> None:
    recorded = eager().add("kernel", "by_number", 190, 5, correlation=77, stream=7, **{"External id": 3})
    assert by_name(attribute(recorded.parsed()))["by_number"].op == "aten::add"


def test_what_runs_between_two_kernels_of_a_stage_is_of_that_stage() -> None:
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.launch(1, 1).launch(50, 2).launch(110, 3)
    recorded.kernel("a", 5, 5, 1).kernel("between", 20, 5, 901).kernel("b", 60, 5, 2)
    recorded.kernel("at the border", 80, 5, 902).kernel("c", 120, 5, 3)
    stages = {name: ran.stage for name, ran in by_name(attribute(recorded.parsed())).items()}
    assert stages == {"a": "decode", "between": "decode", "b": "decode", "at the border": None, "c": "cfm"}


def test_a_triton_kernel_that_python_launches_has_its_module_and_no_op() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).module("t3.tfmr.norm", 5, 50)
    recorded.launch(10, 1, "cuLaunchKernelEx").kernel("_rms_norm_forward_kernel", 20, 5, 1)
    (ran,) = attribute(recorded.parsed()).ran
    assert (ran.op, ran.module) == (attribution.DIRECT, "t3.tfmr.norm")


def test_a_call_of_the_driver_within_one_of_the_runtime_is_no_second_launch() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).launch(10, 1, length=9.0).launch(12, 2, "cuLaunchKernel")
    assert tables.driver_calls(attribute(recorded.parsed()))["decode"]["launches"] == 1


def test_gaps_belong_to_the_kernel_that_ends_them_and_are_host_bound_until_it_is_launched() -> None:
    found = attribute(eager().parsed())
    (wait,) = timeline.waits(found)
    assert wait.seconds == pytest.approx(30e-6)
    assert wait.after.stage == "cfm"
    assert wait.host_bound_seconds == 0.0, "launched at 115, while the kernel before ran until 120"
    late = Recorded().mark("decode", 0).mark("end", 200).launch(1, 1).kernel("a", 5, 10, 1)
    late.op("aten::item", 20, 60, 5).launch(100, 2, length=5.0).kernel("b", 120, 10, 2)
    waited = timeline.waits(attribute(late.parsed()))
    assert waited[0].host_bound_seconds == pytest.approx(90e-6), "from 15 until the launch returned at 105"
    (gap,) = timeline.largest_gaps(attribute(late.parsed()), waited)
    assert (gap.before, gap.after, gap.host) == ("a", "b", "aten::item")


def test_overlapping_streams_are_busy_once() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).launch(1, 1).launch(4, 2)
    recorded.kernel("a", 10, 40, 1).kernel("b", 20, 10, 2, stream=8)
    found = attribute(recorded.parsed())
    assert timeline.union_seconds(found.ran) == pytest.approx(40e-6)
    assert timeline.waits(found) == []


def test_a_modules_forward_is_cut_where_a_stage_begins_and_counts_once() -> None:
    recorded = Recorded().mark("flow_encoder", 0).mark("cfm", 20).mark("end", 100).module("s3gen.flow.decoder", 10, 80)
    rows = tables.modules(attribute(recorded.parsed()), {"s3gen.flow.decoder": "CausalConditionalCFM"})
    assert {row.stage: row.calls for row in rows} == {"flow_encoder": 0, "cfm": 1}
    seconds = {row.stage: row.total_host_seconds for row in rows}
    assert seconds == pytest.approx({"flow_encoder": 10e-6, "cfm": 70e-6})


def test_calls_of_the_driver_are_counted_by_stage() -> None:
    recorded = eager().launch(40, 5, "cudaStreamSynchronize").launch(45, 6, "cuLaunchKernelEx").launch(
        150, 7, "cudaGraphLaunch"
    )  # fmt: skip
    calls = tables.driver_calls(attribute(recorded.parsed()))
    assert calls["decode"] == {"graph_launches": 0, "launches": 2, "syncs": 1}
    assert calls["cfm"]["graph_launches"] == 1


def test_every_table_adds_up_to_the_raw_intervals() -> None:
    recorded = eager().add("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 180, 4, correlation=105, bytes=4, stream=7)
    recorded.launch(176, 105, "cudaMemcpyAsync").kernel("mystery", 170, 3, 999)
    profile = built(recorded)
    assert {row.table for row in profile.reconciliation} == {"stages", "ops", "modules", "kernels"}
    assert all(row.mismatch < 1e-9 for row in profile.reconciliation)
    assert sum(row.seconds for row in profile.families) == pytest.approx(77e-6)
    off = profile_rows.Reconciliation("ops", 0.97, 1.0)
    assert off.flagged
    assert not profile_rows.Reconciliation("ops", 0.99, 1.0).flagged


def built(recorded: Recorded, twin: Recorded | None = None, **changes: Any) -> Profile:
    header = profiles.Header(
        "s", "upstream", {}, "chatterbox", "tiny", "cuda:0", "GPU", {},
        profiles.Window(1, 2, 1, 1.0), 2e-4, (1e-4,),
    )  # fmt: skip
    ceilings = Ceilings(1e12, {"fp32": 1e13, "bf16": 1e14})
    recording = Recording(
        header,
        recorded.parsed(),
        {"decode": 5e-5, "cfm": 5e-5},
        {"t3.tfmr": "M"},
        twin=twin.parsed() if twin else None,
        ceilings=ceilings,
    )
    return build(replace(recording, **changes))


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("sm90_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize64", "fp32"),
        ("sm80_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw", "tf32"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64>(Params)", "tf32"),
    ],
)
def test_fp32_that_is_multiplied_as_tf32_is_held_against_tf32(kernel: str, precision: str) -> None:
    cost = costs.Cost(8.0, 4.0, "fp32", product=True)
    assert cost.in_precision_of(kernel).dtype == precision
    assert replace(cost, dtype="bf16").in_precision_of(kernel).dtype == "bf16"
    assert replace(cost, product=False).in_precision_of(kernel).dtype == "fp32"


def test_a_profile_reads_back_as_it_was_written(tmp_path: Path) -> None:
    profile = built(eager())
    profiles.write(tmp_path, profile)
    assert profiles.read(tmp_path) == profile


def test_flames_hold_all_the_time_there_is() -> None:
    found = flames.flames(attribute(eager().parsed()))
    host = [flame for flame in found if flame.kind == "host"]
    assert sum(flame.microseconds for flame in host) == pytest.approx(200)
    device = {flame.path: flame.microseconds for flame in found if flame.kind == "device"}
    assert device["decode", "t3", "tfmr", "layers.*", "mlp", "aten::mm", GEMM] == pytest.approx(60)
    text = profile_files.collapsed(found, "device")
    assert f"decode;t3;tfmr;layers.*;mlp;aten::mm;{GEMM} 60\n" in text


def test_a_path_that_is_not_kept_is_counted_at_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flames, "PATHS_MAX", 2)
    kept = flames._kept("host", {("a",): 5.0, ("a", "b"): 3.0, ("a", "c"): 1.0, ("d", "e"): 0.5})
    assert {flame.path: flame.microseconds for flame in kept} == {("a",): 6e6, ("a", "b"): 3e6, ("d",): 0.5e6}


@pytest.mark.parametrize(
    ("name", "family", "readable"),
    [
        (GEMM, "gemm", GEMM),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64>(Params)", "gemm", "Kernel2"),
        ("void gemv2T_kernel_val<int, int, float, float>(...)", "gemm", "gemv2T_kernel_val"),
        ("fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::Params)", "attention", "fmha_cutlassF"),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>(Params)", "attention", "flash_fwd_kernel"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc", "convolution", "sm80_xmma_fprop"),
        ("void cudnn::ops::nchwToNhwcKernel<float, float, float>(...)", "copy", "nchwToNhwcKernel"),
        ("Memcpy DtoH (Device -> Pageable)", "copy", "Memcpy DtoH"),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<...>", "copy", "CatArrayBatchedCopy"),
        (ADD, "elementwise", "add (elementwise)"),
        ("void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<...>", "sampling", "DeviceRadixSortOnesweepKernel"),
        ("void at::native::sbtopk::gatherTopK<float, unsigned int>", "sampling", "gatherTopK"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>", "reduction",
         "mean (reduce)"),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 8>", "normalization", "softmax"),
        ("void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>", "normalization",
         "vectorized_layer_norm_kernel"),
        ("void regular_fft<256u, EPT<4u>>(kernel_arguments_t)", "fft", "regular_fft"),
        ("_rms_norm_forward_kernel", "triton", "rms norm (Triton)"),
        ("_gate_up_few_rows_kernel", "triton", "gate up few rows (Triton)"),
        ("_sampler_kernel", "triton", "sampler (Triton)"),
        ("triton_poi_fused_mul_silu_3", "elementwise", "mul·silu (fused, Inductor)"),
        ("triton_poi_fused__scaled_dot_product_cudnn_attention_bmm_cat_cos_index_copy_2", "elementwise", "sdpa·cudnn"),
        ("triton_poi_fused__unsafe_view_mm_mul_silu_7", "elementwise", "view·mm·mul·silu (fused, Inductor)"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "normalization", "cast·add·mean·mul·pow·rsqrt"),
        ("triton_tem_fused_mm_7", "gemm", "mm (template, Inductor)"),
        ("something_never_seen", "other", "something_never_seen"),
    ],
)  # fmt: skip
def test_kernels_are_told_by_their_names(name: str, family: str, readable: str) -> None:
    assert families.family(name) == family
    assert families.family(name) in profile_rows.FAMILIES
    assert families.readable(name).startswith(readable)


def test_our_triton_kernels_are_all_known() -> None:
    import re

    folder = Path(__file__).parents[1] / "optimizations" / "kernels"
    found = [name for file in folder.glob("*.py") for name in re.findall(r"def (_\w+_kernel)\(", file.read_text())]
    assert len(found) == len(set(found)) >= 8
    assert {families.family(name) for name in found} == {"triton"}


FLOAT = "float"


def op(name: str, *shapes: list[int], dtype: str = FLOAT, values: Iterable[str] = ()) -> Host:
    return Host(trace.OP, name, 0, 1, shapes=shapes, dtypes=(dtype,) * len(shapes), values=tuple(values))


def test_products_are_counted_exactly() -> None:
    found = costs.of_op(op("aten::addmm", [32], [8, 64], [64, 32], dtype="c10::BFloat16"))
    assert found == costs.Cost((32 + 8 * 64 + 64 * 32 + 8 * 32) * 2, 2 * 8 * 64 * 32, "bf16", product=True)
    batched = costs.of_op(op("aten::bmm", [4, 8, 16], [4, 16, 32]))
    assert batched is not None
    assert batched.operations == 2 * 4 * 8 * 16 * 32
    assert costs.of_op(Host(trace.OP, "aten::mm", 0, 1)) is None, "no shapes were recorded"


def test_what_torch_counts_we_count() -> None:
    """A convolution, products and attention as they are dispatched, against PyTorch's own counter."""
    import torch
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from ttsbench.profiling import collect

    conv, q = torch.nn.Conv1d(8, 6, 5, stride=2, padding=3, dilation=2), torch.randn(2, 3, 20, 16)

    def work() -> None:
        with torch.inference_mode(), torch.profiler.record_function(MARK + "decode"):
            conv(torch.randn(2, 8, 50))
            functional.linear(torch.randn(7, 9), torch.randn(5, 9), torch.randn(5))
            with sdpa_kernel([SDPBackend.MATH]):
                functional.scaled_dot_product_attention(q, q[:, :, :10], q[:, :, :10])
        with torch.profiler.record_function(MARK + "end"):
            pass

    found = trace.parse(collect.profiled(torch.device("cpu"), work, record_shapes=True))
    known = [cost for event in found.host if (cost := costs.of_op(event)) is not None]
    with FlopCounterMode(display=False) as counter:
        work()
    assert sum(cost.operations for cost in known if cost.product) == counter.get_total_flops()


def test_the_gpus_own_ops_are_counted_like_the_ones_that_stand_for_them() -> None:
    # As torch.utils.flop_counter has it for conv_transpose1d of (2, 6, 24) with (6, 4, 4), stride 2, padding 1.
    values = ("", "", "[0, 1]", "[0, 0]", "[1, 2]", "[1, 1]")
    transposed = costs.of_op(op("aten::cudnn_convolution_transpose", [2, 6, 1, 24], [6, 4, 1, 4], values=values))
    assert transposed is not None
    assert transposed.operations == 9216
    assert transposed.bytes == 4 * (2 * 6 * 24 + 6 * 4 * 4 + 2 * 4 * 48)
    outer = op("aten::_scaled_dot_product_efficient_attention", [2, 3, 20, 16], [2, 3, 10, 16], [2, 3, 10, 16])
    inner = op("aten::_efficient_attention_forward", [2, 20, 3, 16], [2, 10, 3, 16], [2, 10, 3, 16])
    assert costs.of_op(outer) == costs.of_op(inner)
    attention = costs.of_op(outer)
    assert attention is not None
    assert attention.operations == 2 * 2 * 3 * 20 * 10 * 32


def test_what_is_no_product_moves_its_tensors_once() -> None:
    added = costs.of_op(op("aten::add", [8, 1, 64], [1, 16, 64]))
    assert added is not None
    assert (added.bytes, added.operations, added.product) == (4 * (8 * 64 + 16 * 64 + 8 * 16 * 64), 8 * 16 * 64, False)
    copied = costs.of_op(op("aten::copy_", [100], [100]))
    assert copied is not None
    assert copied.bytes == 800
    assert costs.of_copy("Memcpy HtoD (Pageable -> Device)", 100) is None
    assert costs.of_copy("Memcpy DtoD (Device -> Device)", 100) == costs.Cost(200.0, 0.0, "fp32")


def test_ops_agree_with_key_averages() -> None:
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from ttsbench.profiling import collect

    module = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.LayerNorm(16))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        with record_function(MARK + "decode"):
            pass
        for _ in range(3):
            module(torch.randn(4, 16)).softmax(-1).cumsum(0)
        with record_function(MARK + "end"):
            pass
    ours = {row.name: row for row in tables.ops(attribute(trace.parse(collect.export(profiler))))}
    theirs = {row.key: row for row in profiler.key_averages() if row.key.startswith("aten::")}
    assert set(ours) == set(theirs)
    for name, row in theirs.items():
        assert ours[name].calls == row.count
        assert ours[name].self_host_seconds == pytest.approx(row.self_cpu_time_total * 1e-6, abs=2e-6)
        assert ours[name].total_host_seconds == pytest.approx(row.cpu_time_total * 1e-6, abs=2e-6)


def test_an_op_that_calls_itself_is_one_call() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).op("aten::sort", 10, 40).op("aten::sort", 15, 30)
    (row,) = tables.ops(attribute(recorded.parsed()))
    assert (row.calls, row.stages) == (1, {"decode": 1})
    assert row.self_host_seconds == row.total_host_seconds == pytest.approx(40e-6)


def test_the_roofline_knows_its_floors() -> None:
    profile = built(eager())
    assert profile.roofline is not None
    points = {point.name: point for point in profile.roofline.points if point.kind == "stage"}
    gemm_bytes, gemm_operations = (2 * 64 + 64 * 32 + 2 * 32) * 4, 2 * 2 * 64 * 32
    assert (points["decode"].bytes, points["decode"].operations) == (gemm_bytes, gemm_operations)
    assert points["decode"].floor_seconds == pytest.approx(gemm_bytes / 1e12)
    assert points["decode"].bound == "memory"
    assert points["decode"].measured_seconds == pytest.approx(60e-6)
    plain = built(eager(), unprofiled_device={"decode": 80e-6}).roofline
    assert plain is not None
    assert plain.points[0].measured_seconds == 80e-6
    assert "cfm" not in points, "an addition alone needs nothing that fusion would not save"
    assert roofline.rate(Ceilings(1.0, {"fp32": 2.0}), "fp64") == 2.0


def test_the_allocators_history_becomes_a_timeline_and_a_breakdown() -> None:
    def event(action: str, size: int, at: int) -> Event:
        return {"action": action, "size": size, "time_us": at, "addr": 0}

    snapshot = {
        "segments": [
            {"total_size": 1000, "allocated_size": 900, "segment_pool_id": (0, 0)},
            {"total_size": 300, "allocated_size": 40, "segment_pool_id": (0, 1)},
        ],
        "device_traces": [
            [event("alloc", 50, 5), event("alloc", 200, 15), event("free_requested", 200, 17),
             event("free_completed", 200, 18), event("alloc", 100, 25), event("segment_alloc", 999, 26)],
        ],
    }  # fmt: skip
    marks = [(10.0, "prefill"), (20.0, "decode"), (30.0, "end")]
    found = memory.from_snapshot(snapshot, marks, allocated_bytes=600, weights_bytes=400, kv_cache_bytes=50)
    assert found.peak_bytes == 800
    assert found.stage_peaks == {"prefill": 800, "decode": 700}
    parts = {part.name: part.bytes for part in found.breakdown}
    assert parts == {"weights": 400, "kv_cache": 50, "graph_pools": 300, "activations": 310}
    assert found.reserved_bytes == 1300


def test_a_long_timeline_keeps_its_peaks() -> None:
    changes = [(float(moment), 1 if moment % 2 else -1) for moment in range(1, 10_000)]
    changes[5000] = (5001.0, 5000)
    found = memory.from_changes(changes, [(0.0, "decode"), (2e4, "end")], weights_bytes=10, kv_cache_bytes=None)
    assert len(found.timeline) <= profile_rows.POINTS_MAX
    assert max(point.allocated_bytes for point in found.timeline) == found.peak_bytes > 5000


def long_trace() -> dict[str, Any]:
    recorded = Recorded().add("user_annotation", "ProfilerStep#1", 0, 20_000).mark("decode", 1)
    for number in range(4000):
        recorded.op(f"aten::{'xyz'[number % 3] * (number % 37)}{hash(str(number))}", 2 + number * 4, 3)
    recorded.events.append({"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}})
    return recorded.mark("end", 19_000).chrome


def test_a_trace_that_is_too_large_is_cut_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    assert chrome.write(long_trace(), path) == ""
    whole = path.stat().st_size
    note = chrome.write(long_trace(), path, bytes_max=whole // 3)
    assert "cut" in note
    assert path.stat().st_size <= whole // 3
    kept = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert 500 < len(kept) < 3000
    step = next(event for event in kept if event["name"].startswith("ProfilerStep#"))
    last = max(event["ts"] + event["dur"] for event in kept if event["ph"] == "X")
    assert step["ts"] + step["dur"] == last < 19_000
    assert any(event["ph"] == "M" for event in kept)


def test_without_room_no_half_of_a_trace_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", half_written)
    with pytest.raises(OSError, match="No space left"):
        chrome.write(eager().chrome, tmp_path / "trace.json.gz")
    assert list(tmp_path.iterdir()) == []


def half_written(path: Path, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError(28, "No space left on device", str(path))


Change = Callable[[Profile], Profile]


def upstream() -> Profile:
    """A profile with every fault."""
    stage: dict[str, Any] = {"wall_seconds": 0.2, "idle_seconds": 0.1, "host_bound_seconds": 0.1}
    masks = profile_rows.ShapeCost(
        "[2, 8, 564, 64] [2, 8, 564, 64] [2, 8, 564, 64] [2, 8, 1, 564]", 140, 0.1, 0.1, "cfm"
    )
    return replace(
        built(eager()),
        header=replace(
            built(eager()).header,
            window=profiles.Window(
                1, 32, 1, 1.28, prompt_frames=500, speech_frames=64, hooks_before=3, hooks_after=12, calls_between=3
            ),
        ),
        stages=(
            profile_rows.Stage("decode", unprofiled_wall_seconds=0.5, share=0.5, **stage),
            profile_rows.Stage("cfm", unprofiled_wall_seconds=0.3, share=0.3, syncs=144, **stage),
            profile_rows.Stage("vocoder", unprofiled_wall_seconds=0.1, share=0.1, **stage),
            profile_rows.Stage("watermark", wall_seconds=0.1, unprofiled_wall_seconds=0.1, share=0.1),
        ),
        ops=(
            profile_rows.Op("aten::sort", 32, 0.1, 0.1, stages={"decode": 32}),
            profile_rows.Op("aten::_local_scalar_dense", 176, 0.1, 0.1, stages={"decode": 32, "cfm": 144}),
            profile_rows.Op("aten::_weight_norm_interface", 82, 0.1, 0.1, stages={"vocoder": 82}),
            profile_rows.Op("aten::scaled_dot_product_attention", 140, 0.1, 0.1, shapes=(masks,), stages={"cfm": 140}),
        ),
        decode=profile_rows.DecodeSteps(32, 0.025, 0.018, 0.005, 0.013, 0.012, 1290, 0, 1, 1, 1290, 1290, 1000),
    )


def without_op(name: str) -> Change:
    return lambda profile: replace(profile, ops=tuple(row for row in profile.ops if row.name != name))


def with_step(**changes: Any) -> Change:
    def change(profile: Profile) -> Profile:
        assert profile.decode is not None
        return replace(profile, decode=replace(profile.decode, **changes))

    return change


def with_window(**changes: int) -> Change:
    return lambda profile: replace(
        profile, header=replace(profile.header, window=replace(profile.header.window, **changes))
    )


def with_stage(name: str, **changes: Any) -> Change:
    return lambda profile: replace(
        profile, stages=tuple(replace(row, **changes) if row.name == name else row for row in profile.stages)
    )


REMEDIES: dict[str, Change] = {
    "launch_bound_decode": with_step(launches=3, graph_launches=1),
    "sync_per_step": with_step(syncs=0.25),
    "full_sort": without_op("aten::sort"),
    "mask_syncs": without_op("aten::_local_scalar_dense"),
    "dense_mask": without_op("aten::scaled_dot_product_attention"),
    "weight_norm_recomputed": without_op("aten::_weight_norm_interface"),
    "prompt_tax": with_window(prompt_frames=100, speech_frames=500),
    "watermark_on_host": with_stage("watermark", kernels=40),
    "hooks_growing": with_window(hooks_after=3),
}


def test_every_fault_is_found_and_each_has_a_remedy_here() -> None:
    found, looked_for = findings.find(upstream())
    assert {finding.id for finding in found} == set(looked_for) == set(REMEDIES)
    assert all(finding.evidence and finding.advice and finding.headline for finding in found)
    shares = [finding.share or 0.0 for finding in found]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("fault", list(REMEDIES))
def test_a_fault_that_is_mended_is_found_no_more_and_the_others_are(fault: str) -> None:
    found, looked_for = findings.find(REMEDIES[fault](upstream()))
    assert {finding.id for finding in found} == set(REMEDIES) - {fault}
    assert fault in looked_for


def test_a_mask_that_each_query_has_of_its_own_is_dense_too_and_none_is_not() -> None:
    assert findings._has_dense_mask("[2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 9]")
    assert not findings._has_dense_mask("[2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 64]")
    assert not findings._has_dense_mask("")


def test_a_busy_gpu_is_not_bound_by_launches() -> None:
    found, _ = findings.find(with_step(busy_seconds=0.012)(upstream()))
    assert "launch_bound_decode" not in {finding.id for finding in found}


def test_of_a_cpu_nobody_asks_what_the_gpu_waited_for() -> None:
    profile = upstream()
    _, looked_for = findings.find(replace(profile, header=replace(profile.header, device="cpu")))
    assert not {"launch_bound_decode", "sync_per_step", "watermark_on_host"} & set(looked_for)


def test_tables_are_files_with_a_line_for_each_row() -> None:
    found = profile_files.files(built(eager()))
    rows = list(csv.DictReader(io.StringIO(found["kernels.csv"].decode())))
    assert [(row["name"], row["stage"], row["family"], row["launches"]) for row in rows] == [
        (GEMM, "decode", "gemm", "1"), (ADD, "cfm", "elementwise", "1"),
    ]  # fmt: skip
    shapes = list(csv.DictReader(io.StringIO(found["ops_by_shape.csv"].decode())))
    assert {"op": "aten::mm", "shapes": "[2, 64] [64, 32]"}.items() <= shapes[0].items()
    assert {"stages.csv", "ops.csv", "modules.csv", "families.csv", "decode.csv", "roofline.csv", "coverage.csv",
            "reconciliation.csv", "gaps.csv", "stacks-host.txt", "stacks-device.txt"} <= set(found)  # fmt: skip
    assert "memory.csv" not in found


def test_parquet_holds_the_same_rows_with_their_types() -> None:
    pandas = pytest.importorskip("pandas")
    found = profile_files.files(built(eager()))
    tables = {name.removesuffix(".csv") for name in found if name.endswith(".csv")}
    assert {f"{name}.parquet" for name in tables} <= set(found)
    for name in tables:
        typed = pandas.read_parquet(io.BytesIO(found[f"{name}.parquet"]))
        plain = list(csv.reader(io.StringIO(found[f"{name}.csv"].decode())))
        assert (list(typed.columns), len(typed)) == (plain[0], len(plain) - 1)
    kernels = pandas.read_parquet(io.BytesIO(found["kernels.parquet"]))
    assert kernels["seconds"].dtype == float
    assert list(kernels["name"]) == [GEMM, ADD]


def test_the_summary_fits_a_terminal_and_says_what_to_change() -> None:
    profile = upstream()
    profile = replace(profile, findings=findings.find(profile)[0])
    told = "\n".join(
        [*profile_summary.lede(profile), *profile_summary.decode(profile), *profile_summary.findings(profile)]
    )
    assert "×2.00" in told
    assert "decode: cuda_graph" in told
    widest = profile_summary.stages(profile)
    assert max(sum(len(cell) + 1 for cell in row) for row in (widest.columns, *widest.rows)) <= 80
    off = replace(profile, reconciliation=(profile_rows.Reconciliation("ops", 0.9, 1.0),))
    assert "The table ops differs from the raw intervals by 10.0%" in "\n".join(profile_summary.cautions(off))
