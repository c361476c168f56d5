"""A run's record from its journal: which row of a job counts, and what a reader has to know of the others."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ttsbench.errors import NoRecordError, RecordError
from ttsbench.records import journal, runs
from ttsbench.records.bulk_reading import paused_garbage_collection
from ttsbench.records.journal import Entries

# In the evidence of a row without a job of its own: the key of the cell that is the same work.
MEASURED_AS = "measured_as"


def read_run(path: Path) -> runs.Run:
    """The record; where there is none, or none that can be read, what the journal holds."""
    folder = path if path.is_dir() else path.parent
    try:
        with paused_garbage_collection():
            return runs.read_run(path)
    except RecordError as error:
        if not (folder / journal.FILE).exists():
            raise
        entries = journal.read(folder)
        if not isinstance(error, NoRecordError):
            entries = entries._replace(warnings=(*entries.warnings, f"read from the journal, because {error}"))
        return assemble(entries, "unfinished")


def latest(cells: Iterable[runs.Cell]) -> dict[str, runs.Cell]:
    """The row that counts for each job: the last one, but none that was interrupted where there is another."""
    by_end = sorted(cells, key=lambda cell: cell.status != "interrupted")  # Ctrl-C may come just after the job's row
    return {cell.job_id: cell for cell in by_end}


def second_tries(cells: Sequence[runs.Cell]) -> Iterator[str]:
    """What a reader cannot see from the rows that count: which of them came after others that had failed."""
    counted = latest(cells)
    failures = Counter(
        f"{cell.key} ({cell.kind} {cell.process + 1}) was tried again after: {cell.status}: {cell.reason}"
        for cell in cells
        if cell is not counted[cell.job_id] and cell.status != "interrupted"
    )
    for note, times in failures.items():
        yield f"{note} ({times} times)" if times > 1 else note


def with_shared_rows(cells: Iterable[runs.Cell]) -> Iterator[runs.Cell]:
    """A cell that is the same work as another one's has that one's rows, at its own point and with a note."""
    cells = list(cells)
    rows: dict[str, list[runs.Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.key, []).append(cell)
    for cell in cells:
        source = cell.evidence.get(MEASURED_AS)
        measured = rows.get(source, ()) if cell.status == "skipped" and isinstance(source, str) else ()
        for row in measured:
            yield dataclasses.replace(
                row, key=cell.key, point=cell.point, order=cell.order, warnings=(*row.warnings, cell.reason),
                evidence={**row.evidence, **cell.evidence},
            )  # fmt: skip
        if not measured:
            yield cell


def assemble(entries: Entries, status: str, planned: Collection[str] | None = None) -> runs.Run:
    """The run's record, from its journal; where the ids of its jobs are known, of these alone."""
    header, cells, warnings = entries
    if planned is not None:
        foreign = dict.fromkeys(cell.job_id for cell in cells if cell.job_id not in planned)
        cells = [cell for cell in cells if cell.job_id in planned]
        warnings += tuple(f"the journal's row of {job_id} does not count: it is not in the plan" for job_id in foreign)
    return runs.Run(
        schema_version=runs.SCHEMA_VERSION,
        ttsbench_version=header.ttsbench_version,
        run_id=header.run_id,
        scenario=header.scenario,
        baseline=header.baseline,
        started_utc=header.started_utc,
        finished_utc=now_utc(),
        status=status,
        environment=header.environment,
        scenario_given=header.scenario_given,
        overrides=header.overrides,
        scenario_understood=header.scenario_understood,
        cells=tuple(sorted(with_shared_rows(latest(cells).values()), key=lambda cell: cell.order)),
        warnings=(*warnings, *second_tries(cells)),
        ablated=header.ablated,
    )


def now_utc() -> str:
    """The time that goes into records."""
    return datetime.now(UTC).isoformat(timespec="seconds")
