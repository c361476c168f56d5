"""Where the host's and the device's arithmetic meet: the voice and the watermark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_s3gen import Slotted, attest, off_by
from ttsbench.errors import CellError
from ttsbench.model import voice
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry

pytest_plugins = ("tiny_s3gen",)


def spoken(pipeline: Pipeline) -> np.ndarray:
    """Two seconds of breath in syllables; Perth takes unmarked tones for marked ones, and this not."""
    breath = np.cumsum(np.random.default_rng(0).standard_normal(48_000))
    breath -= np.convolve(breath, np.ones(200) / 200, mode="same")
    wave = 0.02 * breath * np.sin(2 * np.pi * 3 * np.arange(48_000) / 24_000) ** 2
    marked: np.ndarray = pipeline.tts.watermarker.apply_watermark(wave.astype(np.float32), sample_rate=24_000)
    return marked


def read_mark(wave: np.ndarray) -> float:
    import perth

    return float(np.mean(perth.PerthImplicitWatermarker().get_watermark(wave, 24_000, round=False)))


@pytest.mark.parametrize("slots", [{"watermark": "gpu"}, {"resample": "gpu"}, {"resample": "gpu", "watermark": "gpu"}])
def test_the_mark_set_on_the_device_is_read_by_perth(slotted: Slotted, slots: dict[str, str]) -> None:
    host, device = spoken(slotted()), slotted(**slots)
    marked = spoken(device)
    assert read_mark(host) > 0.9
    assert read_mark(marked) > 0.9
    assert marked.shape == host.shape
    assert marked.dtype == host.dtype
    assert 1e-7 < off_by(torch.from_numpy(marked), torch.from_numpy(host)) < 0.01
    for slot in ("resample", "watermark"):
        attest(device, slot, slots.get(slot, registry.BY_NAME[slot].default))


def test_no_mark_is_read_where_none_was_set(slotted: Slotted) -> None:
    assert read_mark(spoken(slotted(watermark="off"))) < 0.1


def test_a_voice_is_resampled_on_the_device_and_librosa_comes_back(slotted: Slotted, tmp_path: Path) -> None:
    """An odd rate, so that both of upstream's resamplings have work to do."""
    import librosa
    import soundfile
    from chatterbox import tts as upstream_module

    wave, rate_hz = soundfile.read(voice.synthesize(tmp_path / "24k.wav", 3.0))
    path = str(tmp_path / "22k.wav")
    soundfile.write(path, librosa.resample(wave, orig_sr=rate_hz, target_sr=22_050), 22_050)
    host, device = slotted(), slotted(resample="gpu")
    for pipeline in (host, device):
        pipeline.tts.prepare_conditionals(path)
    assert upstream_module.librosa is librosa
    assert attest(device, "resample", "gpu") == {"voice": 2, "watermark": 0}
    expected, heard = (pipeline.tts.conds.gen["prompt_feat"] for pipeline in (host, device))
    assert 1e-7 < off_by(heard, expected) < 0.02
    assert off_by(device.tts.conds.t3.speaker_emb, host.tts.conds.t3.speaker_emb) < 0.02


@pytest.mark.parametrize(("slot", "option"), [("resample", "gpu"), ("watermark", "gpu")])
def test_what_the_device_never_did_is_refused(slotted: Slotted, slot: str, option: str) -> None:
    for pipeline in (slotted(), slotted(**{slot: option})):
        with pytest.raises(CellError, match=f"{slot}: {option} was asked for"):
            attest(pipeline, slot, option)


def test_the_network_stays_on_the_host_unless_the_watermark_moves(slotted: Slotted) -> None:
    pipeline = slotted(resample="gpu")
    spoken(pipeline)
    with pytest.raises(CellError, match="gpu was asked for, and ResampledWatermarker is what ran"):
        attest(pipeline, "watermark", "gpu")


@pytest.mark.gpu
def test_gpu_the_mark_set_on_the_device_is_read_by_perth(slotted_on_gpu: Slotted) -> None:
    pipeline = slotted_on_gpu(watermark="gpu")
    assert read_mark(spoken(pipeline)) > 0.9
    assert attest(pipeline, "watermark", "gpu")["network"].startswith("cuda")
