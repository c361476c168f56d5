"""Recorded runs compared: what is set against what, the verdicts, and the files and exit code that follow from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from ttsbench.errors import ExitCode, NotComparableError, RecordError, UsageError
from ttsbench.gating.calibrations import FindFloors, floors_from
from ttsbench.gating.side_profiles import SideProfiles, between_profiles
from ttsbench.records import files, journal
from ttsbench.records.assembly import read_run
from ttsbench.records.bulk_reading import paused_garbage_collection
from ttsbench.records.runs import Run
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.sides import Match, Side
from ttsbench.reports.formats import registry
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import CandidateReport, Report

EXIT_CODES = {
    Verdict.SLOWER: ExitCode.SLOWER,
    verdicts.QUALITY: ExitCode.QUALITY,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


def compare(names: Sequence[str], *, allow_mismatch: bool, calibration: Path | None = None) -> Report:
    """The first side is the baseline of all others; a single run has its own."""
    with paused_garbage_collection():
        compared = [read_side(name) for name in names]
    mismatches = sides.mismatches(run for side in compared for run in side.runs)
    if mismatches and not allow_mismatch:
        raise NotComparableError(
            f"these runs are not comparable; {'; '.join(mismatches)}",
            mend="Measure both on one machine, or give --allow-mismatch, which marks every output",
        )
    return decided(compared, mismatches, floors_from(calibration))


def decided(compared: Sequence[Side], mismatches: Sequence[str], find_floors: FindFloors) -> Report:
    baseline, *candidates = compared
    floors = find_floors(baseline.runs[0])
    remarks = dict.fromkeys(remark for side in compared for run in side.runs for remark in sides.remarks(run))
    unpaired = [note for candidate in candidates for note in sides.unpaired(candidate, baseline)]
    profiles = {id(side): SideProfiles(side) for side in compared}
    reports = tuple(
        CandidateReport(
            match,
            comparison.judge_recorded(match.pairing, floors=floors.of(match.pairing.pairs)),
            between_profiles(match, profiles[id(candidate)], profiles[id(baseline)]),
        )
        for match, candidate in matches(baseline, candidates, one_device=not mismatches)
    )
    calibrated = [floors.note] if floors.calibrated else []
    environments = sides.environments(run for side in compared for run in side.runs)
    names = tuple(f"{side.label}:{side.stack}" if side.stack else side.label for side in compared)
    return Report(reports, (*unpaired, *remarks, *calibrated), tuple(mismatches), tuple(environments), names)


def matches(baseline: Side, candidates: Sequence[Side], *, one_device: bool) -> list[tuple[Match, Side]]:
    """Each candidate stack with its baseline, and the side that it is from."""
    if candidates:
        several = len(candidates) > 1
        pairs = [
            (sides.named_after(candidate, match) if several else match, candidate)
            for candidate in candidates
            for match in sides.between(candidate, baseline)
        ]
    elif len(baseline.runs) == 1 and not baseline.stack:
        pairs = [(match, baseline) for match in sides.within(baseline.runs[0])]
    else:
        raise UsageError("there is nothing to compare with", mend="Give a baseline and then candidates, or one run")
    if not pairs:
        raise UsageError("the sides have no stack in common", mend="Name stacks, as in RUN:STACK")
    return pairs if one_device else [(sides.of_other_devices(match), candidate) for match, candidate in pairs]


def write(report: Report, folder: Path, formats: Sequence[str] = (), *, fail_on: Collection[str] = ()) -> None:
    """The documents that are always written, and those of the formats."""
    for name in dict.fromkeys((*registry.ALWAYS, *formats)):
        for file, data in registry.of_comparison(report, name, fail_on or verdicts.REASONS).items():
            files.write_below(folder, file, data)


def exit_code(report: Report, fail_on: Collection[str]) -> ExitCode:
    """The gravest reason to fail that holds, of those in `fail_on`; of all if it is empty."""
    hold = {reason for compared in report.candidates for reason, _ in verdicts.complaints(compared)}
    count = fail_on or verdicts.REASONS
    return next((EXIT_CODES[reason] for reason in verdicts.REASONS if reason in hold and reason in count), ExitCode.OK)


def read_side(name: str) -> Side:
    """`PATH` or `PATH:STACK`; a path is a run, its run.json, or a folder of runs."""
    path, stack = Path(name), ""
    if not path.exists() and ":" in name:
        before, _, stack = name.rpartition(":")
        path = Path(before)
    if path.is_dir() and not is_run(path):
        read = [read_run(folder) for folder in sorted(path.iterdir()) if folder.is_dir() and is_run(folder)]
        if not read:
            raise RecordError(f"{path} holds no run", mend="Name a run folder, or a folder of run folders")
    else:
        read = [read_run(path)]
    return Side(path.name or str(path), tuple(sorted(read, key=_start)), stack, path)


def is_run(folder: Path) -> bool:
    return any((folder / file).exists() for file in ("run.json", journal.FILE))


def _start(run: Run) -> tuple[str, str]:
    return run.started_utc, run.run_id
