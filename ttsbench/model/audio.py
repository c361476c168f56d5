"""Waves for listening, and the checks that need no reference."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
import torch

from ttsbench.model.speech import AUDIBLE_LEVEL, SAMPLE_RATE_HZ
from ttsbench.records import files, measurements

CLIP_LEVEL = 0.989  # HiFT clamps at 0.99


def keep(wave: torch.Tensor, text_index: int, folder: Path, name: str) -> measurements.Audio:
    """Writes the wave below the folder and describes it."""
    samples = wave.detach().to("cpu", torch.float32).reshape(-1).numpy()
    finite = bool(np.isfinite(samples).all())
    level = np.abs(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=1.0))
    sound = io.BytesIO()
    soundfile.write(sound, np.nan_to_num(samples), SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    files.write_below(folder, name, sound.getvalue())
    return measurements.Audio(
        text_index=text_index,
        path=name,
        sample_rate_hz=SAMPLE_RATE_HZ,
        seconds=samples.size / SAMPLE_RATE_HZ,
        finite=finite,
        peak=float(level.max(initial=0.0)),
        rms=float(np.sqrt(np.mean(level**2))) if samples.size else 0.0,
        silent_share=float(np.mean(level <= AUDIBLE_LEVEL)) if samples.size else 1.0,
        clipped_share=float(np.mean(level >= CLIP_LEVEL)) if samples.size else 0.0,
    )
