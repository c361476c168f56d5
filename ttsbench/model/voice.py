"""The voice of a workload: the checkpoint's own, a wav, or a synthetic one of a given length."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile
import torch

from ttsbench.errors import CheckpointError
from ttsbench.instruments.swapping import swapped, wrapped
from ttsbench.model import checkpoint
from ttsbench.model.speech import SAMPLE_RATE_HZ
from ttsbench.records import measurements

ENCODER_RATE_HZ = 16_000
# More than the resampling filter reaches, at both of its two passes.
RESAMPLING_SECONDS = 0.1


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


@contextmanager
def clipped_loading(tts: Any) -> Iterator[None]:
    """Of a long reference only what S3Gen and T3 keep is read: 10 s, for Turbo 15 s, and a little to resample from.

    What is made for S3Gen, and T3's prompt, come out the same to the bit. The speaker's embedding, which upstream takes
    from all of the reference, does not, and Turbo's loudness, which it measures over all of it, does not either.
    """
    seconds = max(tts.DEC_COND_LEN / SAMPLE_RATE_HZ, tts.ENC_COND_LEN / ENCODER_RATE_HZ) + RESAMPLING_SECONDS
    with wrapped(librosa, "load", lambda load: functools.partial(load, duration=seconds)):
        yield


class Voices:
    """Conditioned voices of one model, each prepared once and known by its content.

    Every caller gets conditionals of its own: upstream keeps one set in the model, and changes it in place.
    """

    def __init__(self, tts: Any, *, clip: bool = False) -> None:
        self._tts = tts
        self._clip = clip
        self._held: dict[str, Any] = {}

    def of(self, wav: Path) -> Any:
        """From the cache, if these very bytes were prepared before."""
        key = digest(wav)
        if key not in self._held:
            self._held[key] = self.prepare(wav)
        return copied(self._held[key])

    def prepare(self, wav: Path) -> Any:
        """The model's own conditionals stay as they were."""
        with (
            swapped(self._tts, "conds", None),
            loudness_in_single_precision(self._tts),
            clipped_loading(self._tts) if self._clip else nullcontext(),
        ):
            self._tts.prepare_conditionals(str(wav))
            checkpoint.fit_conditionals(self._tts)
            return self._tts.conds


@dataclass(frozen=True)
class Reference:
    """The recording of a workload's voice, and the voices of its model."""

    voices: Voices
    wav: Path
    clipped: bool

    def describe(self, repeats: int = 3) -> measurements.VoicePreparation:
        """How long preparation takes, warm, and a look into the cache."""
        self.voices.of(self.wav)
        return measurements.VoicePreparation(
            sha256=digest(self.wav),
            reference_seconds=soundfile.info(self.wav).duration,
            clipped=self.clipped,
            prepare_seconds=tuple(_seconds(lambda: self.voices.prepare(self.wav)) for _ in range(repeats)),
            cached_seconds=tuple(_seconds(lambda: self.voices.of(self.wav)) for _ in range(repeats)),
        )


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def digest(wav: Path) -> str:
    """Stands for the content, wherever the file is."""
    return hashlib.sha256(wav.read_bytes()).hexdigest()


def copied(conditionals: Any) -> Any:
    """The same voice in conditionals of its own; tensors are never changed in place, and so are shared."""
    return type(conditionals)(dataclasses.replace(conditionals.t3), dict(conditionals.gen))


def prepare(tts: Any, *, wav: str, synthetic_seconds: float | None, clip: bool = False) -> Reference | None:
    """Conditions the model on the workload's voice; the checkpoint's own needs nothing."""
    if not wav and synthetic_seconds is None:
        if tts.conds is None:
            raise CheckpointError(
                "the checkpoint holds no voice (conds.pt)", mend="Give one: workload.voice: {wav: …} or {synthetic: 10}"
            )
        checkpoint.fit_conditionals(tts)
        return None
    path = Path(wav) if wav else synthesize(Path(_folder().name) / f"{synthetic_seconds:g}.wav", synthetic_seconds or 0)
    reference = Reference(Voices(tts, clip=clip), path, clip)
    tts.conds = reference.voices.of(path)
    return reference


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """For synthetic references, as long as the process lives."""
    return tempfile.TemporaryDirectory()
