from __future__ import annotations

import pytest
import torch

from tiny_s3gen import FAMILIES, LENGTHS, Slotted, attest, off_by, vocode
from ttsbench.errors import CellError
from ttsbench.optimizations.parts import graphs
from ttsbench.records.chunk_schedule import Streaming
from ttsbench.streaming import seams
from ttsbench.streaming.designs import Windowed
from ttsbench.streaming.synthesis import Synthesis

pytest_plugins = ("tiny_s3gen",)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(("option", "captured"), [("exact", 3), ("bucket", 2)])
def test_a_graph_serves_its_length_or_its_bucket(slotted: Slotted, option: str, captured: int) -> None:
    pipeline = slotted(s3gen_attention="sdpa", s3gen_graph=option)
    for tokens in LENGTHS:
        vocode(pipeline, tokens)
    evidence = attest(pipeline, "s3gen_graph", option)
    for part in ("solve", "flow_encoder"):
        assert (evidence[part]["captured"], evidence[part]["replays"]) == (captured, 2 * len(LENGTHS))
    assert evidence["estimator_calls_in_the_last_solve"] == 10


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("family", FAMILIES)
def test_one_graph_serves_all_windows_of_a_stream(slotted: Slotted, family: str) -> None:
    """Their lengths differ, look-ahead and all; each comes out as without a graph."""
    speech = torch.randint(0, 6561, (60,), generator=torch.Generator().manual_seed(7)).tolist()
    waves, pipelines = [], [slotted(family, s3gen_attention="sdpa", s3gen_graph=graph) for graph in ("off", "bucket")]
    for pipeline in pipelines:
        streaming, synthesis = Streaming(first_tokens=8, growth=1.0, prompt_tokens=10), Synthesis(pipeline.tts.s3gen)
        waves.append(seams.chunked(Windowed(synthesis, pipeline.tts.conds.gen, 1, streaming), speech, streaming)[0])
    assert off_by(waves[1], waves[0]) < 1e-4
    solve, encode = pipelines[1].s3gen_parts.graphed_solve, pipelines[1].s3gen_parts.graphed_encoder
    assert solve is not None
    assert encode is not None
    assert solve.graphs.captures == 1 < solve.graphs.replays
    assert encode.graphs.captures == 1 < encode.graphs.replays


@pytest.mark.usefixtures("late")
def test_what_was_in_a_bucket_before_leaves_no_trace(slotted: Slotted) -> None:
    fresh, used = (slotted(s3gen_attention="sdpa", s3gen_graph="bucket") for _ in range(2))
    # 50 prompt tokens and 60 share a bucket with 50 and 20.
    vocode(used, 60)
    solve = used.s3gen_parts.graphed_solve
    assert solve is not None
    for _, static in solve.graphs._held.values():
        with torch.inference_mode():
            static[0].fill_(float("nan"))
    assert torch.equal(vocode(used, 20).mel, vocode(fresh, 20).mel)


@pytest.mark.usefixtures("late")
def test_the_noise_is_drawn_outside_the_graph(slotted: Slotted) -> None:
    pipeline = slotted(s3gen_attention="sdpa", s3gen_graph="exact")
    first, again, other = (vocode(pipeline, seed=seed).mel for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_graph_that_recorded_the_first_noise_is_noticed(
    slotted: Slotted, late: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted failure: values baked in at capture. Two seeds must not sound alike."""

    class Baked(late):  # type: ignore[misc]
        def replay(self) -> torch.Tensor:
            replayed: torch.Tensor = self._output if self._output is not None else super().replay()
            return replayed

    monkeypatch.setattr(graphs, "CudaRecording", Baked)
    pipeline = slotted(s3gen_attention="sdpa", s3gen_graph="exact")
    with pytest.raises(AssertionError):
        test_the_noise_is_drawn_outside_the_graph(lambda **_: pipeline)


@pytest.mark.usefixtures("late")
def test_the_least_recently_used_graphs_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "GRAPHS_MAX", 2)
    cache = graphs.Graphs()
    for length in (1, 2, 1, 3, 1, 2):
        value = torch.full((length,), float(length))
        assert torch.equal(cache(length, lambda x: x * 2, value), value * 2)
    assert cache.evidence() == {"captured": 4, "replays": 6, "held": ["1", "2"]}


@pytest.mark.usefixtures("late")
def test_a_result_outlives_the_next_replay() -> None:
    cache = graphs.Graphs()
    first = cache(0, lambda x: x * 2, torch.ones(3))
    cache(0, lambda x: x * 2, torch.zeros(3))
    assert torch.equal(first, torch.full((3,), 2.0))


@pytest.mark.usefixtures("late")
def test_a_batch_is_refused_by_a_graph(slotted: Slotted) -> None:
    decoder = slotted(s3gen_attention="sdpa", s3gen_graph="exact").tts.s3gen.flow.decoder
    mel = torch.zeros(2, 80, 20)
    with pytest.raises(CellError, match="one utterance at a time, not for 2"):
        decoder(mu=mel, mask=mel[:, :1], n_timesteps=2, spks=mel[:, :, 0], cond=mel)
