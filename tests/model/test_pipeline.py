"""The real modules at tiny size: stages, length control and the lean loop against upstream's."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline, staged
from ttsbench.model import checkpoint
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SPEECH_TOKENS, Speech
from ttsbench.optimizations import analyzer, decode, watermark
from ttsbench.records.jobs import Job
from ttsbench.records.measurements import RESIDUAL, STAGES
from ttsbench.running.cells import utterance

FAMILIES = ("chatterbox", "turbo", "nano", "multilingual")
TEXT = "Two words, and then some more."

Make = Callable[..., Pipeline]


@pytest.fixture
def make(make_pipeline: Make) -> Make:
    """A fresh pipeline: options and length control change the live object."""
    return functools.partial(make_pipeline, texts=(TEXT,), length=Length(fixed=8))


def same(item: Speech, other: Speech) -> bool:
    return torch.equal(item.tokens.flatten(), other.tokens.flatten()) and torch.equal(item.wave, other.wave)


@pytest.mark.parametrize("family", FAMILIES)
def test_lean_draws_upstreams_tokens_and_makes_its_wave(make: Make, family: str) -> None:
    upstream, lean = make(family).speak(0, 3), make(family, decode="lean").speak(0, 3)
    assert upstream.tokens.numel() == 8
    assert same(upstream, lean)


@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
def test_lean_keeps_in_step_over_200_tokens(make: Make, family: str) -> None:
    length = Length(fixed=200)
    pipelines = make(family, length=length), make(family, length=length, decode="lean")
    for pipeline in pipelines:
        pipeline.tts.s3gen.inference = lambda **_: (torch.zeros(1, 960), None)
    first, second = (pipeline.speak(0, 1).tokens.flatten() for pipeline in pipelines)
    assert torch.equal(first, second)


@pytest.mark.parametrize("family", ["chatterbox", "turbo", "multilingual"])
def test_lean_stops_where_upstream_stops(make: Make, make_stop_likely: Callable[[Any], None], family: str) -> None:
    """With the stop token made likely, both end at the same place, long before the limit."""
    uttered = []
    for slots in ({}, {"decode": "lean"}):
        pipeline = make(family, length=Length(), **slots)
        make_stop_likely(pipeline.tts.t3)
        pipeline.tts.s3gen.inference = lambda **_: (torch.zeros(1, 960), None)
        uttered.append(pipeline.speak(0, 5).tokens.flatten())
    assert torch.equal(*uttered)
    assert 1 <= uttered[0].numel() < 1000


@pytest.mark.parametrize(
    "sampling", [{"temperature": 1.0}, {"top_p": 0.8}, {"min_p": 0.2, "repetition_penalty": 2.0}, {"cfg_weight": 1.5}]
)
def test_lean_follows_the_sampling(make: Make, sampling: dict[str, float]) -> None:
    assert same(make(sampling=sampling).speak(0, 0), make(sampling=sampling, decode="lean").speak(0, 0))


def test_sampling_takes_effect(make: Make) -> None:
    plain, hot = make(decode="lean").speak(0, 0), make(decode="lean", sampling={"temperature": 5.0}).speak(0, 0)
    assert not torch.equal(plain.tokens, hot.tokens)


def test_lean_runs_without_guidance(make: Make) -> None:
    uttered = make(decode="lean", sampling={"cfg_weight": 0.0}).speak(0, 0)
    assert uttered.tokens.numel() == 8
    assert torch.isfinite(uttered.wave).all()


def test_without_guidance_one_row_gives_what_two_rows_give_at_weight_zero(make: Make) -> None:
    """Guidance by a weight of nothing is no guidance; 1e-30 keeps upstream's two rows."""
    alone = make(decode="lean", sampling={"cfg_weight": 0.0}).speak(0, 0)
    assert torch.equal(alone.tokens, make(sampling={"cfg_weight": 1e-30}).speak(0, 0).tokens)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", [{}, {"decode": "lean"}])
def test_a_fixed_length_is_kept_by_every_stack(make: Make, family: str, slots: dict[str, str]) -> None:
    pipeline = make(family, length=Length(fixed=11), **slots)
    uttered = pipeline.speak(0, 0)
    silence = 3 if family in ("turbo", "nano") else 0
    assert uttered.tokens.numel() == 11
    assert int(uttered.tokens.max()) < SPEECH_TOKENS
    assert uttered.audio_seconds == pytest.approx((11 + silence) / 25)


@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
@pytest.mark.parametrize("slots", [{}, {"decode": "lean"}])
def test_replay_speaks_the_given_tokens(make: Make, family: str, slots: dict[str, str]) -> None:
    forced = (5, 900, 6560, 0, 5, 5)
    pipeline = make(family, length=Length(replay=(forced,)), **slots)
    assert pipeline.speak(0, 0).tokens.flatten().tolist() == list(forced)
    assert pipeline.speak(0, 1).tokens.flatten().tolist() == list(forced)


def test_drawing_is_upstreams_again_after_a_replay(make: Make) -> None:
    draw = torch.multinomial
    make(length=Length(replay=((1, 2),))).speak(0, 0)
    assert torch.multinomial is draw


def test_the_same_seed_says_the_same(make: Make) -> None:
    pipeline = make()
    assert same(pipeline.speak(0, 7), pipeline.speak(0, 7))
    assert not same(pipeline.speak(0, 7), pipeline.speak(0, 8))


def test_the_devices_pace_is_read_before_and_after_each_utterance(
    make: Make, make_job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        def __init__(self, device: torch.device) -> None:
            self._readings = itertools.count(1.0)

        def read(self) -> float:
            return next(self._readings)

    monkeypatch.setattr("ttsbench.instruments.pace.Pace", Counting)
    fields = utterance.time_pass(make_job(texts=(TEXT,), repeats=3), make(), lambda stage: None, {})
    assert [u.paces_ns for u in fields["utterances"]] == [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("slots", [{}, {"decode": "lean"}])
def test_every_stage_is_seen_and_they_add_up(make: Make, family: str, slots: dict[str, str]) -> None:
    pipeline, timeline = make(family, **slots), Timeline(torch.device("cpu"))
    pipeline.speak(0, 0)
    _, wall_seconds = pipeline.speak_timed(0, 0, timeline)
    stages = timeline.stages()
    assert sum(stage.host_seconds for stage in stages.values()) == pytest.approx(wall_seconds, rel=1e-9)
    assert all(stages[name].host_seconds > 0 for name in STAGES if name != "voice")
    assert stages[RESIDUAL].host_seconds < 0.05 * wall_seconds
    assert timeline.prompt_rows == (1 if family in ("turbo", "nano") else 2)
    assert timeline.prompt_length > 1


def test_timing_changes_nothing_that_is_said(make: Make) -> None:
    pipeline = make()
    timed, _ = pipeline.speak_timed(0, 4, Timeline(torch.device("cpu")))
    assert same(timed, pipeline.speak(0, 4))


def test_all_wrappers_come_off_again(make: Make) -> None:
    pipeline = make()
    tts = pipeline.tts
    watched = (tts, tts.t3, tts.t3.tfmr, tts.s3gen, tts.s3gen.flow.decoder, tts.watermarker)
    pipeline.speak(0, 0)
    before = [{k: v for k, v in vars(owner).items() if callable(v)} for owner in watched]
    pipeline.speak_timed(0, 0, Timeline(torch.device("cpu")))
    assert [{k: v for k, v in vars(owner).items() if callable(v)} for owner in watched] == before


def test_wrappers_come_off_when_the_model_fails(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make()
    pipeline.speak(0, 0)
    tts = pipeline.tts

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(tts.s3gen.flow.encoder, "forward", fail)
    with pytest.raises(RuntimeError, match="no"):
        pipeline.speak_timed(0, 0, Timeline(torch.device("cpu")))
    assert "flow_inference" not in vars(tts.s3gen)
    assert "forward" not in vars(tts.t3.tfmr)


def test_a_slow_stage_is_charged_with_its_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    pipeline, timeline = make(), Timeline(torch.device("cpu"))
    vocode = pipeline.tts.s3gen.mel2wav.inference

    def slowly(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return vocode(*args, **kwargs)

    pipeline.speak_timed(0, 0, timeline)
    before = timeline.stages()
    monkeypatch.setattr(pipeline.tts.s3gen.mel2wav, "inference", slowly)
    pipeline.speak_timed(0, 0, timeline)
    more = {name: time.host_seconds - before[name].host_seconds for name, time in timeline.stages().items()}
    assert max(more, key=lambda name: more[name]) == "vocoder"
    assert more["vocoder"] == pytest.approx(0.2, abs=0.15)


def test_the_voice_stage_is_charged_when_a_call_prepares_one(make: Make, tmp_path: Any) -> None:
    from ttsbench.model import voice

    pipeline, timeline = make(), Timeline(torch.device("cpu"))
    wav = voice.synthesize(tmp_path / "voice.wav", 2.0)
    with staged(pipeline.tts, timeline):
        timeline.start()
        pipeline.tts.generate(TEXT, audio_prompt_path=str(wav))
        timeline.stop()
    assert timeline.stages()["voice"].host_seconds > 0.01


def test_multilingual_upstream_leaks_hooks_and_lean_does_not(make: Make) -> None:
    def hooks(pipeline: Pipeline) -> int:
        return sum(len(module._forward_hooks) for module in pipeline.tts.t3.modules())

    upstream, lean = make("multilingual"), make("multilingual", decode="lean")
    grown = []
    for pipeline in (upstream, lean):
        pipeline.speak(0, 0)
        before = hooks(pipeline)
        pipeline.speak(0, 1)
        grown.append(hooks(pipeline) - before)
    assert grown[0] > 0
    assert grown[1] == 0
    assert lean.tts.t3.tfmr.config._attn_implementation == "sdpa"


def test_the_analyzer_off_looks_at_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from chatterbox.models.t3.inference.alignment_stream_analyzer import AlignmentStreamAnalyzer

    looks = []

    def look(self: Any, logits: torch.Tensor, next_token: int | None = None) -> torch.Tensor:
        looks.append(next_token)
        return logits

    monkeypatch.setattr(AlignmentStreamAnalyzer, "step", look)
    make("multilingual", decode="lean").speak(0, 0)
    assert len(looks) == 8
    pipeline = make("multilingual", decode="lean", analyzer="off")
    pipeline.speak(0, 0)
    assert len(looks) == 8
    assert analyzer.attest(pipeline, "off") == {"watching": False, "attention": "sdpa"}


def test_no_watermark_means_none(make: Make) -> None:
    marked, plain = make().speak(0, 0), make(watermark="off").speak(0, 0)
    assert torch.equal(marked.tokens, plain.tokens)
    assert not torch.equal(marked.wave, plain.wave)


@pytest.mark.parametrize(
    ("module", "slots", "option"),
    [
        (decode, {}, "lean"),
        (decode, {"decode": "lean"}, "upstream"),
        (watermark, {}, "off"),
        (watermark, {"watermark": "off"}, "on"),
    ],
)
def test_an_option_that_did_not_run_is_refused(make: Make, module: Any, slots: dict[str, str], option: str) -> None:
    pipeline = make(**slots)
    pipeline.speak(0, 0)
    with pytest.raises(CellError, match="is what ran"):
        module.attest(pipeline, option)


def test_an_option_that_was_never_called_is_refused(make: Make) -> None:
    with pytest.raises(CellError, match="is what ran"):
        decode.attest(make(decode="lean"), "lean")
    with pytest.raises(CellError, match="is what ran"):
        watermark.attest(make(watermark="off"), "off")


def test_half_precision_speaks_with_any_exaggeration(make: Make) -> None:
    folder = checkpoint.ensure("chatterbox", "tiny", "bf16", 0)
    tts = checkpoint.load(folder, "chatterbox", "cpu")
    pipeline = make(tts=tts, length=Length(fixed=5), sampling={"exaggeration": 0.7})
    assert torch.isfinite(pipeline.speak(0, 0).wave).all()
    assert tts.t3.speech_head.weight.dtype == torch.bfloat16


def test_an_argument_the_family_does_not_take_is_refused(make: Make) -> None:
    with pytest.raises(CellError, match="takes no top_k"):
        make(sampling={"top_k": 5})


def test_the_kv_cache_is_counted_from_shapes(make: Make) -> None:
    pipeline = make()
    assert pipeline.kv_cache_bytes() is None
    for positions in (30, 48, 41):
        pipeline.note_cache(2, positions)
    # 4 layers, 2 rows, 2 heads of 64, 48 positions, keys and values of 4 bytes.
    assert pipeline.kv_cache_bytes() == 2 * 4 * 2 * 2 * 64 * 48 * 4
