"""How faithful a stack is to the reference, which is fp32 upstream with the same weights, seeds and noise.

T3 is made to speak the reference's tokens, whatever it would have drawn, and the logits before each draw are compared;
S3Gen is given the reference's tokens and the same random stream, and its mel and wave are compared. So an early
difference does not make everything after it different, and each part answers for itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors

from ttsbench.errors import CellError
from ttsbench.instruments.swapping import wrapped
from ttsbench.model.audio import CLIP_LEVEL
from ttsbench.model.pipeline import Pipeline
from ttsbench.records import files, measurements

Tensors = dict[str, torch.Tensor]

# Of a wave that is equal to the last bit, and of one that has nothing in common.
SNR_DB_MAX, SNR_DB_MIN = 200.0, -200.0
SILENT_BELOW = 1e-4
PARTS = ("tokens", "logits", "mel", "wave")


def keep_reference(pipeline: Pipeline, seeds: list[int], folder: Path, name: str) -> None:
    """The outputs of the reference stack for each text, for others to be compared with."""
    kept: Tensors = {}
    for index, seed in enumerate(seeds):
        tokens = pipeline.speak(index, seed).tokens.flatten()
        for name, tensor in outputs(pipeline, index, seed, tokens).items():
            kept[f"{index}.{name}"] = tensor.contiguous().cpu()
    save(kept, folder, name)


def save(kept: Tensors, folder: Path, name: str) -> None:
    files.write_below(folder, name, safetensors.save(kept))


def compare(pipeline: Pipeline, seeds: list[int], file: Path) -> tuple[measurements.Quality, ...]:
    """One record per text."""
    reference = safetensors.load_file(file)
    judged = []
    for index, seed in enumerate(seeds):
        expected = {name: reference[f"{index}.{name}"] for name in PARTS}
        own_tokens = pipeline.speak(index, seed).tokens.flatten().cpu()
        own = {name: t.cpu() for name, t in outputs(pipeline, index, seed, expected["tokens"]).items()}
        same_shapes(expected, own)
        judged.append(judge(index, expected, own, own_tokens))
    return tuple(judged)


def outputs(pipeline: Pipeline, index: int, seed: int, tokens: torch.Tensor) -> Tensors:
    """Logits, mel and wave for these tokens."""
    forced = tuple(int(token) for token in tokens)
    with taken_logits(pipeline) as logits, pipeline.forcing(forced):
        pipeline.decode_only(index, seed, len(forced))
    mel, wave = mel_and_wave(pipeline, seed, tokens)
    guided = [pipeline.guided(rows).float() for rows in logits[: len(forced)]]
    return {"tokens": tokens.to(torch.int32), "logits": torch.cat(guided), "mel": mel, "wave": wave}


@contextmanager
def taken_logits(pipeline: Pipeline) -> Iterator[list[torch.Tensor]]:
    """The head's logits of every row, before each draw."""
    taken: list[torch.Tensor] = []
    with pipeline.showing_logits(lambda logits: taken.append(logits.detach().clone())):
        yield taken


def mel_and_wave(pipeline: Pipeline, seed: int, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """S3Gen's mel and wave for these tokens."""
    mels: list[torch.Tensor] = []

    def keep(call: Any) -> Any:
        def kept(*args: Any, **kwargs: Any) -> Any:
            mels.append(call(*args, **kwargs))
            return mels[-1]

        return kept

    with wrapped(pipeline.tts.s3gen, "flow_inference", keep):
        wave = pipeline.vocode(seed, tokens)
    return mels[-1].float(), wave.float()


def same_shapes(expected: Tensors, own: Tensors) -> None:
    """Refuses a stack that made more or less than the reference's tokens ask for."""
    for name in PARTS:
        if expected[name].shape != own[name].shape:
            shape, other = tuple(own[name].shape), tuple(expected[name].shape)
            raise CellError(f"quality: from the reference's tokens came {name} of shape {shape}, not {other}")


def judge(index: int, expected: Tensors, own: Tensors, own_tokens: torch.Tensor) -> measurements.Quality:
    """From tensors on the host."""
    logits, expected_logits = own["logits"].double(), expected["logits"].double()
    divergence = kl_divergence(expected_logits, logits)
    mel, wave = own["mel"].double(), own["wave"].double()
    return measurements.Quality(
        text_index=index,
        tokens=int(expected["tokens"].numel()),
        same_tokens=same_prefix(expected["tokens"], own_tokens),
        logits_relative_error=relative_error(logits, expected_logits),
        kl_mean=float(divergence.mean()),
        kl_max=float(divergence.max()),
        top1_agreement=float((logits.argmax(-1) == expected_logits.argmax(-1)).double().mean()),
        mel_distance=mean_distance(mel, expected["mel"].double()),
        mel_relative_error=relative_error(mel, expected["mel"].double()),
        wave_snr_db=snr_db(wave, expected["wave"].double()),
        finite=all(bool(torch.isfinite(part).all()) for part in (logits, mel, wave)),
        silent=bool(wave.abs().max() < SILENT_BELOW),
        clipped_growth=clipped_share(wave) - clipped_share(expected["wave"]),
    )


def kl_divergence(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Nats per step: what is lost by taking the other distribution for the reference's."""
    p, q = torch.log_softmax(reference, -1), torch.log_softmax(other, -1)
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)


def relative_error(other: torch.Tensor, reference: torch.Tensor) -> float:
    """‖other − reference‖ ÷ ‖reference‖."""
    return float((other - reference).norm() / reference.norm().clamp_min(torch.finfo(torch.float64).tiny))


def mean_distance(other: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean absolute difference, in the units of a log mel."""
    return float((other - reference).abs().mean())


def clipped_share(wave: torch.Tensor) -> float:
    return float((wave.abs() >= CLIP_LEVEL).double().mean())


def snr_db(other: torch.Tensor, reference: torch.Tensor) -> float:
    """The reference's power over the difference's."""
    noise, signal = float((other - reference).square().sum()), float(reference.square().sum())
    if noise == 0 or signal == 0:
        return SNR_DB_MIN if noise else SNR_DB_MAX
    return min(max(10 * math.log10(signal / noise), SNR_DB_MIN), SNR_DB_MAX)


def same_prefix(own: torch.Tensor, reference: torch.Tensor) -> int:
    """How many tokens agree before the first that does not."""
    shared = min(own.numel(), reference.numel())
    differs = (own[:shared].long() != reference[:shared].long()).nonzero()
    return int(differs[0]) if differs.numel() else shared


def faults(judged: tuple[measurements.Quality, ...], limits: dict[str, float]) -> tuple[str, ...]:
    """Figures beyond their limits; a wave that is no sound is always one."""
    sentences = []
    for text in judged:
        where = f"text {text.text_index}"
        if not text.finite:
            sentences.append(f"{where}: some values are no numbers")
        if text.silent:
            sentences.append(f"{where}: the wave is silent")
        sentences += [f"{where}: {fault}" for fault in beyond(text, limits)]
    return tuple(sentences)


def beyond(judged: Any, limits: dict[str, float]) -> Iterator[str]:
    """One sentence for each figure beyond its limit."""
    for name, limit in limits.items():
        figure, lowest = name.removesuffix("_max").removesuffix("_min"), name.endswith("_min")
        value = getattr(judged, figure, None)
        if value is None:  # of something else that is judged
            continue
        if value < limit if lowest else not value <= limit:
            yield f"{figure} is {value:.3g}; {'at least' if lowest else 'at most'} {limit:g} is asked"


def compare_hidden(hidden: torch.Tensor, file: Path) -> measurements.ForwardQuality:
    expected, own = safetensors.load_file(file)["hidden"].double(), hidden.double()
    return measurements.ForwardQuality(
        hidden_relative_error=relative_error(own, expected),
        hidden_max_difference=float((own - expected).abs().max()),
        finite=bool(torch.isfinite(own).all()),
    )


def hidden_faults(judged: measurements.ForwardQuality, limits: dict[str, float]) -> tuple[str, ...]:
    return (*(() if judged.finite else ("some hidden states are no numbers",)), *beyond(judged, limits))
