"""Slot `watermark`: Perth's implicit watermark, which upstream computes on the host with two resamplings.

`gpu` runs Perth's own network on the model's device, and resamples there. The resampling filter is another than the
host's, so the samples differ; the mark is the same, and Perth reads it as before.
"""

from __future__ import annotations

from functools import partial

from ttsbench.errors import CellError
from ttsbench.optimizations.options import Evidence, Option, Slot
from ttsbench.optimizations.target import Target


def apply(target: Target, option: str) -> None:
    """Puts another watermarker, or none, where the package's `generate` looks for it."""
    from ttsbench.optimizations.parts.resampler import DeviceResampler, DeviceWatermarker, NoWatermark

    tts, undo = target.tts, target.undo
    if option == "off":
        undo.replace(tts, "watermarker", NoWatermark())
        return
    network = tts.watermarker.perth_net
    undo.callback(partial(network.to, network.device))
    undo.replace(tts, "watermarker", DeviceWatermarker(network.to(target.device), DeviceResampler(target.device)))


def attest(target: Target, option: str) -> Evidence:
    """By which watermarker `generate` calls, and where its network is."""
    from ttsbench.optimizations.parts.resampler import DeviceWatermarker, NoWatermark, ResampledWatermarker

    watermarker = target.tts.watermarker
    ran = {NoWatermark: "off", DeviceWatermarker: "gpu"}.get(type(watermarker), "on")
    replaced = isinstance(watermarker, NoWatermark | ResampledWatermarker)
    if ran != option or (replaced and watermarker.calls == 0):
        raise CellError(f"watermark: {option} was asked for, and {type(watermarker).__name__} is what ran")
    evidence = {"watermarker": f"{type(watermarker).__module__}.{type(watermarker).__qualname__}"}
    return evidence if option == "off" else evidence | {"network": str(watermarker.perth_net.device)}


SLOT = Slot(
    "watermark",
    "the Perth watermark",
    (
        Option("on", "as the package does: on the host"),
        Option(
            "gpu",
            "the same network on the device, with its resampling",
            changes_output="another resampling filter changes the wave around the watermark",
            needs_cuda=True,
        ),
        Option("off", "the wave as the vocoder made it", changes_output="the audio carries no watermark"),
    ),
    apply=apply,
    attest=attest,
)
