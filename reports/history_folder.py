"""The history of a folder of runs: its store brought up to date, and the page and plots drawn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files, journal, runs
from ttsbench.records.bulk_reading import paused_garbage_collection
from ttsbench.records.folders import make_folder
from ttsbench.records.jobs import file_stem
from ttsbench.reports import history
from ttsbench.reports.formats.values import require_parquet
from ttsbench.reports.history import Entry, MetricHistory, Stamp
from ttsbench.reports.pages import history_page

STORE, PAGE, PLOTS = "history.parquet", "history.md", "history"


@dataclass(frozen=True)
class UpdatedHistory:
    series: list[MetricHistory]
    notes: list[str]
    new_runs: int
    page: Path


def update(folder: Path, output: Path) -> UpdatedHistory:
    require_parquet()
    if any((folder / file).exists() for file in ("run.json", journal.FILE)):
        raise UsageError(f"{folder} is a single run", mend="Name the folder that holds it")
    stored = history.read(output / STORE)
    new, notes = unread(folder, stored)
    entries = joined(stored, new)
    series = history.series(entries)
    if not series:
        raise RecordError("; ".join([f"{folder} holds no run with figures", *notes]))
    make_folder(output / PLOTS)
    files.write_below(output, STORE, history.as_file(entries))
    files.write_below(output, PAGE, history_page.document(series, draw(series, output), notes))
    return UpdatedHistory(series, notes, len({entry.run for entry in new}), output / PAGE)


def unread(folder: Path, stored: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The figures of runs that are new or changed since the store was written; a note for each that is broken."""
    stamps = {entry.stamp for entry in stored}
    entries, notes = [], []
    with paused_garbage_collection():
        for stamp in stamps_of(folder):
            if stamp in stamps:
                continue
            try:
                entries += history.entries(runs.read_run(folder / stamp.run), stamp)
            except RecordError as error:
                notes.append(f"{stamp.run} is left out: {error}")
    return entries, notes


def stamps_of(folder: Path) -> list[Stamp]:
    """Of every run that has a record, by name."""
    try:
        states = [(file, file.stat()) for file in sorted(folder.glob("*/run.json"))]
    except OSError as error:
        raise RecordError(f"{folder} cannot be read: {error.strerror}") from None
    return [Stamp(file.parent.name, state.st_size, state.st_mtime_ns) for file, state in states]


def joined(stored: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    """What was read anew replaces what the store had of that run; runs that are gone stay in it."""
    again = {entry.run for entry in new}
    return [*(entry for entry in stored if entry.run not in again), *new]


def draw(series: Sequence[MetricHistory], output: Path) -> dict[str, str]:
    """A plot per scenario and metric: its title, and its path from the page."""
    plots = {}
    for (scenario, metric), group in history_page.grouped(series, "scenario", "metric").items():
        path = f"{PLOTS}/{file_stem(f'{scenario}-{metric}')}.svg"
        plot = history_page.plot(group)
        files.write_below(output, path, plot.document)
        plots[": ".join(part for part in (scenario, group[0].metric.label, plot.caption) if part)] = path
    return plots
