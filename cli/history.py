"""What `history` does, from a folder of runs to its store, its plots and the printed trends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ttsbench.cli import compare, console, exporting
from ttsbench.cli.kernels import make_folder
from ttsbench.errors import RecordError, UsageError
from ttsbench.records import files, runs
from ttsbench.records.jobs import file_stem
from ttsbench.reports import history
from ttsbench.reports.history import Entry, Series, Stamp
from ttsbench.reports.pages import history_page

STORE, PAGE, PLOTS = "history.parquet", "history.md", "history"


def show(folder: Path, output: Path | None) -> None:
    """Brings the store up to date, and says what became of every figure."""
    exporting.require_parquet()
    if compare.is_run(folder):
        raise UsageError(f"{folder} is a single run", mend="Name the folder that holds it")
    output = output or folder
    known = history.read(output / STORE)
    fresh, notes = unread(folder, known)
    found = joined(known, fresh)
    series = history.series(found)
    if not series:
        raise RecordError("; ".join([f"{folder} holds no run with figures", *notes]))
    make_folder(output / PLOTS)
    files.write_below(output, STORE, history.as_file(found))
    files.write_below(output, PAGE, history_page.document(series, draw(series, output), notes))
    tell(series, notes, len({entry.run for entry in fresh}))
    console.lines([f"written to {output / PAGE}"])


def unread(folder: Path, known: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """The figures of the runs that the store does not have as they are now; a broken run is passed over with a note."""
    stamps = {entry.stamp for entry in known}
    found, notes = [], []
    with compare.no_garbage_due():
        for stamp in stamps_of(folder):
            if stamp in stamps:
                continue
            try:
                found += history.entries(runs.read_run(folder / stamp.run), stamp)
            except RecordError as error:
                notes.append(f"{stamp.run} is left out: {error}")
    return found, notes


def stamps_of(folder: Path) -> list[Stamp]:
    """Every run that has a record, by name."""
    try:
        files = sorted(folder.glob("*/run.json"))
        states = [(file, file.stat()) for file in files]
    except OSError as error:
        raise RecordError(f"{folder} cannot be read: {error.strerror}") from None
    return [Stamp(file.parent.name, state.st_size, state.st_mtime_ns) for file, state in states]


def joined(known: Sequence[Entry], fresh: Sequence[Entry]) -> list[Entry]:
    """What was read anew replaces what the store had of that run; runs that are gone stay in it."""
    again = {entry.run for entry in fresh}
    return [*(entry for entry in known if entry.run not in again), *fresh]


def draw(series: Sequence[Series], output: Path) -> dict[str, str]:
    """A plot per scenario and metric: its title, and its path from the page."""
    plots = {}
    for (scenario, metric), group in history_page.grouped(series, "scenario", "metric").items():
        path = f"{PLOTS}/{file_stem(f'{scenario}-{metric}')}.svg"
        files.write_below(output, path, history_page.plot(group))
        plots[f"{scenario}: {group[0].metric.label}"] = path
    return plots


def tell(series: Sequence[Series], notes: Sequence[str], fresh: int) -> None:
    """On the console."""
    for table in history_page.tables(series):
        console.show_table(table)
    steps = history.steps(series)
    for step in steps:
        console.lines([str(step), *([f"  {step.bisect}"] if step.bisect else [])])
    console.lines(history.drifts(series) if steps else ["no steps", *history.drifts(series)])
    for note in notes:
        console.note(note)
    runs = len({entry.run for one in series for entry in one.entries})
    console.progress_line(f"{runs} runs, {fresh} of them new")
