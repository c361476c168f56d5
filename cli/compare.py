"""What `compare` does, from the named runs to verdicts, files and an exit code."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ttsbench.cli import calibrate, console, exporting, listing
from ttsbench.cli.campaign import read_run
from ttsbench.cli.kernels import make_folder
from ttsbench.cli.profiles_beside import between_profiles
from ttsbench.errors import ExitCode, NotComparableError, RecordError, UsageError
from ttsbench.records import files, journal
from ttsbench.records.runs import Run
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.sides import Side
from ttsbench.reports.formats import registry
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import Compared, Report

FAILURES = {
    Verdict.SLOWER: ExitCode.SLOWER,
    verdicts.QUALITY: ExitCode.QUALITY,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


def compare(
    names: Sequence[str],
    *,
    fail_on: Sequence[str],
    allow_mismatch: bool,
    output: Path | None,
    formats: Sequence[str] = (),
    calibration: Path | None = None,
) -> ExitCode:
    """The first is the baseline of all others; one run alone has its own."""
    for name in fail_on:
        listing.require("reason to fail", name, verdicts.REASONS)
    if output is not None:
        make_folder(output)
    exporting.check(formats, registry.COMPARISON, output)
    with no_garbage_due():
        given = [read_side(name) for name in names]
    report = compared(given, allow_mismatch=allow_mismatch, find=calibrate.finder(calibration))
    show(report)
    if output is not None:
        write(report, output, formats, fail_on=fail_on)
    return exit_code(report, fail_on)


def write(report: Report, folder: Path, formats: Sequence[str] = (), *, fail_on: Sequence[str] = ()) -> None:
    """Every file of a comparison or a gate, each whole or not at all: those always written, and those asked for."""
    for name in dict.fromkeys((*registry.ALWAYS, *formats)):
        for file, data in registry.of_comparison(report, name, fail_on or verdicts.REASONS).items():
            files.write_below(folder, file, data)
    console.lines([f"written to {folder}"])


def show(report: Report) -> None:
    """On the console."""
    for table in verdicts.tables(report):
        console.show_table(table)
    console.lines([f"note: {note}" for note in report.notes])


def compared(given: Sequence[Side], *, allow_mismatch: bool, find: calibrate.Find) -> Report:
    """Every candidate decided, unless the runs must not be compared."""
    mismatches = sides.mismatches(run for side in given for run in side.runs)
    if mismatches and not allow_mismatch:
        raise NotComparableError(
            f"these runs are not comparable; {'; '.join(mismatches)}",
            mend="Measure both on one machine, or give --allow-mismatch, which marks every output",
        )
    baseline, *candidates = given
    if candidates:
        several = len(candidates) > 1
        matches = [
            (sides.named_after(candidate, match) if several else match, candidate)
            for candidate in candidates
            for match in sides.between(candidate, baseline)
        ]
    elif len(baseline.runs) == 1 and not baseline.stack:
        matches = [(match, baseline) for match in sides.within(baseline.runs[0])]
    else:
        raise UsageError("there is nothing to compare with", mend="Give a baseline and then candidates, or one run")
    if not matches:
        raise UsageError("nothing is on both sides", mend="Name stacks, as in RUN:STACK; ttsbench show RUN lists them")
    if mismatches:
        matches = [(sides.of_other_devices(match), candidate) for match, candidate in matches]
    remarks = dict.fromkeys(remark for side in given for run in side.runs for remark in sides.remarks(run))
    lonely = [note for candidate in candidates for note in sides.lonely(candidate, baseline)]
    floors = find(baseline.runs[0])
    found = [
        Compared(
            match,
            comparison.whole(match.pairing, floors=floors.of(match.pairing.pairs)),
            between_profiles(match, candidate, baseline),
        )
        for match, candidate in matches
    ]
    calibrated = [floors.note] if floors.tried else []
    others = sides.environments(run for side in given for run in side.runs)
    names = tuple(f"{side.label}:{side.stack}" if side.stack else side.label for side in given)
    return Report(tuple(found), (*lonely, *remarks, *calibrated), tuple(mismatches), tuple(others), names)


def exit_code(report: Report, fail_on: Sequence[str]) -> ExitCode:
    """The gravest of what was found and what counts; everything does where nothing is named."""
    found = {reason for one in report.compared for reason, _ in verdicts.complaints(one)}
    counts = fail_on or verdicts.REASONS
    return next((FAILURES[reason] for reason in verdicts.REASONS if reason in found and reason in counts), ExitCode.OK)


def read_side(name: str) -> Side:
    """`PATH` or `PATH:STACK`; a path is a run, its run.json, or a folder of runs."""
    path, stack = Path(name), ""
    if not path.exists() and ":" in name:
        before, _, stack = name.rpartition(":")
        path = Path(before)
    if path.is_dir() and not is_run(path):
        runs = [read_run(folder) for folder in sorted(path.iterdir()) if folder.is_dir() and is_run(folder)]
        if not runs:
            raise RecordError(f"{path} holds no run", mend="Name a run folder, or a folder of run folders")
    else:
        runs = [read_run(path)]
    return Side(path.name or str(path), tuple(sorted(runs, key=_made)), stack, path)


def is_run(folder: Path) -> bool:
    """Whether a run was made here."""
    return any((folder / file).exists() for file in ("run.json", journal.FILE))


def _made(run: Run) -> tuple[str, str]:
    return run.started_utc, run.run_id


@contextmanager
def no_garbage_due() -> Iterator[None]:
    """A thousand records are millions of objects, none of which is garbage; looking for it takes half the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
