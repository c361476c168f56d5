"""The kernels of S3Gen's estimator against float64, natively on a GPU and under Triton's interpreter elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ttsbench.optimizations.kernels import flow_attention, flow_conv, flow_norm
from ttsbench.optimizations.kernels.flow_attention import flow_attention_reference
from ttsbench.optimizations.kernels.flow_conv import flow_conv_reference
from ttsbench.optimizations.kernels.flow_linear import (
    NormedWeight,
    Residual,
    add_linear,
    add_linear_reference,
    norm_linear,
    norm_linear_reference,
)
from ttsbench.optimizations.kernels.flow_norm import PART, RowStats, flow_norm_reference, row_stats
from ttsbench.running import host

DEVICE = "cpu" if host.machine().cuda_problem else "cuda"
# Of ‖out − reference‖ over ‖reference‖. The interpreter cuts bf16 instead of rounding.
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

Make = Callable[..., torch.Tensor]
pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.fixture
def without_gradients() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture
def make() -> Make:
    """Normal tensors, fresh on each call, the same in each run."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE, dtype)

    return tensor


def off_by(result: torch.Tensor, exact: torch.Tensor) -> float:
    assert result.shape == exact.shape
    return float((result.double() - exact).norm() / exact.norm())


def wide(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.double() for tensor in tensors]


def check_stats(stats: RowStats, x: torch.Tensor) -> None:
    torch.testing.assert_close(stats.values, row_stats(x).values, rtol=1e-4, atol=1e-4)


@DTYPES
@pytest.mark.parametrize(("rows", "depth", "width"), [(1, 64, 64), (19, 70, 67), (130, 257, 131), (3, 5, 1)])
def test_a_norm_in_the_product_is_a_norm_before_it(
    make: Make, rows: int, depth: int, width: int, dtype: torch.dtype
) -> None:
    x, weight = make(rows, depth, dtype=dtype), (make(width, depth) / depth**0.5).to(dtype)
    bias, scale, shift = make(width, dtype=dtype), make(depth, dtype=dtype), make(depth, dtype=dtype)
    folded = NormedWeight.of(weight, bias, (scale, shift))
    result = norm_linear(x, row_stats(x), folded, gelu=True)
    assert result.dtype == dtype
    assert off_by(result, norm_linear_reference(*wide(x, weight, bias, scale, shift))) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rows_far_from_zero_lose_no_digits_in_the_product(make: Make, dtype: torch.dtype) -> None:
    """Rows 30 times as far from zero as they are wide: what the norm leaves of them is what remains after a mean."""
    x, weight = (make(40, 128) + 30).to(dtype), (make(48, 128) / 11).to(dtype)
    scale, shift = make(128, dtype=dtype), make(128, dtype=dtype)
    result = norm_linear(x, row_stats(x), NormedWeight.of(weight, None, (scale, shift)), gelu=True)
    exact = norm_linear_reference(*wide(x, weight, torch.zeros_like(weight[:, 0]), scale, shift))
    assert off_by(result, exact) < TOLERANCE[dtype]


@DTYPES
@pytest.mark.parametrize(("rows", "depth", "width"), [(1, 64, 64), (19, 70, 67), (70, 130, 131), (3, 5, 1)])
def test_a_sum_comes_with_its_rows_means_and_squares(
    make: Make, rows: int, depth: int, width: int, dtype: torch.dtype
) -> None:
    x, weight, bias = make(rows, depth, dtype=dtype), (make(width, depth) / depth**0.5).to(dtype), make(width)
    bias, around = bias.to(dtype), make(rows, width, dtype=dtype)
    scale, shift = make(width, dtype=dtype), make(width, dtype=dtype)
    total, stats = add_linear(x, weight, bias, Residual(around))
    assert off_by(total, add_linear_reference(*wide(x, weight, bias, around))) < TOLERANCE[dtype]
    check_stats(stats, total)
    total, stats = add_linear(x, weight, bias, Residual(around, row_stats(around), (scale, shift)))
    assert off_by(total, add_linear_reference(*wide(x, weight, bias, around, scale, shift))) < TOLERANCE[dtype]
    check_stats(stats, total)


def test_products_read_slices_where_they_lie(make: Make) -> None:
    x, weight, bias = make(6, 3, 80)[:, 1, 7:71], make(10, 70)[:, :64], make(20)[::2]
    around = make(6, 30)[:, 3:13]
    total, _ = add_linear(x, weight, bias, Residual(around))
    assert off_by(total, add_linear_reference(*wide(x, weight, bias, around))) < 1e-5


@DTYPES
@pytest.mark.parametrize(
    ("rows", "frames", "depth", "width"), [(1, 1, 64, 64), (2, 19, 70, 67), (3, 2, 5, 130), (1, 200, 16, 3)]
)
def test_a_convolution_looks_back_and_into_no_other_row(
    make: Make, rows: int, frames: int, depth: int, width: int, dtype: torch.dtype
) -> None:
    x, bias = make(rows, frames, depth, dtype=dtype), make(width, dtype=dtype)
    weight = (make(width, 3, depth) / (3 * depth) ** 0.5).to(dtype)
    result, stats = flow_conv.flow_conv(x, weight, bias)
    assert off_by(result, flow_conv_reference(*wide(x, weight, bias))) < TOLERANCE[dtype]
    check_stats(stats, result)
    later = x.clone()
    later[:, frames // 2 + 1 :] = float("nan")
    before = flow_conv.flow_conv(later, weight, bias)[0][:, : frames // 2 + 1]
    assert torch.equal(before, result[:, : frames // 2 + 1])


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 19, 67), (3, 5, 256), (2, 3, 1500)])
def test_norm_mish_and_time(make: Make, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    x, norm = make(*shape, dtype=dtype) * 4, (make(shape[2], dtype=dtype), make(shape[2], dtype=dtype))
    for time in (None, make(shape[0], shape[2], dtype=dtype), make(1, 2 * shape[2], dtype=dtype)[:, ::2]):
        times = [] if time is None else wide(time)
        exact = flow_norm_reference(x.double(), (norm[0].double(), norm[1].double()), *times)
        assert off_by(flow_norm.flow_norm(x, norm, time), exact) < TOLERANCE[dtype]


def test_mish_of_large_values_is_the_value() -> None:
    x = torch.tensor([-200.0, -1.0, 1.0, 200.0], device=DEVICE).view(1, 1, 4)
    norm = (torch.full((4,), 1e3, device=DEVICE), torch.zeros(4, device=DEVICE))
    exact = flow_norm_reference(x.double(), (norm[0].double(), norm[1].double()))
    torch.testing.assert_close(flow_norm.flow_norm(x, norm).double(), exact, rtol=1e-5, atol=1e-5)


@DTYPES
@pytest.mark.parametrize(
    ("rows", "frames", "heads", "channels"), [(1, 1, 1, 64), (2, 70, 3, 24), (3, 129, 2, 64), (1, 64, 1, 7)]
)
def test_attention_of_one_products_parts(
    make: Make, rows: int, frames: int, heads: int, channels: int, dtype: torch.dtype
) -> None:
    query, key, value = make(rows, frames, 3, heads, channels, dtype=dtype).unbind(2)
    lengths = torch.tensor([max(1, frames - 13 * row) for row in range(rows)], dtype=torch.int32, device=DEVICE)
    wide_query, wide_key, wide_value = wide(query, key, value)
    exact = flow_attention_reference(wide_query, wide_key, wide_value, lengths)
    result = flow_attention.flow_attention(query, key, value, lengths)
    assert off_by(result, exact) < TOLERANCE[dtype]
    everything = torch.full_like(lengths, frames)
    exact = flow_attention_reference(wide_query, wide_key, wide_value, everything)
    assert off_by(flow_attention.flow_attention(query, key, value), exact) < TOLERANCE[dtype]
    # What stands in the padding reaches nobody, whatever it is.
    for row, length in enumerate(lengths.tolist()):
        key[row, length:], value[row, length:] = float("nan"), float("nan")
    assert torch.equal(flow_attention.flow_attention(query, key, value, lengths), result)


def test_nothing_in_nothing_out(make: Make) -> None:
    assert add_linear(make(0, 16), make(4, 16), make(4), Residual(make(0, 4)))[0].shape == (0, 4)
    assert flow_conv.flow_conv(make(0, 3, 16), make(4, 3, 16), make(4))[0].shape == (0, 3, 4)
    assert flow_norm.flow_norm(make(2, 0, 16), (make(16), make(16))).shape == (2, 0, 16)
    nothing = make(1, 0, 2, 8)
    assert flow_attention.flow_attention(nothing, nothing, nothing).shape == nothing.shape


def test_unlike_inputs_are_refused(make: Make) -> None:
    x, weight, bias = make(3, 16), make(4, 16), make(4)
    with pytest.raises(ValueError, match="not as wide"):
        add_linear(make(3, 15), weight, bias, Residual(make(3, 4)))
    with pytest.raises(ValueError, match="not shaped"):
        add_linear(x, weight, bias, Residual(make(3, 5)))
    with pytest.raises(ValueError, match="differ in dtype"):
        add_linear(x, weight.half(), bias, Residual(make(3, 4)))
    folded = NormedWeight.of(weight, None, (make(16), make(16)))
    for stats in (row_stats(make(2, 16)), row_stats(make(3, PART + 1))):
        with pytest.raises(ValueError, match="stats are of other rows"):
            norm_linear(x, stats, folded)
    with pytest.raises(ValueError, match="3 taps"):
        flow_conv.flow_conv(make(1, 3, 16), make(4, 2, 16), bias)
    with pytest.raises(ValueError, match="time's rows"):
        flow_norm.flow_norm(make(3, 2, 4), (bias, bias), make(2, 4))
    heads = make(2, 3, 1, 8)
    with pytest.raises(ValueError, match="one length"):
        flow_attention.flow_attention(heads, heads, heads, torch.ones(3, dtype=torch.int32))


@torch.inference_mode(mode=False)
def test_a_wanted_gradient_is_refused_instead_of_lost(make: Make) -> None:
    with torch.enable_grad():
        x = make(3, 16).clone().requires_grad_()
        with pytest.raises(RuntimeError, match="flow_linear has no backward pass"):
            add_linear(x, make(4, 16), make(4), Residual(make(3, 4)))
