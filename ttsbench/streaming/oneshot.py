"""A whole utterance as a stream of one chunk, so that stacks that do not stream stand in the same tables."""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import SAMPLE_RATE_HZ, Speech
from ttsbench.records import measurements
from ttsbench.records.chunk_schedule import FRAMES_PER_TOKEN

DESIGN = "oneshot"


def as_stream(
    pipeline: Pipeline, speech: Speech, wall_seconds: float, stages: Mapping[str, measurements.StageTime]
) -> measurements.Streamed:
    """One chunk at the end; S3Gen began when T3 had ended."""
    began = sum(stages[stage].host_seconds for stage in ("text", "voice"))
    ended = began + sum(stages[stage].host_seconds for stage in ("prefill", "decode"))
    frames = FRAMES_PER_TOKEN * pipeline.vocoded_tokens()
    return measurements.Streamed(
        design=DESIGN,
        sample_rate_hz=SAMPLE_RATE_HZ,
        at_once=False,
        decode_began_seconds=began,
        decode_ended_seconds=ended,
        consumer_seconds=0.0,
        voice_seconds=stages["voice"].host_seconds,
        chunks=(
            measurements.Chunk(
                tokens=frames // FRAMES_PER_TOKEN,
                samples=speech.wave.shape[-1],
                flow_frames=frames + pipeline.tts.conds.gen["prompt_feat"].size(1),
                vocoder_frames=frames,
                began_seconds=ended,
                arrived_seconds=wall_seconds,
            ),
        ),
    )
