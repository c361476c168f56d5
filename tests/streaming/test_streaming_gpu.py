"""Streams on a GPU at full size: T3 decodes on while S3Gen works, and one listener never waits."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.instruments.clock import Timeline
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.records.chunk_schedule import Streaming
from ttsbench.records.measurements import Utterance
from ttsbench.reports import continuity
from ttsbench.running.cells import common
from ttsbench.streaming import seams

pytestmark = pytest.mark.gpu

# The stack of `streaming.yaml`, but for the compiler, which would take most of the time.
FAST: dict[str, Any] = {
    "decode": "cuda_graph", "cache": "static", "sampler": "triton", "dtype": "bf16", "attention": "triton",
    "qkv": "fused", "mlp": "triton_fused", "norm": "triton", "linear": "triton", "prompt": "cuda_graph",
    "s3gen_attention": "sdpa", "s3gen_graph": "bucket", "s3gen_dtype": "bf16", "vocoder": "graph", "watermark": "gpu",
}  # fmt: skip
TOKENS = 250
FIRST_PLAYABLE_SECONDS_MAX = 0.1


Make = Callable[..., Pipeline]


@pytest.fixture(scope="module")
def make(make_pipeline: Make) -> Make:
    texts = ("One short sentence.", "Another one.")
    return functools.partial(make_pipeline, device="cuda", texts=texts, length=Length(TOKENS))


def timed(pipeline: Pipeline, seed: int) -> Utterance:
    timeline = Timeline(pipeline.device)
    common.settle(pipeline)
    speech, wall_seconds = pipeline.speak_timed(0, seed, timeline)
    first_sample, playable, audible = pipeline.first_audio(speech, wall_seconds)
    return Utterance(
        0, 0, seed, wall_seconds, speech.audio_seconds, speech.tokens.numel(), speech.tokens_sha256(), first_sample,
        playable, audible, timeline.stages(), stream=speech.streamed,
    )  # fmt: skip


@pytest.fixture(scope="module")
def warm(make: Make) -> Pipeline:
    """The fast stack at full size, every window's graph captured."""
    pipeline = make(size="full", stream="windowed", **FAST)
    for seed in range(3):
        pipeline.speak(0, seed)
    return pipeline


def test_gpu_the_first_playable_chunk_comes_soon(warm: Pipeline) -> None:
    seconds = [timed(warm, seed).first_playable_seconds for seed in range(10, 15)]
    assert statistics.median(seconds) <= FIRST_PLAYABLE_SECONDS_MAX


def test_gpu_t3_decodes_on_while_s3gen_works(warm: Pipeline) -> None:
    utterance = timed(warm, 20)
    assert utterance.stream is not None
    assert utterance.stream.at_once
    assert (continuity.overlap_share(utterance.stream) or 0) > 0.1


def test_gpu_one_listener_never_waits(warm: Pipeline) -> None:
    for seed in range(30, 33):
        playback = continuity.played(timed(warm, seed))
        assert playback is not None
        assert (playback.underrun_seconds, playback.late_chunks) == (0, 0)


def test_gpu_windows_capture_nothing_once_warm(warm: Pipeline) -> None:
    solve, encode = warm.tts.s3gen._installed_by_ttsbench["s3gen_graph"]
    before = (solve.graphs.captures, encode.graphs.captures)
    warm.speak(0, 40)
    assert (solve.graphs.captures, encode.graphs.captures) == before
    assert solve.graphs.replays > solve.graphs.captures


def test_gpu_windows_are_no_further_from_the_whole_at_seams_than_elsewhere(warm: Pipeline) -> None:
    for judged in seams.judge(warm, [1, 2]):
        assert judged.seams >= 4
        assert judged.seam_ratio <= 1.2


@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
@pytest.mark.parametrize(
    "slots",
    [
        {},
        {"decode": "lean"},
        {"decode": "cuda_graph", "cache": "static", "sampler": "lean"},
        {"s3gen_dtype": "tf32"},
        {"s3gen_attention": "sdpa", "s3gen_graph": "exact", "vocoder": "graph"},
    ],
    ids=str,
)
def test_gpu_a_stream_speaks_the_tokens_that_one_shot_speaks(make: Make, family: str, slots: dict[str, Any]) -> None:
    expected = make(family, **slots).speak(0, 3)
    pipeline = make(family, stream="windowed", **slots)
    for _ in range(2):  # the first captures, the second replays
        speech = pipeline.speak(0, 3)
        assert torch.equal(speech.tokens, expected.tokens)
        assert speech.audible


def test_gpu_in_turn_or_beside_the_sound_is_the_same(make: Make) -> None:
    slots: dict[str, Any] = {"decode": "cuda_graph", "cache": "static", "sampler": "lean", "stream": "windowed"}
    neighbour, in_turn = make(**slots), make(streaming=Streaming(overlap=False), **slots)
    for pipeline in (neighbour, in_turn):
        pipeline.speak(0, 1)
    item, other = neighbour.speak(0, 3), in_turn.speak(0, 3)
    assert torch.equal(item.tokens, other.tokens)
    assert torch.allclose(item.wave, other.wave, atol=1e-3)
