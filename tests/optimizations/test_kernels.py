"""Kernels against float64, natively where there is a GPU and under Triton's interpreter elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from ttsbench.optimizations.kernels import sampler
from ttsbench.optimizations.kernels.few_rows import few_rows, few_rows_reference
from ttsbench.optimizations.kernels.gate_up import fp32_products, gate_up, gate_up_reference
from ttsbench.optimizations.kernels.rms_norm import (
    add_rms_norm,
    add_rms_norm_reference,
    rms_norm,
    rms_norm_reference,
)
from ttsbench.optimizations.kernels.rope import rope, rope_reference
from ttsbench.optimizations.kernels.silu_mul import silu_mul, silu_mul_reference
from ttsbench.optimizations.kernels.step_attention import step_attention, step_attention_reference
from ttsbench.running import host

DEVICE = "cpu" if host.machine().cuda_problem else "cuda"
# Of ‖out − reference‖ over ‖reference‖: one rounding of the result. The interpreter cuts bf16 instead of rounding.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3 if DEVICE == "cuda" else 8e-3}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)

Make = Callable[..., torch.Tensor]


@pytest.fixture
def make() -> Make:
    """Normal tensors, fresh on each call, the same in each run."""
    generator = torch.Generator().manual_seed(0)

    def tensor(*shape: int, dtype: torch.dtype = torch.float32, grad: bool = False) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_(grad)

    return tensor


def assert_close(
    result: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype, tolerances: dict[torch.dtype, float] = TOLERANCE
) -> None:
    """Against a reference computed in float64 from the very same inputs."""
    assert result.dtype == dtype
    assert result.shape == exact.shape
    assert exact.dtype == torch.float64
    error = (result.double() - exact).norm() / exact.norm().clamp_min(1e-300)
    assert error <= tolerances[dtype], f"off by {error:.2e}"


def wide(*tensors: torch.Tensor) -> list[Any]:
    """In float64, with gradients where the originals have them."""
    return [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in tensors]


def gradients(outputs: Any, inputs: list[torch.Tensor], weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Of the weighted sum of the outputs."""
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = sum((o * w.to(o.dtype)).sum() for o, w in zip(outputs, weights, strict=True))
    assert isinstance(total, torch.Tensor)
    return torch.autograd.grad(total, inputs)


class TestSiluMul:
    @DTYPES
    @pytest.mark.parametrize("shape", [(1,), (3, 257), (2, 5, 64), (1, 2049)])
    def test_agrees_with_float64(self, make: Make, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        gate, up = make(*shape, dtype=dtype), make(*shape, dtype=dtype)
        assert_close(silu_mul(gate, up), silu_mul_reference(*wide(gate, up)), dtype)

    def test_reads_halves_transposes_and_every_second_value_where_they_lie(self, make: Make) -> None:
        halves = make(2, 3, 130)
        for gate, up in (
            halves.chunk(2, dim=-1),
            (make(7, 5).t(), make(5, 7)),
            (make(4, 22)[:, ::2], make(4, 11).expand(4, 11)),
            (make(1, 9).expand(6, 9), make(6, 9)),
        ):
            assert_close(silu_mul(gate, up), silu_mul_reference(*wide(gate, up)), torch.float32)

    @pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0,)])
    def test_nothing_in_nothing_out(self, make: Make, shape: tuple[int, ...]) -> None:
        assert silu_mul(make(*shape), make(*shape)).shape == shape

    @DTYPES
    def test_gradients_agree_with_float64(self, make: Make, dtype: torch.dtype) -> None:
        inputs = [make(3, 77, dtype=dtype, grad=True), make(3, 77, dtype=dtype, grad=True)]
        weights, exact = [make(3, 77, dtype=dtype)], wide(*inputs)
        result = gradients(silu_mul(*inputs), inputs, weights)
        for item, other in zip(result, gradients(silu_mul_reference(*exact), exact, weights), strict=True):
            assert_close(item, other, dtype)

    def test_a_gradient_of_one_repeated_value_is_read_as_such(self, make: Make) -> None:
        gate, up = make(3, 10, grad=True), make(3, 10, grad=True)
        exact = wide(gate, up)
        (result,) = torch.autograd.grad(silu_mul(gate, up).sum(), [gate])
        (expected,) = torch.autograd.grad(silu_mul_reference(*exact).sum(), [exact[0]])
        assert_close(result, expected, torch.float32)

    def test_large_values_do_not_overflow(self) -> None:
        gate = torch.tensor([-200.0, -90.0, 0.0, 90.0, 200.0], device=DEVICE)
        assert silu_mul(gate, torch.ones_like(gate)).tolist() == [0.0, 0.0, 0.0, 90.0, 200.0]

    def test_unlike_inputs_are_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="differ in shape or dtype"):
            silu_mul(make(3, 4), make(3, 5))
        with pytest.raises(ValueError, match="differ in shape or dtype"):
            silu_mul(make(3, 4), make(3, 4, dtype=torch.float16))


class TestGateUp:
    @DTYPES
    @pytest.mark.parametrize(("rows", "depth", "width"), [(1, 96, 33), (2, 64, 7), (7, 130, 5), (19, 70, 131)])
    def test_agrees_with_float64(self, make: Make, rows: int, depth: int, width: int, dtype: torch.dtype) -> None:
        x = make(rows, depth, dtype=dtype)
        weights = [make(width, depth, dtype=dtype) / depth**0.5 for _ in range(2)]
        with torch.inference_mode():
            exact = gate_up_reference(*wide(x, *weights))
        # fp32 as three tf32 products: tensor cores cut where an fp32 addition would round.
        assert_close(gate_up(x, *weights), exact, dtype, {**TOLERANCE, torch.float32: 1e-5})

    @pytest.mark.parametrize("rows", [2, 12])
    def test_reads_slices_where_they_lie(self, make: Make, rows: int) -> None:
        x, fused, last = make(rows, 3, 80)[:, 1, 7:71], make(10, 70)[:, :64], make(64, 5).t()
        for gate, up in ((fused[:5], fused[5:]), (fused[5:], last)):
            assert_close(gate_up(x, gate, up), gate_up_reference(*wide(x, gate, up)), torch.float32)

    def test_keeps_the_leading_dimensions(self, make: Make) -> None:
        assert gate_up(make(2, 1, 16), make(4, 16), make(4, 16)).shape == (2, 1, 4)

    def test_nothing_in_nothing_out(self, make: Make) -> None:
        assert gate_up(make(0, 16), make(4, 16), make(4, 16)).shape == (0, 4)
        assert gate_up(make(2, 16), make(0, 16), make(0, 16)).shape == (2, 0)
        assert gate_up(make(2, 0), make(4, 0), make(4, 0)).tolist() == [[0.0] * 4] * 2

    def test_a_wanted_gradient_is_refused_instead_of_lost(self, make: Make) -> None:
        weight = make(4, 16, grad=True)
        with pytest.raises(RuntimeError, match="gate_up has no backward pass"):
            gate_up(make(2, 16), weight, weight)

    def test_unlike_inputs_are_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="not as wide"):
            gate_up(make(2, 15), make(4, 16), make(4, 16))
        with pytest.raises(ValueError, match="differ in dtype"):
            gate_up(make(2, 16, dtype=torch.bfloat16), make(4, 16), make(4, 16))


class TestFewRows:
    @DTYPES
    @pytest.mark.parametrize(
        ("rows", "depth", "width"), [(1, 96, 33), (2, 1024, 7), (2, 1030, 5), (3, 4096, 2), (8, 130, 70), (9, 64, 3)]
    )
    @torch.inference_mode()
    def test_agrees_with_float64(self, make: Make, rows: int, depth: int, width: int, dtype: torch.dtype) -> None:
        x, weight, bias = make(rows, depth, dtype=dtype), make(width, depth) / depth**0.5, make(width, dtype=dtype)
        for shift in (bias, None):
            exact = few_rows_reference(*wide(x, weight.to(dtype), *(() if shift is None else (shift,))))
            assert_close(few_rows(x, weight.to(dtype), shift), exact, dtype)

    def test_reads_slices_where_they_lie(self, make: Make) -> None:
        x, bias = make(2, 3, 80)[:, 1, 7:71], make(20)[::2]
        for weight in (make(10, 70)[:, :64], make(64, 10).t()):
            assert_close(few_rows(x, weight, bias), few_rows_reference(*wide(x, weight, bias)), torch.float32)

    def test_keeps_the_leading_dimensions(self, make: Make) -> None:
        assert few_rows(make(2, 1, 16), make(4, 16)).shape == (2, 1, 4)
        assert few_rows(make(5, 7, 16), make(4, 16)).shape == (5, 7, 4)

    def test_nothing_in_nothing_out(self, make: Make) -> None:
        assert few_rows(make(0, 16), make(4, 16)).shape == (0, 4)
        assert few_rows(make(2, 16), make(0, 16)).shape == (2, 0)
        assert few_rows(make(2, 0), make(4, 0), make(4)).shape == (2, 4)

    def test_a_wanted_gradient_is_refused_instead_of_lost(self, make: Make) -> None:
        with pytest.raises(RuntimeError, match="few_rows has no backward pass"):
            few_rows(make(2, 16), make(4, 16, grad=True))

    def test_unlike_inputs_are_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="not as wide"):
            few_rows(make(2, 15), make(4, 16))
        with pytest.raises(ValueError, match="differ in dtype"):
            few_rows(make(2, 16, dtype=torch.bfloat16), make(4, 16))
        with pytest.raises(ValueError, match="bias does not fit"):
            few_rows(make(2, 16), make(4, 16), make(3))


class TestRmsNorm:
    @DTYPES
    @pytest.mark.parametrize("shape", [(1,), (3, 257), (2, 5, 64), (4, 1000)])
    def test_agrees_with_float64(self, make: Make, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        x, weight = make(*shape, dtype=dtype), make(shape[-1], dtype=dtype)
        assert_close(rms_norm(x, weight), exact_norm(*wide(x, weight)), dtype)

    def test_the_reference_is_llamas(self, make: Make) -> None:
        x, module = make(3, 40, dtype=torch.bfloat16), LlamaRMSNorm(40, eps=1e-5).to(DEVICE, torch.bfloat16)
        assert torch.equal(rms_norm_reference(x, module.weight, 1e-5), module(x))

    def test_rows_are_read_where_they_lie(self, make: Make) -> None:
        x, weight = make(4, 3, 50)[:, 1, ::2], make(50)[::2]
        assert_close(rms_norm(x, weight), exact_norm(*wide(x, weight)), torch.float32)
        residual = make(4, 50)[:, 3:28]
        assert_close(add_rms_norm(x, residual, weight)[1], x.double() + residual.double(), torch.float32)

    @DTYPES
    def test_gradients_agree_with_float64(self, make: Make, dtype: torch.dtype) -> None:
        # More rows than programs, so that some sum several.
        inputs: list[Any] = [make(2, 131, 9, dtype=dtype, grad=True), make(9, dtype=dtype, grad=True)]
        weights, exact = [make(2, 131, 9, dtype=dtype)], wide(*inputs)
        result = gradients(rms_norm(*inputs), inputs, weights)
        for item, other in zip(result, gradients(exact_norm(*exact), exact, weights), strict=True):
            assert_close(item, other, dtype)

    @DTYPES
    def test_the_sum_is_that_of_torch_and_its_norm_agrees_with_float64(self, make: Make, dtype: torch.dtype) -> None:
        x, residual, weight = make(3, 65, dtype=dtype), make(3, 65, dtype=dtype), make(65, dtype=dtype)
        normed, total = add_rms_norm(x, residual, weight)
        if dtype != torch.bfloat16 or DEVICE == "cuda":
            assert torch.equal(total, add_rms_norm_reference(x, residual, weight)[1])
        assert_close(total, x.double() + residual.double(), dtype)
        assert_close(normed, exact_norm(*wide(total, weight)), dtype)

    def test_gradients_of_the_sum_and_its_norm_agree_with_float64(self, make: Make) -> None:
        inputs: list[Any] = [make(5, 33, grad=True), make(5, 33, grad=True), make(33, grad=True)]
        weights, exact = [make(5, 33), make(5, 33)], wide(*inputs)
        result = gradients(add_rms_norm(*inputs), inputs, weights)
        total = exact[0] + exact[1]
        for item, other in zip(result, gradients((exact_norm(total, exact[2]), total), exact, weights), strict=True):
            assert_close(item, other, torch.float32)

    def test_nothing_in_nothing_out(self, make: Make) -> None:
        x, weight = make(0, 8, grad=True), make(8, grad=True)
        (gradient,) = torch.autograd.grad(rms_norm(x, weight).sum(), [weight])
        assert gradient.tolist() == [0.0] * 8
        assert [t.shape for t in add_rms_norm(x, x, weight)] == [(0, 8)] * 2

    def test_a_weight_of_another_length_is_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match="not as long"):
            rms_norm(make(3, 8), make(9))


def exact_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """In whatever precision it is given."""
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class TestRope:
    @DTYPES
    @pytest.mark.parametrize(
        ("batch", "q_heads", "k_heads", "length", "head"), [(2, 3, 1, 5, 6), (1, 14, 2, 3, 64), (3, 1, 1, 1, 2)]
    )
    def test_agrees_with_float64(
        self, make: Make, batch: int, q_heads: int, k_heads: int, length: int, head: int, dtype: torch.dtype
    ) -> None:
        q = make(batch, length, q_heads, head, dtype=dtype).transpose(1, 2)
        k = make(batch, k_heads, length, head, dtype=dtype)
        for turns in (1, batch):
            cos, sin = make(turns, length, head, dtype=dtype), make(turns, length, head, dtype=dtype)
            for result, exact in zip(rope(q, k, cos, sin), rope_reference(*wide(q, k, cos, sin)), strict=True):
                assert_close(result, exact, dtype)

    def test_the_reference_is_that_of_transformers(self, make: Make) -> None:
        q, k, cos, sin = make(2, 4, 5, 8), make(2, 2, 5, 8), make(2, 5, 8), make(2, 5, 8)
        for ours, theirs in zip(rope_reference(q, k, cos, sin), apply_rotary_pos_emb(q, k, cos, sin), strict=True):
            assert torch.equal(ours, theirs)

    def test_reads_slices_of_one_projection_where_they_lie(self, make: Make) -> None:
        fused, angles = make(2, 5, 6, 8).transpose(1, 2), make(1, 5, 16)
        q, k, cos, sin = fused[:, :4], fused[:, 4:], angles[..., :8], angles[..., ::2]
        for result, exact in zip(rope(q, k, cos, sin), rope_reference(*wide(q, k, cos, sin)), strict=True):
            assert_close(result, exact, torch.float32)

    def test_nothing_in_nothing_out(self, make: Make) -> None:
        q, k = rope(make(2, 3, 0, 8), make(2, 1, 0, 8), make(1, 0, 8), make(1, 0, 8))
        assert (q.shape, k.shape) == ((2, 3, 0, 8), (2, 1, 0, 8))

    def test_what_does_not_fit_is_refused(self, make: Make) -> None:
        q, angle = make(2, 3, 4, 8), make(1, 4, 8)
        with pytest.raises(ValueError, match="differ in more than their heads"):
            rope(q, make(2, 3, 5, 8), angle, angle)
        with pytest.raises(ValueError, match="cos or sin"):
            rope(q, q, make(3, 4, 8), make(3, 4, 8))
        with pytest.raises(ValueError, match="two halves"):
            rope(make(1, 1, 2, 3), make(1, 1, 2, 3), make(1, 2, 3), make(1, 2, 3))
        with pytest.raises(RuntimeError, match="rope has no backward pass"):
            rope(q.requires_grad_(), q, angle, angle)


class TestStepAttention:
    """Rows of a fused projection, as the backbone gives them, into a cache that is longer than the text."""

    @DTYPES
    @pytest.mark.parametrize(
        ("rows", "heads", "groups", "width", "now"),
        [(2, 2, 2, 64, 0), (2, 4, 2, 64, 1), (1, 14, 2, 64, 300), (2, 2, 2, 64, 256), (3, 3, 1, 6, 513)],
    )
    @pytest.mark.parametrize("turns", [True, False])
    def test_agrees_with_float64(
        self, make: Make, rows: int, heads: int, groups: int, width: int, now: int, turns: bool, dtype: torch.dtype
    ) -> None:
        tensors = self.heads(make(rows, (heads + 2 * groups) * width, dtype=dtype), heads, groups)
        tensors += [make(rows, groups, 600, width, dtype=dtype) for _ in range(2)]
        turn = self.angle(now, width, dtype) if turns else None
        position, scale = torch.tensor([now], device=DEVICE), width**-0.5
        exact_tensors = wide(*tensors)
        exact_turn = None if turn is None else (turn[0].double(), turn[1].double())
        exact = self.run(step_attention_reference, exact_tensors, position, exact_turn, scale)
        result = self.run(step_attention, tensors, position, turn, scale)
        # Keys are rounded before they are attended to, as a later step will find them: one rounding more.
        looser = {kind: 2 * tolerance for kind, tolerance in TOLERANCE.items()}
        assert_close(result, exact, dtype, looser)
        for written, expected in zip(tensors[3:], exact_tensors[3:], strict=True):
            assert_close(written, expected, dtype)

    @DTYPES
    @pytest.mark.parametrize(("heads", "groups", "width"), [(2, 2, 64), (4, 2, 6)])
    @pytest.mark.parametrize("turns", [True, False])
    def test_each_row_may_be_at_a_position_of_its_own(
        self, make: Make, heads: int, groups: int, width: int, turns: bool, dtype: torch.dtype
    ) -> None:
        """What a batch of utterances needs; every row is as it would be alone, its neighbours' cache untouched."""
        places = [513, 0, 300, 1, 511]
        tensors = self.heads(make(len(places), (heads + 2 * groups) * width, dtype=dtype), heads, groups)
        tensors += [make(len(places), groups, 600, width, dtype=dtype) for _ in range(2)]
        angles = [self.angle(now, width, dtype) for now in places]
        turn = (torch.cat([c for c, _ in angles]), torch.cat([s for _, s in angles])) if turns else None
        exact_tensors, exact_turn = wide(*tensors), None if turn is None else (turn[0].double(), turn[1].double())
        apart = [[tensor[row : row + 1].clone() for tensor in tensors] for row in range(len(places))]
        position, scale = torch.tensor(places, device=DEVICE), width**-0.5
        exact = self.run(step_attention_reference, exact_tensors, position, exact_turn, scale)
        result = self.run(step_attention, tensors, position, turn, scale)
        assert_close(result, exact, dtype, {kind: 2 * tolerance for kind, tolerance in TOLERANCE.items()})
        for written, expected in zip(tensors[3:], exact_tensors[3:], strict=True):
            assert_close(written, expected, dtype)
        for row, alone in enumerate(apart):
            own_turn = angles[row] if turns else None
            assert torch.equal(
                self.run(step_attention, alone, position[row : row + 1], own_turn, scale)[0], result[row]
            )
            assert all(torch.equal(tensor[row], own[0]) for tensor, own in zip(tensors[3:], alone[3:], strict=True))

    def test_the_cache_beyond_the_text_is_neither_read_nor_written(self, make: Make) -> None:
        caches = [make(1, 2, 40, 8) for _ in range(2)]
        for cache in caches:
            cache[:, :, 8:] = torch.nan
        tensors = [*self.heads(make(1, 3 * 2 * 8), 2, 2), *caches]
        result = self.run(step_attention, tensors, torch.tensor([7], device=DEVICE), None, 1.0)
        assert result.isfinite().all()
        assert all(cache[:, :, 8:].isnan().all() and cache[:, :, :8].isfinite().all() for cache in caches)

    def test_large_scores_do_not_overflow(self, make: Make) -> None:
        tensors = [*self.heads(make(1, 3 * 2 * 8), 2, 2), *(make(1, 2, 40, 8) for _ in range(2))]
        tensors = [100 * tensor for tensor in tensors]
        position = torch.tensor([30], device=DEVICE)
        exact = self.run(step_attention_reference, wide(*tensors), position, None, 1.0)
        assert_close(self.run(step_attention, tensors, position, None, 1.0), exact, torch.float32)

    def test_nothing_in_nothing_out(self, make: Make) -> None:
        position = torch.tensor([0], device=DEVICE)
        empty, cache = make(0, 2, 1, 8), make(0, 2, 4, 8)
        assert step_attention(empty, empty, empty, cache, cache, position, None, 1.0).shape == (0, 1, 2, 8)

    def test_what_does_not_fit_is_refused(self, make: Make) -> None:
        item, cache, position = make(1, 2, 1, 8), make(1, 2, 4, 8), torch.tensor([0], device=DEVICE)
        with pytest.raises(ValueError, match="more than one position"):
            step_attention(make(1, 2, 3, 8), item, item, cache, cache, position=position, turn=None, scale=1.0)
        with pytest.raises(ValueError, match="does not fit the query"):
            step_attention(item, make(1, 1, 1, 8), item, cache, cache, position=position, turn=None, scale=1.0)
        with pytest.raises(ValueError, match="dtypes differ"):
            step_attention(item, item, item, cache.half(), cache.half(), position=position, turn=None, scale=1.0)
        with pytest.raises(ValueError, match="one position for all rows"):
            step_attention(item, item, item, cache, cache, position=torch.tensor([0, 1]), turn=None, scale=1.0)
        with pytest.raises(ValueError, match="side by side"):
            step_attention(item, item, item, cache.mT.contiguous().mT, cache, position=position, turn=None, scale=1.0)
        with pytest.raises(RuntimeError, match="step_attention has no backward pass"):
            step_attention(item.requires_grad_(), item, item, cache, cache, position=position, turn=None, scale=1.0)

    @staticmethod
    def run(step: Callable[..., Any], tensors: list[Any], *others: Any) -> Any:
        return step(*tensors, *others)

    @staticmethod
    def heads(projected: torch.Tensor, heads: int, groups: int) -> list[Any]:
        width = projected.shape[1] // (heads + 2 * groups)
        of_heads = projected.view(len(projected), 1, -1, width).transpose(1, 2)
        return list(torch.split(of_heads, [heads, groups, groups], dim=1))

    @staticmethod
    def angle(now: int, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        angles = now * 1e4 ** -torch.linspace(0, 1, width // 2).repeat(2)[None, None]
        return angles.cos().to(DEVICE, dtype), angles.sin().to(DEVICE, dtype)


@pytest.mark.gpu
class TestGraphs:
    def capture(self, call: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        call()  # compiles
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
        return graph, result

    def test_a_captured_sampler_follows_new_logits_noise_and_settings(self) -> None:
        logits, race = torch.randn(2, 8194, device="cuda"), torch.empty(2, 8194, device="cuda").exponential_()
        seen = torch.zeros(2, 8194, dtype=torch.bool, device="cuda")
        output, token = sampler.settings("cuda"), torch.zeros(2, dtype=torch.int64, device="cuda")
        graph, _ = self.capture(lambda: sampler.sample(logits, seen, output, race, token, order="llama"))
        for step in range(200):
            logits.normal_().mul_(3)
            race.exponential_()
            seen.copy_(torch.rand(2, 8194, device="cuda") < 0.1)
            drawn = {"temperature": 0.3 + step / 100, "top_p": 0.5 + step / 500, "min_p": step / 4000,
                     "top_k": 8194 - 40 * step, "repetition_penalty": 1 + step / 200}  # fmt: skip
            output.copy_(sampler.settings("cuda", **drawn))  # type: ignore[arg-type]
            graph.replay()
            assert token.tolist() == sampler.sample_reference(logits, seen, output, race, order="llama").tolist()

    @torch.inference_mode()
    def test_every_kernel_is_captured_and_follows_its_input(self, make: Make) -> None:
        x, gate, weight = make(2, 1024, dtype=torch.bfloat16), make(2, 1024, dtype=torch.bfloat16), make(1024)
        weight, up = weight.to(torch.bfloat16), make(4096, 1024, dtype=torch.bfloat16)
        q, angle = make(2, 16, 1, 64, dtype=torch.bfloat16), make(1, 1, 64, dtype=torch.bfloat16)
        cache, position = make(2, 16, 40, 64, dtype=torch.bfloat16), torch.tensor([30], device=DEVICE)
        calls: tuple[Callable[[], torch.Tensor], ...] = (
            lambda: silu_mul(x, gate),
            lambda: rms_norm(x, weight),
            lambda: add_rms_norm(x, gate, weight)[0],
            lambda: gate_up(x, up, up),
            lambda: few_rows(x, up),
            lambda: rope(q, q, angle, angle)[0],
            lambda: step_attention(q, q, q, cache, cache, position, (angle, angle), 0.125),
        )
        for call in calls:
            graph, result = self.capture(call)
            for changing in (x, q):
                changing.normal_()
            graph.replay()
            assert torch.equal(result, call())

    @DTYPES
    @pytest.mark.parametrize("rows", [1, 2, 8, 16, 40, 200, 600])
    @pytest.mark.parametrize(("depth", "width"), [(1024, 4096), (896, 4864), (1000, 4099)])
    @torch.inference_mode()
    def test_gate_up_at_every_size_of_tile(
        self, make: Make, rows: int, depth: int, width: int, dtype: torch.dtype
    ) -> None:
        x = make(rows, depth, dtype=dtype)
        weights = [(make(width, depth) / depth**0.5).to(dtype) for _ in range(2)]
        exact = gate_up_reference(*wide(x, *weights))
        # fp32 as three tf32 products: tensor cores cut where an fp32 addition would round.
        assert_close(gate_up(x, *weights), exact, dtype, {**TOLERANCE, torch.float32: 1e-5})

    @torch.inference_mode()
    def test_every_kernel_is_traced_whole_by_torch_compile(self, make: Make) -> None:
        x, weight, wide_weight = make(2, 1024), make(1024), make(64, 1024)
        q, angle = make(2, 4, 3, 64), make(1, 3, 64)
        item, cache, position = make(2, 4, 1, 64), make(2, 4, 40, 64), torch.tensor([30], device=DEVICE)
        calls: tuple[tuple[Callable[..., Any], tuple[torch.Tensor, ...]], ...] = (
            (silu_mul, (x, x)),
            (rms_norm, (x, weight)),
            (add_rms_norm, (x, x, weight)),
            (gate_up, (x, wide_weight, wide_weight)),
            (gate_up, (x.repeat(20, 1), wide_weight, wide_weight)),
            (few_rows, (x, wide_weight, make(64))),
            (rope, (q, q, angle, angle)),
            (partial(step_attention, turn=None, scale=0.125), (item, item, item, cache, cache, position)),
        )
        for call, inputs in calls:
            torch.compiler.reset()
            result, expected = torch.compile(call, fullgraph=True)(*inputs), call(*inputs)
            torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_fp32_products_follow_torchs_own_setting() -> None:
    matmul: Any = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for setting, products in (("tf32", "tf32"), ("ieee", "tf32x3")):
            matmul.fp32_precision = setting
            assert fp32_products() == products
    finally:
        matmul.fp32_precision = before


def test_every_launch_compiles_for_a_gpu_that_need_not_be_here() -> None:
    program = Path(__file__).parents[1] / "compile_kernels.py"
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, program], env=variables, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # A kernel's name begins with its file's; what kernels call is compiled within them.
    launched = {file.stem for file in Path(sampler.__file__).parent.glob("*.py") if "@triton.jit" in file.read_text()}
    assert launched == {stem for stem in launched if f"_{stem}_" in done.stdout}
