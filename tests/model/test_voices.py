"""Voices by content: prepared once, kept apart, clipped without a difference where upstream clips too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ttsbench.instruments.swapping import wrapped
from ttsbench.model import voice
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.model.voice import Voices
from ttsbench.records.chunk_schedule import Streaming


@pytest.fixture(scope="module")
def tts(load_tiny: Callable[..., Any]) -> Any:
    return load_tiny("chatterbox")


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voice.synthesize(tmp_path_factory.mktemp("voices") / "voice.wav", 2.0)


@pytest.fixture
def prepared(tts: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files were prepared."""
    loaded_paths: list[str] = []
    prepare = tts.prepare_conditionals

    def noting(path: str, **kwargs: Any) -> None:
        loaded_paths.append(path)
        prepare(path, **kwargs)

    monkeypatch.setattr(tts, "prepare_conditionals", noting)
    return loaded_paths


def test_a_voice_is_known_by_its_content(tts: Any, wav: Path, tmp_path: Path, prepared: list[str]) -> None:
    voices = Voices(tts)
    copy = shutil.copy(wav, tmp_path / "under another name.wav")
    first, again, copied = voices.of(wav), voices.of(wav), voices.of(Path(copy))
    assert prepared == [str(wav)]
    assert torch.equal(first.t3.speaker_emb, again.t3.speaker_emb)
    assert torch.equal(first.gen["prompt_feat"], copied.gen["prompt_feat"])
    other = voice.synthesize(tmp_path / "voice.wav", 2.0, seed=1)
    assert not torch.equal(voices.of(other).t3.speaker_emb, first.t3.speaker_emb)
    assert len(prepared) == 2


def test_a_file_that_changed_is_another_voice(tts: Any, tmp_path: Path, prepared: list[str]) -> None:
    voices, path = Voices(tts), tmp_path / "voice.wav"
    voices.of(voice.synthesize(path, 2.0))
    voices.of(voice.synthesize(path, 2.0, seed=1))
    assert len(prepared) == 2


def test_whoever_asks_gets_conditionals_of_its_own(tts: Any, wav: Path) -> None:
    voices, before = Voices(tts), tts.conds
    item, other = voices.of(wav), voices.of(wav)
    item.gen["embedding"] = torch.zeros(1)
    item.t3.emotion_adv = torch.zeros(1)
    assert other.gen["embedding"].numel() > 1
    assert voices.of(wav).t3.emotion_adv is not item.t3.emotion_adv
    assert tts.conds is before


def test_clipping_changes_only_what_upstream_takes_from_the_whole(tts: Any, tmp_path: Path) -> None:
    wav = voice.synthesize(tmp_path / "long.wav", 17.1)
    whole, clipped = (Voices(tts, clip=clip).prepare(wav) for clip in (False, True))
    for name in ("prompt_token", "prompt_feat", "embedding"):
        assert torch.equal(whole.gen[name], clipped.gen[name]), name
    assert torch.equal(whole.t3.cond_prompt_speech_tokens, clipped.t3.cond_prompt_speech_tokens)
    assert whole.gen["prompt_feat"].size(1) == 500
    assert not torch.equal(whole.t3.speaker_emb, clipped.t3.speaker_emb)
    assert torch.cosine_similarity(whole.t3.speaker_emb, clipped.t3.speaker_emb).item() > 0.99


def test_what_is_short_is_the_same_clipped_or_not(tts: Any, tmp_path: Path) -> None:
    wav = voice.synthesize(tmp_path / "short.wav", 6.5)
    whole, clipped = (Voices(tts, clip=clip).prepare(wav) for clip in (False, True))
    assert torch.equal(whole.t3.speaker_emb, clipped.t3.speaker_emb)
    assert torch.equal(whole.gen["prompt_feat"], clipped.gen["prompt_feat"])


def test_of_a_long_reference_no_more_is_read_than_is_kept(tts: Any, tmp_path: Path) -> None:
    import librosa

    wav, loaded = voice.synthesize(tmp_path / "long.wav", 30.0), list[float]()

    def wrap(load: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **kwargs: Any) -> Any:
            wave, rate = load(*args, **kwargs)
            loaded.append(len(wave) / rate)
            return wave, rate

        return noting

    with wrapped(librosa, "load", wrap):
        Voices(tts, clip=True).prepare(wav)
    assert loaded == [pytest.approx(10.1)]


def test_a_reference_says_what_its_preparation_takes(tts: Any, wav: Path) -> None:
    described = voice.Reference(Voices(tts), wav, clipped=False).describe(repeats=2)
    assert described.reference_seconds == pytest.approx(2.0)
    assert len(described.prepare_seconds) == len(described.cached_seconds) == 2
    assert max(described.cached_seconds) < min(described.prepare_seconds) / 5
    assert len(described.sha256) == 64


@pytest.mark.parametrize("afresh", [False, True])
def test_preparation_is_within_the_time_to_first_audio_when_asked(
    load_tiny: Callable[..., Any], make_pipeline: Callable[..., Pipeline], tmp_path: Path, afresh: bool
) -> None:
    model, wav = load_tiny(), voice.synthesize(tmp_path / "voice.wav", 2.0)
    reference = voice.prepare(model, wav=str(wav), synthetic_seconds=None)
    pipeline = make_pipeline(
        tts=model, texts=("One short sentence.",), length=Length(12), streaming=Streaming(prepare_voice=afresh),
        reference=reference, stream="windowed", dtype="bf16",
    )  # fmt: skip
    pipeline.speak(0, 0)
    streamed = pipeline.speak(0, 1).streamed
    assert streamed is not None
    assert reference is not None
    prepare = min(reference.describe(repeats=2).prepare_seconds)
    assert (streamed.voice_seconds > prepare / 3) == afresh
    assert streamed.decode_began_seconds >= streamed.voice_seconds
