"""samples.csv: every utterance or forward, raw, one per line."""

from __future__ import annotations

import csv
import io
from typing import Any

from ttsbench.records import Cell, Run
from ttsbench.reports.metrics import STAGES
from ttsbench.reports.plain import in_cell

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
    writer.writerow([*CELL_FIELDS, *UTTERANCE_FIELDS, *stage_columns])
    for cell in run.cells:
        for utterance in cell.utterances:
            times = [utterance.stages.get(stage) for stage in STAGES]
            writer.writerow(
                _of_cell(cell)
                + [in_cell(getattr(utterance, field)) for field in UTTERANCE_FIELDS]
                + [v for t in times for v in ((t.host_seconds, t.device_seconds) if t else (None, None))]
            )
    return file.getvalue()


def _of_cell(cell: Cell) -> list[Any]:
    point = ";".join(f"{key}={value}" for key, value in cell.point.items())
    return [in_cell(cell.stack), in_cell(point), cell.process, cell.order]
