"""A whole utterance told as a stream of one chunk, so that stacks that do not stream stand in the same tables."""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench import measured
from ttsbench.pipeline import Pipeline
from ttsbench.spoken import SAMPLE_RATE_HZ, Spoken
from ttsbench.streaming.schedule import FRAMES_PER_TOKEN

DESIGN = "oneshot"


def told(
    pipeline: Pipeline, spoken: Spoken, wall_seconds: float, stages: Mapping[str, measured.StageTime]
) -> measured.Streamed:
    """Nothing was heard before all was there; S3Gen began when T3 had ended."""
    began = sum(stages[stage].host_seconds for stage in ("text", "voice"))
    ended = began + sum(stages[stage].host_seconds for stage in ("prefill", "decode"))
    frames = FRAMES_PER_TOKEN * pipeline.vocoded_tokens()
    return measured.Streamed(
        design=DESIGN,
        sample_rate_hz=SAMPLE_RATE_HZ,
        at_once=False,
        decode_began_seconds=began,
        decode_ended_seconds=ended,
        consumer_seconds=0.0,
        voice_seconds=stages["voice"].host_seconds,
        chunks=(
            measured.Chunk(
                tokens=frames // FRAMES_PER_TOKEN,
                samples=spoken.wave.shape[-1],
                flow_frames=frames + pipeline.tts.conds.gen["prompt_feat"].size(1),
                vocoder_frames=frames,
                began_seconds=ended,
                arrived_seconds=wall_seconds,
            ),
        ),
    )
