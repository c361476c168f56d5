"""Streams of the tiny model: what is made, in which order, and how near it comes to the same tokens at once."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline
from ttsbench.instruments.swapping import swapped
from ttsbench.model import voice
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SPEECH_TOKENS, Speech
from ttsbench.optimizations import registry
from ttsbench.records.chunk_schedule import Streaming
from ttsbench.records.measurements import RESIDUAL
from ttsbench.reports import continuity
from ttsbench.streaming import designs, seams
from ttsbench.streaming.designs import ChunkAudio, Frames, Revocode, Window, Windowed
from ttsbench.streaming.executor import why_in_turn
from ttsbench.streaming.listener import Listener
from ttsbench.streaming.noise import FrameNoise
from ttsbench.streaming.stream import Stream
from ttsbench.streaming.streamer import streamer_of
from ttsbench.streaming.synthesis import Synthesis, with_prompt_tokens
from ttsbench.streaming.watermark import StreamWatermark

TEXTS = ("One short sentence.", "Another one.")
TOKENS = 40
EQUAL = Streaming(first_tokens=8, growth=1.0)
Make = Callable[..., Pipeline]


@pytest.fixture
def make(make_pipeline: Make) -> Make:
    return functools.partial(make_pipeline, texts=TEXTS, length=Length(TOKENS), streaming=EQUAL)


def in_its_own_thread(pipeline: Pipeline) -> Pipeline:
    """With S3Gen in a thread of its own, as on a GPU."""
    streamer = streamer_of(pipeline)
    assert streamer is not None
    streamer.in_turn = ""
    return pipeline


@pytest.fixture(scope="module", params=["chatterbox", "turbo"])
def model(request: pytest.FixtureRequest, load_tiny: Callable[..., Any]) -> Any:
    """Of either family, and its S3Gen with noise that can be given."""
    tts = load_tiny(request.param)
    tts.synthesis = Synthesis(tts.s3gen)
    return tts


def random_tokens(count: int, seed: int = 0) -> list[int]:
    drawn: list[int] = torch.randint(SPEECH_TOKENS, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return drawn


def windowed(model: Any, tokens: list[int], seed: int = 1, **changes: Any) -> tuple[torch.Tensor, list[int]]:
    streaming = replace(EQUAL, **changes)
    return seams.chunked(Windowed(model.synthesis, model.conds.gen, seed, streaming), tokens, streaming)


def at_once(model: Any, tokens: list[int], seed: int = 1) -> torch.Tensor:
    return seams.at_once(model.synthesis, tokens, model.conds.gen, seed)


# ------------------------------------------------------------------------------------------- sound


def test_one_window_over_everything_is_the_whole(model: Any) -> None:
    tokens = random_tokens(20)
    wave, seam_places = windowed(model, tokens, first_tokens=20)
    assert seam_places == []
    assert torch.equal(wave, at_once(model, tokens))


def test_from_given_noise_s3gen_makes_what_upstream_makes_of_the_same(model: Any) -> None:
    """Whatever upstream draws is replaced by what our own call was given; everything else is upstream's."""
    tokens, noise = random_tokens(24), model.synthesis.noise(3)
    prompt = with_prompt_tokens(model.conds.gen, None)["prompt_feat"].size(1)
    frames = 2 * len(tokens)
    state, source, starts = noise.mel(-prompt, frames), noise.source(0, frames), noise.phases()

    def randn_like(like: torch.Tensor, **_: Any) -> torch.Tensor:
        replacements: dict[int, torch.Tensor] = {80: state, source.size(1): source}
        return replacements.get(like.size(1), torch.zeros_like(like)).clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", randn_like)
        patch.setattr(torch, "randn", lambda *_, **__: state[:, :, prompt:])
        patch.setattr(torch.distributions.uniform.Uniform, "sample", lambda *_, **__: starts.clone())
        expected, _ = model.s3gen.inference(
            speech_tokens=torch.tensor(tokens), ref_dict=dict(model.conds.gen), n_cfm_timesteps=model.synthesis.steps
        )
    made = at_once(model, tokens, 3)
    assert made.abs().max() > 0.01
    assert torch.allclose(made, expected[0], atol=2e-3)
    assert float((made - expected[0]).norm() / expected.norm()) < 2e-3


@pytest.mark.parametrize(
    "changes",
    [{}, {"lookahead_tokens": 5}, {"context_tokens": 8}, {"first_tokens": 4, "growth": 1.5}, {"prompt_tokens": 20}],
    ids=str,
)
def test_windows_are_no_further_from_the_whole_at_seams_than_elsewhere(model: Any, changes: dict[str, Any]) -> None:
    tokens = random_tokens(90)
    wave, seam_places = windowed(model, tokens, **changes)
    judged = seams.compare(0, wave, at_once(model, tokens), seam_places, model.s3gen.mel_extractor)
    assert wave.numel() == 90 * 960
    assert judged.seams >= 4
    assert judged.seam_ratio <= 1.2
    assert judged.at_seams > 0


def test_windows_come_nearer_to_the_whole_than_what_forks_do(model: Any) -> None:
    tokens = random_tokens(90)
    whole = at_once(model, tokens)
    wave, seam_places = windowed(model, tokens)
    anew, _ = seams.chunked(Revocode(model.synthesis, model.conds.gen, 1, EQUAL), tokens, EQUAL)
    near = seams.compare(0, wave, whole, seam_places, model.s3gen.mel_extractor)
    far = seams.compare(0, anew, whole, seam_places, model.s3gen.mel_extractor)
    assert near.away < 0.8 * far.away
    assert near.wave_snr_db > far.wave_snr_db + 2


def test_without_one_noise_for_all_windows_seams_would_stand_out(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the measure is for: it tells windows that disagree."""
    tokens = random_tokens(90)
    wave, seam_places = windowed(model, tokens)
    fixed = seams.compare(0, wave, at_once(model, tokens), seam_places, model.s3gen.mel_extractor)
    mel, calls = FrameNoise.mel, iter(range(1000))

    def fresh(self: FrameNoise, first: int, last: int) -> torch.Tensor:
        shift = 10_000 * next(calls)
        return mel(self, first + shift, last + shift)

    whole = at_once(model, tokens)
    monkeypatch.setattr(FrameNoise, "mel", fresh)
    wave, seam_places = windowed(model, tokens)
    judged = seams.compare(0, wave, whole, seam_places, model.s3gen.mel_extractor)
    assert judged.at_seams > 1.3 * fixed.at_seams


def test_the_vocoder_in_windows_is_the_vocoder_at_once(model: Any) -> None:
    """Source, phase and context are carried on so well that only the blend of 10 ms can tell a seam."""
    tokens = random_tokens(60)
    mels: dict[int, torch.Tensor] = {}
    design = Windowed(model.synthesis, model.conds.gen, 1, EQUAL)
    extend = design.extend

    def noting(window: Window, mel: torch.Tensor) -> Frames:
        frames = extend(window, mel)
        mels[design._mel_first] = design._mel.clone()
        return frames

    with swapped(design, "extend", noting):
        wave, seam_places = seams.chunked(design, tokens, EQUAL)
    frames = torch.zeros(1, 80, 2 * len(tokens))
    for first, mel in mels.items():
        frames[:, :, first : first + mel.size(2)] = mel
    source = model.synthesis.source(model.synthesis.noise(1)).window(0, 120, 120)
    with torch.inference_mode():
        whole = model.synthesis.faded_in(model.synthesis.wave(frames, source))
    judged = seams.compare(0, wave, whole, seam_places, model.s3gen.mel_extractor)
    assert judged.wave_snr_db > 35
    assert judged.at_seams < 0.01


def test_noise_is_the_same_however_it_is_asked_for() -> None:
    noise, again, other = (FrameNoise(seed, torch.device("cpu"), 9) for seed in (1, 1, 2))
    whole = noise.mel(-200, 300)
    assert torch.equal(whole[:, :, 150:260], again.mel(-50, 60))
    assert torch.equal(noise.source(0, 90)[:, :, 480 * 70 : 480 * 80], again.source(70, 80))
    assert not torch.equal(whole, other.mel(-200, 300))
    assert whole.std() == pytest.approx(1, abs=0.02)
    assert torch.equal(noise.phases(), again.phases())
    assert noise.phases()[0, 0, 0] == 0
    assert noise.phases().abs().max() > 1


def test_s3gen_leaves_the_random_stream_to_t3(model: Any) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    windowed(model, random_tokens(30))
    seams.chunked(Revocode(model.synthesis, model.conds.gen, 1, EQUAL), random_tokens(30), EQUAL)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_given_noise_s3gen_is_upstreams(make: Make) -> None:
    plain, streams = make(), make(stream="windowed")
    plain.speak(0, 2)
    streams.speak(0, 2)
    assert torch.equal(plain.vocode(5), streams.vocode(5))


def test_the_prompts_share_is_bounded_in_whole_tokens(model: Any) -> None:
    voice_ = with_prompt_tokens(model.conds.gen, 10)
    assert voice_["prompt_token"].size(1) == 10
    assert voice_["prompt_token_len"].tolist() == [10]
    assert torch.equal(voice_["prompt_feat"], model.conds.gen["prompt_feat"][:, :100][:, -20:])
    assert with_prompt_tokens(model.conds.gen, 10_000)["prompt_token"].size(1) == 50
    odd = {**model.conds.gen, "prompt_feat": torch.zeros(1, 101, 80)}
    assert with_prompt_tokens(odd, None)["prompt_feat"].size(1) == 100


def test_a_window_costs_what_it_holds(model: Any) -> None:
    tokens, streaming = random_tokens(90), replace(EQUAL, prompt_tokens=10)
    design = Windowed(model.synthesis, model.conds.gen, 1, streaming)
    pieces = [design.speak(tokens, end_token, final=False) for end_token in range(8, 72, 8)]
    # 10 of the reference, 25 before the chunk, the chunk, 7 ahead of which the encoder keeps 3.
    assert [piece.flow_frames for piece in pieces][-1] == 2 * (10 + 25 + 8 + 7 - 3)
    assert len({piece.flow_frames for piece in pieces[4:]}) == 1
    anew = Revocode(model.synthesis, model.conds.gen, 1, streaming)
    costs = [anew.speak(tokens, end_token, final=False).flow_frames for end_token in (8, 16, 24)]
    assert costs == [2 * (10 + 8), 2 * (10 + 16), 2 * (10 + 24)]


# ------------------------------------------------------------------------------------- the pipeline


@pytest.mark.parametrize(
    ("family", "design", "slots"),
    [
        ("chatterbox", "windowed", {}),
        ("chatterbox", "revocode", {"s3gen_attention": "sdpa"}),
        ("chatterbox", "windowed", {"decode": "lean", "sampler": "lean", "cache": "static"}),
        ("chatterbox", "windowed", {"s3gen_attention": "sdpa", "vocoder": "folded", "cfm_steps": "4"}),
        ("turbo", "windowed", {}),
        ("turbo", "revocode", {"decode": "lean", "s3gen_dtype": "bf16", "dtype": "bf16"}),
        ("multilingual", "windowed", {"watermark": "off"}),
    ],
    ids=str,
)
def test_a_stream_speaks_the_tokens_that_one_shot_speaks(
    make: Make, family: str, slots: dict[str, str], design: str
) -> None:
    expected = make(family, **slots).speak(0, 3)
    pipeline = in_its_own_thread(make(family, stream=design, **slots))
    streamed = pipeline.speak(0, 3)
    assert torch.equal(streamed.tokens, expected.tokens)
    assert streamed.streamed is not None
    assert sum(chunk.samples for chunk in streamed.streamed.chunks) == streamed.wave.size(1)
    assert abs(streamed.wave.size(1) - expected.wave.size(1)) < 960
    assert streamed.audible
    assert len(streamed.streamed.chunks) >= TOKENS // 8 - 2
    assert registry.BY_NAME["stream"].attest(pipeline, design)["design"] == design


def test_a_stream_is_the_same_every_time(make: Make) -> None:
    pipeline = make(stream="windowed")
    first, again, other = (pipeline.speak(0, seed).wave for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_in_turn_or_at_once_the_sound_is_the_same(make: Make) -> None:
    item, other = in_its_own_thread(make(stream="windowed")).speak(0, 3), make(stream="windowed").speak(0, 3)
    assert torch.equal(item.wave, other.wave)
    assert item.streamed is not None
    assert other.streamed is not None
    assert (item.streamed.at_once, other.streamed.at_once) == (True, False)
    assert (continuity.overlap_share(item.streamed) or 0) > 0
    assert continuity.overlap_share(other.streamed) == 0


@pytest.mark.parametrize(
    ("slots", "reason"),
    [
        ({"dtype": "tf32"}, "TF32"), ({"s3gen_dtype": "tf32"}, "TF32"), ({"attention": "sdpa_math"}, "backends"),
        ({"s3gen_compile": "reduce-overhead"}, "Inductor"), ({}, "share the cores"),
    ],
)  # fmt: skip
def test_settings_of_the_whole_process_make_them_take_turns(make: Make, slots: dict[str, str], reason: str) -> None:
    pipeline = make()
    pipeline.slots = {**pipeline.slots, **slots}
    assert reason in why_in_turn(pipeline)


def test_in_turn_s3gen_runs_outside_of_t3s_autocast(make: Make) -> None:
    in_turn, other = (
        make(stream="windowed", dtype="amp_bf16"),
        in_its_own_thread(make(stream="windowed", dtype="amp_bf16")),
    )
    assert torch.equal(in_turn.speak(0, 3).wave, other.speak(0, 3).wave)


def test_sound_comes_long_before_the_end(make: Make) -> None:
    pipeline = make(stream="windowed", streaming=Streaming(first_tokens=4))
    pipeline.speak(0, 1)
    timeline = Timeline(pipeline.device)
    streamed, wall_seconds = pipeline.speak_timed(0, 3, timeline)
    first_sample, playable, audible = pipeline.first_audio(streamed, wall_seconds)
    assert streamed.streamed is not None
    assert first_sample == streamed.streamed.chunks[0].arrived_seconds < 0.6 * wall_seconds
    assert first_sample <= playable <= wall_seconds
    assert audible is not None
    arrivals = [chunk.arrived_seconds for chunk in streamed.streamed.chunks]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] == wall_seconds
    assert streamed.streamed.token_counts[-1] <= TOKENS
    assert list(streamed.streamed.token_counts) == sorted(streamed.streamed.token_counts)
    assert streamed.streamed.token_seconds[-1] <= streamed.streamed.decode_ended_seconds


@pytest.mark.parametrize("at_once_", [True, False])
def test_stages_of_a_stream_and_what_overlaps_make_the_wall(make: Make, at_once_: bool) -> None:
    pipeline = make(stream="windowed")
    pipeline = in_its_own_thread(pipeline) if at_once_ else pipeline
    pipeline.speak(0, 1)
    timeline = Timeline(pipeline.device)
    _, wall_seconds = pipeline.speak_timed(0, 3, timeline)
    stages = {name: time.host_seconds for name, time in timeline.stages().items()}
    assert all(stages[name] > 0 for name in ("text", "prefill", "decode", "flow_encoder", "cfm", "vocoder"))
    assert sum(stages.values()) >= 0.98 * wall_seconds
    assert stages[RESIDUAL] < 0.1 * wall_seconds


@pytest.mark.parametrize("pause_for_first_chunk", [True, False])
def test_t3_waits_for_the_first_chunk_and_for_no_other(make: Make, *, pause_for_first_chunk: bool) -> None:
    """Which is there sooner for it; the sound is the same."""
    pipeline = in_its_own_thread(
        make(stream="windowed", decode="lean", streaming=replace(EQUAL, pause_for_first_chunk=pause_for_first_chunk))
    )
    pipeline.speak(0, 3)
    streamed = pipeline.speak(0, 3).streamed
    assert streamed is not None
    first, last = streamed.chunks[0], streamed.chunks[-1]
    during = [seconds for seconds in streamed.token_seconds if first.began_seconds < seconds < first.arrived_seconds]
    assert bool(during) != pause_for_first_chunk
    assert (streamed.rest_ended_seconds > streamed.rest_began_seconds) == pause_for_first_chunk
    if pause_for_first_chunk:
        assert any(first.arrived_seconds < seconds < last.began_seconds for seconds in streamed.token_seconds)


def test_a_natural_end_is_heard_as_one_shot_has_it(make: Make, make_stop_likely: Callable[[Any], None]) -> None:
    pipelines = [make(length=Length(), stream=stream, decode="lean") for stream in ("oneshot", "windowed")]
    for pipeline in pipelines:
        make_stop_likely(pipeline.tts.t3)
    expected, streamed = (pipeline.speak(0, 2) for pipeline in pipelines)
    assert torch.equal(expected.tokens, streamed.tokens)
    assert expected.tokens.numel() < 900
    assert streamed.wave.size(1) == expected.wave.size(1)


def test_an_error_in_the_other_thread_reaches_the_caller(make: Make) -> None:
    pipeline = in_its_own_thread(make(stream="windowed"))
    streamer = streamer_of(pipeline)
    assert streamer is not None

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the flow is broken")

    with swapped(streamer.synthesis, "mel", broken), pytest.raises(RuntimeError, match="the flow is broken"):
        pipeline.speak(0, 0)
    assert pipeline.speak(0, 0).audible


# ---------------------------------------------------------------------------------------- listeners


def test_a_wav_header_is_no_sound() -> None:
    listener = Listener()
    with pytest.raises(CellError, match="takes samples, and was handed bytes"):
        listener.take(b"RIFF\x24\x00\x00\x00WAVEfmt ")  # type: ignore[arg-type]
    with pytest.raises(CellError, match="int16"):
        listener.take(torch.zeros(44, dtype=torch.int16))
    with pytest.raises(CellError, match="no sample"):
        listener.first_audio()
    listener.take(torch.empty(0))
    with pytest.raises(CellError, match="no sample"):
        listener.first_audio()


def test_the_three_first_times_are_of_three_things() -> None:
    listener = Listener()
    listener.begin()
    times = [listener.take(samples) for samples in (
        torch.empty(0), torch.zeros(960), torch.zeros(960), torch.full((960,), 0.5), torch.zeros(960)
    )]  # fmt: skip
    assert listener.first_audio() == (times[1], times[2], times[3])


def test_what_is_shorter_than_playable_is_playable_when_all_is_there() -> None:
    listener = Listener()
    times = [listener.take(torch.zeros(100)) for _ in range(3)]
    assert listener.first_audio() == (times[0], times[2], None)


def test_what_the_listener_does_itself_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def spend(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    listener = Listener(lambda _: spend(5.0))
    listener.begin()
    spend(1.0)
    assert listener.take(torch.ones(960)) == 1.0
    spend(2.0)
    assert listener.take(torch.ones(1920)) == 3.0
    assert listener.own_seconds == 10.0
    assert listener.first_audio() == (1.0, 3.0, 1.0)


class Sliced:
    """A fake: it makes the whole wave at the end, and hands it out in slices."""

    lookahead_tokens = 10_000

    def __init__(self, synthesis: Any, voice_: Any, seed: int, streaming: Streaming) -> None:
        self._made = synthesis, with_prompt_tokens(voice_, None), synthesis.noise(seed)

    def speak(self, tokens: Any, end_token: int, *, final: bool) -> ChunkAudio:
        synthesis, voice_, noise = self._made
        return ChunkAudio(synthesis.whole(tokens, voice_, noise), 0, 0)


def test_a_sliced_wave_is_shown_for_what_it_is(
    make: Make, monkeypatch: pytest.MonkeyPatch, make_utterance: Callable[..., Any]
) -> None:
    pipeline = make(stream="windowed")
    streamer = streamer_of(pipeline)
    assert streamer is not None
    take = Listener.take

    def in_slices(self: Listener, samples: torch.Tensor) -> float:
        return [take(self, part) for part in torch.split(samples, 4800)][-1]

    monkeypatch.setattr(Listener, "take", in_slices)
    with swapped(streamer, "_make", Sliced):
        streamed, wall_seconds = pipeline.speak_timed(0, 3, Timeline(pipeline.device))
    assert streamed.streamed is not None
    first = pipeline.first_audio(streamed, wall_seconds)
    assert first[0] > 0.95 * wall_seconds
    chunks = tuple(replace(streamed.streamed.chunks[0], samples=4800) for _ in range(12))
    utterance = make_utterance(
        wall_seconds=wall_seconds,
        first_sample_seconds=first[0],
        stream=replace(streamed.streamed, chunks=chunks),
    )
    assert continuity.waits_for_the_whole(utterance)


# ------------------------------------------------------------------------------------------- voices


def test_two_voices_at_once_never_mix(model: Any) -> None:
    """Two streams take turns chunk by chunk, each as it is alone."""
    tokens = random_tokens(60)
    other = {**model.conds.gen, "prompt_token": model.conds.gen["prompt_token"].flip(1),
             "embedding": -model.conds.gen["embedding"]}  # fmt: skip
    voices = (model.conds.gen, other)

    def turns(design: designs.Design) -> Iterator[torch.Tensor]:
        for end_token in (8, 16, 24, 32):
            yield design.speak(tokens, end_token, final=False).samples
        yield design.speak(tokens, len(tokens), final=True).samples

    alone = [torch.cat(list(turns(Windowed(model.synthesis, v, 1, EQUAL)))) for v in voices]
    pairs = list(zip(*(turns(Windowed(model.synthesis, v, 1, EQUAL)) for v in voices), strict=True))
    together = [torch.cat(list(parts)) for parts in zip(*pairs, strict=True)]
    assert not torch.allclose(alone[0], alone[1], atol=1e-2)
    assert all(torch.equal(item, other) for item, other in zip(alone, together, strict=True))


def test_two_listeners_at_once_hear_what_each_hears_alone(make: Make) -> None:
    pipeline = in_its_own_thread(make(stream="windowed", length=Length(40)))
    streamer = streamer_of(pipeline)
    assert streamer is not None
    own = pipeline.tts.conds
    other = voice.copied(own)
    other.t3.speaker_emb = -other.t3.speaker_emb
    other.gen["embedding"] = -other.gen["embedding"]
    requests: tuple[tuple[int, int, Any], ...] = ((0, 3, own), (1, 4, other))
    alone = [streamer.speak(text, seed, 40, voice=v) for text, seed, v in requests]
    speeches: dict[int, Speech] = {}

    def listen(number: int) -> None:
        text, seed, v = requests[number]
        speeches[number] = streamer.speak(text, seed, 40, voice=v)

    threads = [threading.Thread(target=listen, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        assert torch.equal(speeches[number].tokens, alone[number].tokens)
        assert torch.equal(speeches[number].wave, alone[number].wave)
    assert pipeline.tts.conds is own


# ---------------------------------------------------------------------------------------- watermark


class Doubling:
    """In Perth's place: marks by doubling, and drops the end as its transform does."""

    def apply_watermark(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        return 2 * wav[: len(wav) // 320 * 320]


def test_each_chunk_is_marked_whole() -> None:
    wave = torch.rand(20_000)
    mark = StreamWatermark(Doubling())
    marked = torch.cat([mark(part) for part in torch.split(wave, [3840, 961, 7000, 8199])])
    assert torch.equal(marked, 2 * wave)


def test_the_mark_of_a_stream_can_be_read(make: Make) -> None:
    pipeline = make(stream="windowed", length=Length(75))
    wave = pipeline.speak(0, 3).wave[0].numpy()
    read = pipeline.tts.watermarker.get_watermark(wave, sample_rate=24_000, round=False)
    assert np.asarray(read).mean() > 0.7


# ---------------------------------------------------------------------------------------- integrity


def test_tokens_that_came_early_must_be_those_of_the_utterance(model: Any) -> None:
    stream = Stream(Windowed(model.synthesis, model.conds.gen, 1, EQUAL), EQUAL, Listener(), lambda s: s, model.t3)
    stream.receive(torch.tensor([[1, 2, 3]]), 0.0)
    with pytest.raises(CellError, match="came early"):
        stream.finish([1, 2, 4, 5])


def test_special_tokens_and_those_beyond_the_stop_are_not_spoken(model: Any) -> None:
    stream = Stream(Windowed(model.synthesis, model.conds.gen, 1, EQUAL), EQUAL, Listener(), lambda s: s, model.t3)
    stop = model.t3.hp.stop_speech_token
    stream.receive(torch.tensor([[1, SPEECH_TOKENS + 1 if stop != SPEECH_TOKENS + 1 else SPEECH_TOKENS, 2]]), 0.0)
    stream.receive(torch.tensor([[3, stop, 4, 5]]), 0.0)
    stream.finish([1, 2, 3])
    assert sum(chunk.tokens for chunk in stream.chunks) == 3


def test_an_utterance_without_speech_is_told(model: Any) -> None:
    stream = Stream(Windowed(model.synthesis, model.conds.gen, 1, EQUAL), EQUAL, Listener(), lambda s: s, model.t3)
    with pytest.raises(CellError, match="no speech token"):
        stream.finish([])


def test_a_stack_that_never_streamed_is_refused(make: Make) -> None:
    pipeline = make(stream="windowed")
    with pytest.raises(CellError, match="stream: windowed was asked for, and oneshot is what ran"):
        registry.BY_NAME["stream"].attest(pipeline, "windowed")
