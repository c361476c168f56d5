"""How whoever runs something shows how far it is. Nothing here prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttsbench.records.jobs import Job
    from ttsbench.records.runs import Cell

ProgressCallback = Callable[[str], None]


class Observer:
    """Hears how far a run is; this one shows nothing. A cell is in the journal before it is called finished."""

    def preparing(self, stage: str) -> None: ...
    def cell_started(self, job: Job, number: int, total: int) -> None: ...
    def stage(self, job: Job, stage: str) -> None: ...
    def cell_finished(self, cell: Cell) -> None: ...


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
