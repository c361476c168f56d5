"""The voice of a workload: the checkpoint's own, a wav, or a synthetic one of a given length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ttsbench import checkpoint
from ttsbench.errors import CheckpointError
from ttsbench.swapping import wrapped

SAMPLE_RATE_HZ = 24_000


def synthesize(path: Path, seconds: float, seed: int = 0) -> Path:
    """A speech-like reference: a gliding voice of ten harmonics in syllables, with a little breath; always the same."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    pitch_hz = 120 + 20 * np.sin(2 * np.pi * 0.4 * t) + 5 * np.sin(2 * np.pi * 5 * t)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    voiced = sum(np.sin(k * phase) / k for k in range(1, 11))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t) + 0.4, 0, 1)
    wave = 0.25 * voiced * syllables + 0.003 * random.standard_normal(t.size)
    soundfile.write(path, wave.astype(np.float32), SAMPLE_RATE_HZ, subtype="PCM_16")
    return path


@contextmanager
def loudness_in_single_precision(tts: Any) -> Iterator[None]:
    """Turbo's loudness gain is a float64, which numpy 2 lets win over the wave's float32; its models refuse that."""
    if not hasattr(tts, "norm_loudness"):
        yield
        return

    def wrap(normalize: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda *args, **kwargs: np.asarray(normalize(*args, **kwargs), dtype=np.float32)

    with wrapped(tts, "norm_loudness", wrap):
        yield


def prepare(tts: Any, *, wav: str, synthetic_seconds: float | None) -> None:
    """Conditions the model on the workload's voice; the checkpoint's own needs nothing."""
    with loudness_in_single_precision(tts):
        if wav:
            tts.prepare_conditionals(wav)
        elif synthetic_seconds is not None:
            with tempfile.TemporaryDirectory() as folder:
                tts.prepare_conditionals(str(synthesize(Path(folder) / "voice.wav", synthetic_seconds)))
        elif tts.conds is None:
            raise CheckpointError(
                "the checkpoint holds no voice (conds.pt)", mend="Give one: workload.voice: {wav: …} or {synthetic: 10}"
            )
    checkpoint.fit_conditionals(tts)
