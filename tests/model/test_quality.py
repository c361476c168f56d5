"""How far a stack is from the reference on the tiny model, and what of that is a fault."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.model import quality
from ttsbench.model.pipeline import Pipeline
from ttsbench.records.measurements import Quality

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Make = Callable[..., Pipeline]


_QUALITY = Quality(
    text_index=0, tokens=1, same_tokens=1, logits_relative_error=0.0, kl_mean=0.0, kl_max=0.0, top1_agreement=1.0,
    mel_distance=0.0, mel_relative_error=0.0, wave_snr_db=200.0, finite=True, silent=False,
)  # fmt: skip


@pytest.fixture
def make(make_pipeline: Make) -> Make:
    return functools.partial(make_pipeline, device=DEVICE)


def test_quality_tells_a_wrong_stack_from_a_right_one(make: Make) -> None:
    reference, wrong = make(), make(decode="lean")
    forced = reference.speak(0, 3).tokens.flatten()
    expected = {name: t.cpu() for name, t in quality.outputs(reference, 0, 3, forced).items()}
    limits = {"logits_relative_error_max": 1e-3, "kl_mean_max": 1e-6, "mel_distance_max": 1e-3}

    def judged() -> Any:
        wrong.speak(0, 3)
        return quality.judge(
            0, expected, {n: t.cpu() for n, t in quality.outputs(wrong, 0, 3, forced).items()}, forced.cpu()
        )

    assert quality.faults((judged(),), limits) == ()
    with torch.no_grad():
        wrong.tts.t3.tfmr.layers[1].mlp.down_proj.weight.mul_(1.5)
    faults = quality.faults((judged(),), limits)
    assert any("logits_relative_error" in fault for fault in faults)
    with torch.no_grad():
        wrong.tts.s3gen.flow.decoder.estimator.final_proj.weight.mul_(0.5)
    assert any("mel_distance" in fault for fault in quality.faults((judged(),), limits))


def test_a_wave_that_is_too_loud_clips_more_than_the_references(make: Make) -> None:
    reference = make()
    forced = reference.speak(0, 3).tokens.flatten()
    expected = {name: t.cpu() for name, t in quality.outputs(reference, 0, 3, forced).items()}
    loud = {**expected, "wave": (expected["wave"] * 1e4).clamp(-0.99, 0.99)}
    assert quality.judge(0, expected, expected, forced.cpu()).clipped_growth == 0
    assert quality.judge(0, expected, loud, forced.cpu()).clipped_growth > 0.1


def test_silence_and_nan_are_faults() -> None:
    assert quality.faults((_QUALITY,), {"top1_agreement_min": 0.9}) == ()
    broken = dataclasses.replace(_QUALITY, finite=False, silent=True, top1_agreement=0.5)
    assert len(quality.faults((broken,), {"top1_agreement_min": 0.9})) == 3
    assert quality.faults((dataclasses.replace(_QUALITY, clipped_growth=0.2),), {"clipped_growth_max": 0.01})
    nan = dataclasses.replace(_QUALITY, kl_mean=float("nan"))
    assert len(quality.faults((nan,), {"kl_mean_max": 1.0})) == 1
