"""What kernels and ops are, what they must move and multiply, and so the floors under them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from recorded_traces import ADD, GEMM, built, eager
from ttsbench.profiling import costs, families, roofline, trace
from ttsbench.profiling.trace import MARK, Host
from ttsbench.records import profile_rows
from ttsbench.records.profile_rows import Ceilings


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

    folder = Path(__file__).parents[2] / "optimizations" / "kernels"
    result = [name for file in folder.glob("*.py") for name in re.findall(r"def (_\w+_kernel)\(", file.read_text())]
    assert len(result) == len(set(result)) >= 8
    assert {families.family(name) for name in result} == {"triton"}


FLOAT = "float"


def op(name: str, *shapes: list[int], dtype: str = FLOAT, values: Iterable[str] = ()) -> Host:
    return Host(trace.OP, name, 0, 1, shapes=shapes, dtypes=(dtype,) * len(shapes), values=tuple(values))


def test_products_are_counted_exactly() -> None:
    result = costs.of_op(op("aten::addmm", [32], [8, 64], [64, 32], dtype="c10::BFloat16"))
    assert result == costs.Cost((32 + 8 * 64 + 64 * 32 + 8 * 32) * 2, 2 * 8 * 64 * 32, "bf16", product=True)
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

    result = trace.parse(collect.profiled(torch.device("cpu"), work, record_shapes=True))
    known = [cost for event in result.host if (cost := costs.of_op(event)) is not None]
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
