"""What loops for one utterance and for a batch share: guidance, the undo of a step, tokens read back."""

from __future__ import annotations

import pytest
import torch

from pipelines import load
from ttsbench.optimizations.parts.host_copy import HostCopy
from ttsbench.optimizations.parts.next_token import NOT_FORCED, next_tokens
from ttsbench.optimizations.parts.samplers import LeanSampler
from ttsbench.optimizations.parts.step_graphs import StepGraphs
from ttsbench.optimizations.parts.t3 import Model, Sampling, model_of

SAMPLING = Sampling(temperature=0.8, repetition_penalty=1.2, top_p=1.0, min_p=0.05)


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(load("chatterbox").t3)


def sampler_for(model: Model, utterances: int) -> LeanSampler:
    sampler = LeanSampler(model, utterances)
    for row in range(utterances):
        sampler.begin(SAMPLING, 100, row)
    return sampler


@torch.inference_mode()
def test_a_batch_draws_what_each_utterance_draws_alone(model: Model) -> None:
    hidden = torch.randn(4, 1, 128, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([[0.5], [1.5]])
    noise = torch.empty(2, model.t3.speech_head.out_features).exponential_(generator=torch.Generator().manual_seed(2))
    shown: list[torch.Tensor] = []
    together = next_tokens(model, sampler_for(model, 2), hidden, weights, noise=noise, on_logits=shown.append)
    alone = [
        next_tokens(model, sampler_for(model, 1), hidden[2 * n : 2 * n + 2], float(weights[n]), noise=noise[n : n + 1])
        for n in range(2)
    ]
    assert together.tolist() == torch.cat(alone).tolist()
    assert shown[0].shape == (4, model.t3.speech_head.out_features)


@torch.inference_mode()
def test_a_forced_token_is_taken_and_remembered(model: Model) -> None:
    sampler = sampler_for(model, 1)
    hidden = torch.randn(2, 1, 128)
    assert next_tokens(model, sampler, hidden, 0.5, forced=torch.tensor([[17]])).tolist() == [[17]]
    assert bool(sampler.state[0][0, 17])
    drawn = next_tokens(model, sampler, hidden, 0.5, forced=torch.tensor([[NOT_FORCED]]))
    assert 0 <= int(drawn) < model.t3.speech_head.out_features


def test_a_step_that_is_taken_back_leaves_everything_as_it_was() -> None:
    position, stream = torch.tensor([3]), torch.Generator().manual_seed(5)
    before, drawn = stream.get_state(), []

    def step() -> None:
        position.add_(1)
        drawn.append(torch.rand(1, generator=stream))

    StepGraphs(lambda: (position,), stream).take_back(step)
    assert position.tolist() == [3]
    assert torch.equal(stream.get_state(), before)
    assert len(drawn) == 1


def test_what_is_read_back_is_what_there_was_when_the_copy_began() -> None:
    tokens = torch.tensor([[1, 2], [3, 4]])
    copy = HostCopy(tokens)
    tokens.zero_()
    assert copy.read() == [1, 2, 3, 4]
