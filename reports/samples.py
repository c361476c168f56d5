"""samples.csv: every utterance or forward, raw, one per line."""

from __future__ import annotations

from typing import Any

from ttsbench.records import Cell, Run, Utterance
from ttsbench.reports.metrics import STAGES
from ttsbench.reports.rows import Rows, as_csv

UTTERANCE_FIELDS = (
    "text_index", "repeat", "seed", "wall_seconds", "audio_seconds", "rtf", "tokens", "tokens_sha256",
    "first_sample_seconds", "first_playable_seconds", "first_audible_seconds", "sm_clock_mhz",
)  # fmt: skip
FORWARD_FIELDS = (
    "rows", "positions", "steps", "repeat", "wall_seconds", "host_seconds", "device_seconds", "tokens_per_second",
    "peak_allocated_bytes",
)  # fmt: skip
CELL_FIELDS = ("stack", "point", "process", "order")


def samples(run: Run) -> str:
    """The file's text."""
    if any(cell.forwards for cell in run.cells):
        forwards = (
            (*_of_cell(cell), *(getattr(forward, field) for field in FORWARD_FIELDS))
            for cell in run.cells
            for forward in cell.forwards
        )
        return as_csv(Rows((*CELL_FIELDS, *FORWARD_FIELDS), tuple(forwards))).decode()
    stage_columns = (f"{stage}_{clock}_seconds" for stage in STAGES for clock in ("host", "device"))
    utterances = ((*_of_cell(cell), *_of_utterance(utterance)) for cell in run.cells for utterance in cell.utterances)
    return as_csv(Rows((*CELL_FIELDS, *UTTERANCE_FIELDS, *stage_columns), tuple(utterances))).decode()


def _of_cell(cell: Cell) -> tuple[Any, ...]:
    return cell.stack, ";".join(f"{key}={value}" for key, value in cell.point.items()), cell.process, cell.order


def _of_utterance(utterance: Utterance) -> tuple[Any, ...]:
    times = [utterance.stages.get(stage) for stage in STAGES]
    clocks = (v for t in times for v in ((t.host_seconds, t.device_seconds) if t else (None, None)))
    return (*(getattr(utterance, field) for field in UTTERANCE_FIELDS), *clocks)
