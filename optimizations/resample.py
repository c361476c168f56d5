"""Slot `resample`: where sample rates are changed, for the voice (to 24 and 16 kHz) and around the watermark (32 kHz).

Upstream resamples on the host with librosa, which means soxr. `gpu` uses torchaudio on the model's device. Its filter
is about as steep, and another all the same: the samples differ a little, and so may what is heard of the voice.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts.resampler import DeviceResampler, ResampledWatermarker, VoiceOnDevice

    tts = target.tts
    target.undo.replace(tts, "prepare_conditionals", VoiceOnDevice(tts, tts.prepare_conditionals))
    watermarker = ResampledWatermarker(tts.watermarker.perth_net, DeviceResampler(tts.device))
    target.undo.replace(tts, "watermarker", watermarker)


def attest(target: Target, option: str) -> Evidence:
    """By how often the device resampled, for the voice and around the watermark; not at all is an error."""
    from ttsbench.optimizations.parts.resampler import ResampledWatermarker, VoiceOnDevice

    prepare, watermarker = target.tts.prepare_conditionals, target.tts.watermarker
    voice = prepare.resampler.calls if isinstance(prepare, VoiceOnDevice) else 0
    watermark = watermarker.resampler.calls if isinstance(watermarker, ResampledWatermarker) else 0
    replaced = isinstance(prepare, VoiceOnDevice)
    if replaced != (option == "gpu") or (replaced and not voice + watermark):
        raise CellError(f"resample: {option} was asked for, and the device resampled {voice + watermark} times")
    return {"voice": voice, "watermark": watermark}


SLOT = Slot(
    "resample",
    "where sample rates are changed: for the voice, and around the watermark",
    (
        Option("librosa", "on the host, by soxr"),
        Option(
            "gpu",
            "on the device, by torchaudio",
            changes_output="another resampling filter changes the voice, and the wave around the watermark",
            needs_cuda=True,
        ),
    ),
    apply=apply,
    attest=attest,
)
