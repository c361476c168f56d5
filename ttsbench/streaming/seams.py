"""What a stream's seams do to its sound: its mel beside that of the same tokens, voice and noise at once.

Both waves are taken before any watermark. A seam is where one chunk ends and the next begins; the mel frames whose
transform covers it are at the seam, all others are away from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.model.quality import snr_db
from ttsbench.model.voice import copied
from ttsbench.records import measurements
from ttsbench.records.chunk_schedule import SAMPLES_PER_FRAME, Cutter, Streaming
from ttsbench.streaming.designs import Design
from ttsbench.streaming.streamer import streamer_of
from ttsbench.streaming.synthesis import Conditions, Synthesis, with_prompt_tokens

# The transform of a mel frame spans 80 ms, four frames.
REACH_FRAMES = 2.0
# Nearer than this in log mel, a seam is no seam, whatever it is a multiple of.
INAUDIBLE = 1e-2
LIMIT = "seam_ratio_max"
# Of fewer, each with four frames, chance alone moves the ratio by more than that.
SEAMS_MIN = 4


def judge(pipeline: Pipeline, seeds: Sequence[int]) -> tuple[measurements.Seams, ...]:
    """One record per text."""
    streamer = streamer_of(pipeline)
    assert streamer is not None
    judged = []
    for index, seed in enumerate(seeds):
        arguments, _ = pipeline.decode(index, seed, pipeline.length.limit(index))
        tokens, voice = arguments["speech_tokens"].tolist(), copied(pipeline.tts.conds).gen
        design = streamer.new_design(voice, seed)
        wave, seams = chunked(design, tokens, pipeline.streaming)
        whole = at_once(streamer.synthesis, tokens, voice, seed)
        judged.append(compare(index, wave, whole, seams, pipeline.tts.s3gen.mel_extractor))
    return tuple(judged)


def at_once(synthesis: Synthesis, tokens: Sequence[int], voice: Conditions, seed: int) -> torch.Tensor:
    """What a stream is compared with: all tokens at once, with all of the reference."""
    return synthesis.whole(tokens, with_prompt_tokens(voice, None), synthesis.noise(seed))


def chunked(design: Design, tokens: Sequence[int], streaming: Streaming) -> tuple[torch.Tensor, list[int]]:
    """The wave in the chunks of a stream, and the samples at which chunks meet."""
    cutter, done = Cutter(streaming, design.lookahead_tokens), 0
    pieces: list[torch.Tensor] = []
    while (end_token := cutter.due(done, len(tokens))) is not None:
        pieces.append(design.speak(tokens, end_token, final=False).samples)
        done = end_token
    if done < len(tokens):
        pieces.append(design.speak(tokens, len(tokens), final=True).samples)
    ends = torch.tensor([piece.numel() for piece in pieces]).cumsum(0).tolist()
    return torch.cat(pieces), ends[:-1]


def compare(
    index: int, wave: torch.Tensor, whole: torch.Tensor, seams: Sequence[int], mel_of: Any
) -> measurements.Seams:
    """Distances of log mels, at the seams and away from them."""
    wave, whole = wave.float().cpu(), whole.float().cpu()
    length = min(wave.numel(), whole.numel())
    distance = (mel_of(wave[None, :length]) - mel_of(whole[None, :length]))[0].abs().mean(dim=0).double()
    centres = (torch.arange(distance.numel()) + 0.5) * SAMPLES_PER_FRAME
    reach = REACH_FRAMES * SAMPLES_PER_FRAME
    at = [(centres - seam).abs() <= reach for seam in seams]
    away = ~torch.stack(at).any(dim=0) if at else torch.ones_like(centres, dtype=torch.bool)
    ends = [0, *seams, length]
    chunks = [(centres > first) & (centres < last) & away for first, last in zip(ends, ends[2:], strict=False)]
    return measurements.Seams(
        text_index=index,
        seams=len(seams),
        at_seams=_mean([distance[frames] for frames in at]),
        beside=_mean([distance[frames] for frames in chunks]),
        away=_mean([distance[away]]),
        wave_snr_db=snr_db(wave[:length].double(), whole[:length].double()),
    )


def _mean(parts: Sequence[torch.Tensor]) -> float:
    """The mean of the parts' means; parts without frames do not count."""
    means = [float(part.mean()) for part in parts if part.numel()]
    return sum(means) / len(means) if means else 0.0


def faults(judged: Sequence[measurements.Seams], limits: dict[str, float]) -> tuple[str, ...]:
    """Seams that stand out more than the scenario allows."""
    limit = limits.get(LIMIT)
    if limit is None:
        return ()
    return tuple(
        f"text {text.text_index}: at its seams the mel is {text.seam_ratio:.2f} times as far off as beside them; "
        f"at most {limit:g} is asked"
        for text in judged
        if text.seam_ratio > limit and text.seams >= SEAMS_MIN and text.at_seams > INAUDIBLE
    )
