"""samples.csv: every utterance or forward, raw, one per line."""

from __future__ import annotations

import csv
import io
from typing import Any

from ttsbench.records import Cell, Run, Utterance
from ttsbench.reports import continuity
from ttsbench.reports.metrics import STAGES

UTTERANCE_FIELDS = (
    "text_index", "repeat", "seed", "wall_seconds", "audio_seconds", "rtf", "tokens", "tokens_sha256",
    "first_sample_seconds", "first_playable_seconds", "first_audible_seconds", "sm_clock_mhz",
)  # fmt: skip
FORWARD_FIELDS = (
    "rows", "positions", "steps", "repeat", "wall_seconds", "host_seconds", "device_seconds", "tokens_per_second",
    "peak_allocated_bytes",
)  # fmt: skip
# Empty for an utterance that came all at once and was not asked to be told as a stream.
STREAM_FIELDS = (
    "design", "chunks", "flow_frames_per_second", "vocoder_frames_per_second", "overlap_share", "underrun_seconds",
    "prebuffer_seconds", "late_chunks", "voice_seconds", "consumer_seconds", "chunk_arrivals_seconds",
)  # fmt: skip
CELL_FIELDS = ("stack", "point", "process", "order")


def samples(run: Run) -> str:
    """The file's text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    if any(cell.forwards for cell in run.cells):
        writer.writerow([*CELL_FIELDS, *FORWARD_FIELDS])
        writer.writerows(
            [*_of_cell(cell), *(getattr(forward, field) for field in FORWARD_FIELDS)]
            for cell in run.cells
            for forward in cell.forwards
        )
        return file.getvalue()
    stage_columns = [f"{stage}_{clock}_seconds" for stage in STAGES for clock in ("host", "device")]
    streams = any(utterance.stream is not None for cell in run.cells for utterance in cell.utterances)
    stream_columns = STREAM_FIELDS if streams else ()
    writer.writerow([*CELL_FIELDS, *UTTERANCE_FIELDS, *stage_columns, *stream_columns])
    for cell in run.cells:
        for utterance in cell.utterances:
            times = [utterance.stages.get(stage) for stage in STAGES]
            writer.writerow(
                _of_cell(cell)
                + [getattr(utterance, field) for field in UTTERANCE_FIELDS]
                + [v for t in times for v in ((t.host_seconds, t.device_seconds) if t else (None, None))]
                + (_of_stream(utterance) if streams else [])
            )
    return file.getvalue()


def _of_stream(utterance: Utterance) -> list[Any]:
    stream, playback = utterance.stream, continuity.played(utterance)
    if stream is None:
        return [None] * len(STREAM_FIELDS)
    return [
        stream.design,
        len(stream.chunks),
        continuity.flow_frames_per_second(stream),
        continuity.vocoder_frames_per_second(stream),
        continuity.overlap_share(stream),
        *(getattr(playback, field, None) for field in ("underrun_seconds", "prebuffer_seconds", "late_chunks")),
        stream.voice_seconds,
        stream.consumer_seconds,
        ";".join(f"{chunk.arrived_seconds:.6f}" for chunk in stream.chunks),
    ]


def _of_cell(cell: Cell) -> list[Any]:
    return [cell.stack, ";".join(f"{key}={value}" for key, value in cell.point.items()), cell.process, cell.order]
