"""samples.csv: every utterance or forward, raw, one per line."""

from __future__ import annotations

import math
from typing import Any

from ttsbench.records.measurements import Request, Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import continuity, load_figures
from ttsbench.reports.formats.values import as_csv
from ttsbench.reports.readings import STAGES
from ttsbench.reports.tables.table import Table

UTTERANCE_FIELDS = (
    "text_index", "repeat", "seed", "wall_seconds", "audio_seconds", "rtf", "tokens", "tokens_sha256",
    "first_sample_seconds", "first_playable_seconds", "first_audible_seconds", "sm_clock_mhz",
    "pace_before_ns", "pace_ns",
)  # fmt: skip
FORWARD_FIELDS = (
    "rows", "positions", "steps", "repeat", "wall_seconds", "host_seconds", "device_seconds", "tokens_per_second",
    "peak_allocated_bytes",
)  # fmt: skip
# Empty for an utterance that was not a stream.
STREAM_FIELDS = (
    "design", "chunks", "flow_frames_per_second", "vocoder_frames_per_second", "overlap_share", "underrun_seconds",
    "prebuffer_seconds", "late_chunks", "voice_seconds", "consumer_seconds", "chunk_arrivals_seconds",
)  # fmt: skip
CALL_FIELDS = (
    "number", "text_index", "seed", "counted", "scheduled_seconds", "started_seconds", "finished_seconds", "tokens",
    "tokens_sha256",
)  # fmt: skip
CELL_FIELDS = ("stack", "point", "process", "order")


def samples(run: Run) -> str:
    if any(cell.forwards for cell in run.cells):
        forwards = (
            (*_of_cell(cell), *(getattr(forward, field) for field in FORWARD_FIELDS))
            for cell in run.cells
            for forward in cell.forwards
        )
        return as_csv(Table.of("", (*CELL_FIELDS, *FORWARD_FIELDS), tuple(forwards))).decode()
    if any(cell.load for cell in run.cells):
        return _of_loads(run)
    stage_columns = (f"{stage}_{clock}_seconds" for stage in STAGES for clock in ("host", "device"))
    streams = any(utterance.stream is not None for cell in run.cells for utterance in cell.utterances)
    of_a_stream = _of_stream if streams else lambda utterance: ()
    columns = (*CELL_FIELDS, *UTTERANCE_FIELDS, *stage_columns, *(STREAM_FIELDS if streams else ()))
    utterances = (
        (*_of_cell(cell), *_of_utterance(utterance), *of_a_stream(utterance))
        for cell in run.cells
        for utterance in cell.utterances
    )
    return as_csv(Table.of("", columns, tuple(utterances))).decode()


def _of_loads(run: Run) -> str:
    derived = ("audio_seconds", "first_audio_seconds", "rtf", "underrun_seconds", "arrivals_seconds")
    calls = (
        (*_of_cell(cell), level.kind, level.size, *_of_call(call))
        for cell in run.cells
        for level in (cell.load.levels if cell.load else ())
        for call in level.calls
    )
    return as_csv(Table.of("", (*CELL_FIELDS, "load", "size", *CALL_FIELDS, *derived), tuple(calls))).decode()


def _of_call(call: Request) -> tuple[Any, ...]:
    figures = (load_figures.ttfa(call), load_figures.rtf(call), load_figures.underrun(call))
    return (
        *(getattr(call, field) for field in CALL_FIELDS),
        sum(call.audio_seconds),
        *(None if math.isinf(figure) else figure for figure in figures),
        ";".join(f"{at:.6f}" for at in call.arrived_seconds),
    )


def _of_cell(cell: Cell) -> tuple[Any, ...]:
    return cell.stack, ";".join(f"{key}={value}" for key, value in cell.point.items()), cell.process, cell.order


def _of_utterance(utterance: Utterance) -> tuple[Any, ...]:
    times = [utterance.stages.get(stage) for stage in STAGES]
    clocks = (v for t in times for v in ((t.host_seconds, t.device_seconds) if t else (None, None)))
    return (*(getattr(utterance, field) for field in UTTERANCE_FIELDS), *clocks)


def _of_stream(utterance: Utterance) -> tuple[Any, ...]:
    stream, playback = utterance.stream, continuity.played(utterance)
    if stream is None:
        return (None,) * len(STREAM_FIELDS)
    return (
        stream.design,
        len(stream.chunks),
        continuity.flow_frames_per_second(stream),
        continuity.vocoder_frames_per_second(stream),
        continuity.overlap_share(stream),
        *(getattr(playback, field, None) for field in ("underrun_seconds", "prebuffer_seconds", "late_chunks")),
        stream.voice_seconds,
        stream.consumer_seconds,
        ";".join(f"{chunk.arrived_seconds:.6f}" for chunk in stream.chunks),
    )
