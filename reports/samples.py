"""samples.csv: every utterance, raw, one per line."""

from __future__ import annotations

import csv
import io

from ttsbench.records import Run
from ttsbench.reports.metrics import STAGES

UTTERANCE_FIELDS = (
    "text_index", "repeat", "seed", "wall_seconds", "audio_seconds", "rtf", "tokens", "tokens_sha256",
    "first_sample_seconds", "first_playable_seconds", "first_audible_seconds", "sm_clock_mhz",
)  # fmt: skip


def samples(run: Run) -> str:
    """The file's text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    stage_columns = [f"{stage}_{clock}_seconds" for stage in STAGES for clock in ("host", "device")]
    writer.writerow(["stack", "point", "process", "order", *UTTERANCE_FIELDS, *stage_columns])
    for cell in run.cells:
        point = ";".join(f"{key}={value}" for key, value in cell.point.items())
        for utterance in cell.utterances:
            times = [utterance.stages.get(stage) for stage in STAGES]
            writer.writerow(
                [cell.stack, point, cell.process, cell.order]
                + [getattr(utterance, field) for field in UTTERANCE_FIELDS]
                + [v for t in times for v in ((t.host_seconds, t.device_seconds) if t else (None, None))]
            )
    return file.getvalue()
