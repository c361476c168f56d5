"""The sampler's kernel against its reference and the reference against upstream's, natively where there is a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation.logits_process import LogitsProcessorList

from ttsbench.optimizations.kernels import sampler
from ttsbench.optimizations.parts.samplers import gpt2_warpers, llama_warpers
from ttsbench.optimizations.parts.t3 import Sampling
from ttsbench.running import host

DEVICE = "cpu" if host.machine().cuda_problem else "cuda"
# Of random settings; the interpreter takes 20 ms for each.
SETS = 20 if DEVICE == "cpu" else 100


class TestSampler:
    """Rows and settings drawn at random, in both orders, on vocabularies as odd as T3's."""

    def draw(self, logits: torch.Tensor, seen: torch.Tensor, race: torch.Tensor, order: str, **settings: Any) -> Any:
        """The kernel's tokens, after comparing them with the reference's."""
        output = sampler.settings(DEVICE, **settings)
        token = torch.full(logits.shape[:1], -1, dtype=torch.int64, device=DEVICE)
        assert sampler.sample(logits, seen, output, race, token, order=order) is token
        expected = sampler.sample_reference(logits, seen, output, race, order=order)
        assert token.tolist() == expected.tolist(), (order, settings)
        return token.tolist()

    def settings(self, generator: torch.Generator, vocabulary: int) -> dict[str, Any]:
        """Each as often neutral as not."""
        u, used = torch.rand(5, generator=generator).tolist(), torch.rand(5, generator=generator) < 0.6
        drawn = {
            "temperature": 0.2 + 1.5 * u[0], "repetition_penalty": 0.7 + u[1], "min_p": 0.2 * u[2], "top_p": u[3],
            "top_k": 1 + int(u[4] * vocabulary),
        }  # fmt: skip
        return {name: value for (name, value), use in zip(drawn.items(), used.tolist(), strict=True) if use}

    @pytest.mark.parametrize("order", sampler.PENALTY_FIRST)
    @pytest.mark.parametrize("vocabulary", [1, 41, 523])
    def test_picks_the_token_of_the_reference(self, vocabulary: int, order: str) -> None:
        generator = torch.Generator().manual_seed(vocabulary)
        for _ in range(SETS):
            logits = (3 * torch.randn(4, vocabulary, generator=generator)).to(DEVICE)
            seen = (torch.rand(4, vocabulary, generator=generator) < 0.3).to(DEVICE)
            race = torch.empty(4, vocabulary).exponential_(generator=generator).to(DEVICE)
            self.draw(logits, seen, race, order, **self.settings(generator, vocabulary))

    @pytest.mark.parametrize("order", sampler.PENALTY_FIRST)
    def test_keeps_just_what_the_reference_keeps(self, order: str) -> None:
        """With noise that falls faster than the probabilities, the least likely token that was kept wins."""
        generator = torch.Generator().manual_seed(7)
        for _ in range(SETS):
            logits = (2 * torch.randn(3, 200, generator=generator)).to(DEVICE)
            race = (8 * (logits - logits.amax(-1, keepdim=True))).exp().clamp_min(1e-30)
            self.draw(logits, torch.zeros_like(logits, dtype=torch.bool), race, order,
                      **{**self.settings(generator, 200), "temperature": 1.0})  # fmt: skip

    @pytest.mark.parametrize(("vocabulary", "order"), [(8194, "llama"), (6563, "gpt2")])
    def test_vocabularies_of_the_family(self, vocabulary: int, order: str) -> None:
        generator = torch.Generator().manual_seed(1)
        for top_p in (0.6, 0.95, 1.0):
            logits = (3 * torch.randn(2, vocabulary, generator=generator)).to(DEVICE)
            logits[:, 6561:] -= 1e4  # as a head biased against what is no speech
            seen = (torch.rand(2, vocabulary, generator=generator) < 0.1).to(DEVICE)
            race = torch.empty(2, vocabulary).exponential_(generator=generator).to(DEVICE)
            common = {"temperature": 0.8, "repetition_penalty": 1.2, "top_p": top_p}
            self.draw(logits, seen, race, order, **common, **({"min_p": 0.05} if order == "llama" else {"top_k": 1000}))

    def test_the_reference_follows_upstreams_processors(self) -> None:
        generator = torch.Generator().manual_seed(3)
        for _ in range(40):
            logits, race = torch.randn(1, 97, generator=generator), torch.rand(1, 97, generator=generator)
            ids = torch.randint(97, (1, 20), generator=generator)
            seen = torch.zeros(1, 97, dtype=torch.bool).scatter_(1, ids, True)
            temperature, penalty, min_p, top_p = (torch.rand(4, generator=generator) + 0.01).clamp(max=1).tolist()
            k = int(1 + 96 * min_p)
            for order, settings, upstream in (
                ("llama", {"temperature": temperature, "repetition_penalty": 1 + penalty, "min_p": min_p / 4,
                           "top_p": top_p}, llama_warpers(Sampling(temperature, 1 + penalty, top_p, min_p=min_p / 4))),
                ("gpt2", {"temperature": temperature, "repetition_penalty": 1 + penalty, "top_k": k, "top_p": top_p},
                 gpt2_warpers(Sampling(temperature, 1 + penalty, top_p, top_k=k))),
            ):  # fmt: skip
                assert isinstance(upstream, LogitsProcessorList)
                theirs = (upstream(ids, logits).softmax(-1) / race).argmax(-1)  # type: ignore[arg-type]
                ours = sampler.sample_reference(logits, seen, sampler.settings("cpu", **settings), race, order=order)
                assert ours.tolist() == theirs.tolist(), (order, settings)

    def test_the_race_is_torchs_own_multinomial(self) -> None:
        for seed in range(20):
            probabilities = torch.rand(3, 50, generator=torch.Generator().manual_seed(seed))
            drawn = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(seed))
            race = torch.empty(3, 50).exponential_(generator=torch.Generator().manual_seed(seed))
            assert drawn[:, 0].tolist() == (probabilities / race).argmax(-1).tolist()

    @pytest.mark.parametrize(
        ("top_p", "kept"), [(1.0, 8), (0.76, 7), (0.75, 6), (0.5, 4), (0.125, 1), (0.1, 1), (0.0, 1)]
    )
    def test_of_equal_logits_top_p_drops_those_of_the_lowest_index(self, top_p: float, kept: int) -> None:
        """Eight equal ones among others that weigh nothing; all sums are exact. The first that is kept wins."""
        logits = torch.full((1, 20), -torch.inf, device=DEVICE)
        logits[0, 3:19:2] = 1.5
        race = torch.arange(1.0, 21.0, device=DEVICE)[None] * 1e-3
        token = self.draw(logits, torch.zeros_like(logits, dtype=torch.bool), race, "llama", top_p=top_p)
        assert token == [range(3, 19, 2)[8 - kept]]

    def test_top_k_and_min_p_keep_equal_logits_together(self) -> None:
        logits = torch.tensor([[0.0, -0.0, 3.0, -1.0, 0.0, -5.0]], device=DEVICE)
        none = torch.zeros_like(logits, dtype=torch.bool)
        for position in range(6):
            race = torch.ones_like(logits)
            race[0, position] = 1e-9
            kept = position in (0, 1, 2, 4)
            assert (self.draw(logits, none, race, "gpt2", top_k=2) == [position]) == (kept or position == 2)
            kept = position == 2
            assert (self.draw(logits, none, race, "llama", min_p=1.0) == [position]) == kept

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_coarse_logits_with_many_ties(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(5)
        for _ in range(SETS):
            logits = torch.randn(2, 150, generator=generator).mul(4).round().div(2).to(DEVICE, dtype)
            race = torch.empty(2, 150).exponential_(generator=generator).to(DEVICE)
            seen = (torch.rand(2, 150, generator=generator) < 0.3).to(DEVICE, torch.int8)
            for order in sampler.PENALTY_FIRST:
                self.draw(logits, seen, race, order, top_k=40, min_p=0.01, repetition_penalty=1.3)

    def test_reads_strided_rows_and_writes_where_it_is_told(self) -> None:
        generator = torch.Generator().manual_seed(2)
        logits = torch.randn(33, 4, generator=generator).to(DEVICE).t()[::2]
        race = torch.rand(2, 66, generator=generator).to(DEVICE)[:, ::2]
        seen = torch.zeros(2, 40, dtype=torch.bool, device=DEVICE)[:, 7:]
        tokens = torch.full((2, 5), -7, dtype=torch.int64, device=DEVICE)
        output = sampler.settings(DEVICE, top_p=0.9)
        sampler.sample(logits, seen, output, race, tokens[:, 3:4], order="llama")
        expected = sampler.sample_reference(logits, seen, output, race, order="llama")
        assert tokens[:, 3].tolist() == expected.tolist()
        assert (tokens[:, [0, 1, 2, 4]] == -7).all()

    def test_a_row_without_a_finite_logit_still_gives_a_token_of_the_vocabulary(self) -> None:
        for logit in (-torch.inf, torch.nan):
            logits = torch.full((1, 9), logit, device=DEVICE)
            token = torch.full((1,), -1, dtype=torch.int64, device=DEVICE)
            output = sampler.settings(DEVICE, top_p=0.5, top_k=3)
            sampler.sample(logits, logits == 0, output, torch.ones_like(logits), token, order="gpt2")
            assert 0 <= int(token) < 9

    def test_no_rows_no_tokens(self) -> None:
        empty = torch.empty(0, 9, device=DEVICE)
        token = torch.empty(0, dtype=torch.int64, device=DEVICE)
        sampler.sample(empty, empty == 0, sampler.settings(DEVICE), empty, token, order="llama")

    def test_uniforms_become_noise_that_nothing_divides_by_zero(self) -> None:
        race = sampler.race_from_uniforms(torch.tensor([0.0, 0.5, 1 - 2**-24]))
        assert race[0] > 0
        assert race[1:].tolist() == pytest.approx([0.693147, 16.6355], rel=1e-5)

    def test_what_does_not_fit_is_refused(self) -> None:
        logits = torch.zeros(2, 9, device=DEVICE)
        token, output = torch.zeros(2, dtype=torch.int64, device=DEVICE), sampler.settings(DEVICE)
        with pytest.raises(ValueError, match="differ in shape"):
            sampler.sample(logits, logits[:, :8] == 0, output, logits, token, order="llama")
        with pytest.raises(ValueError, match="token is int64"):
            sampler.sample(logits, logits == 0, output, logits, token.int(), order="llama")
        with pytest.raises(ValueError, match="order is one of llama, gpt2"):
            sampler.sample(logits, logits == 0, output, logits, token, order="lama")
        with pytest.raises(ValueError, match="1 to 16384"):
            sampler.sample(torch.zeros(1, 16385), logits == 0, output, logits, token, order="llama")
