"""Profiles that explain a comparison: in the rows of its runs, or in folders next to them."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ttsbench.errors import RecordError
from ttsbench.records import profiles
from ttsbench.records.jobs import PROFILE
from ttsbench.records.profiles import Profile
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.decide.sides import Match, Side, at
from ttsbench.reports.tables import profile_diff
from ttsbench.reports.tables.profile_diff import Difference

# A profile in another folder is of a run's code if these agree.
SAME_CODE = ("ttsbench.sha256", "sources_sha256", "packages", "gpu.name", "cpu.model")
SUFFIX = "-profile-"


def between_profiles(match: Match, candidate: Side, baseline: Side) -> Difference | None:
    """From the baseline's profile to the candidate's; None if one has none, or both have the same."""
    first = next(iter(match.pairing.pairs), None)
    if first is None:
        return None
    before, after = newest(baseline, first.baseline[0]), newest(candidate, first.candidate[0])
    if before is None or after is None or before == after:
        return None
    return profile_diff.difference(before, after)


def newest(side: Side, cell: Cell) -> Profile | None:
    """The last one made of this stack at this point."""
    profiles_of_cell = [*_in_runs(side, cell), *_in_neighbours(side, cell)]
    return max(profiles_of_cell, key=lambda profile: profile.header.started_utc, default=None)


def _in_runs(side: Side, cell: Cell) -> Iterator[Profile]:
    """Rows of its runs; `profile` makes folders of runs too."""
    for run in side.runs:
        for row in run.cells:
            if row.kind == PROFILE and row.profile and (row.key, row.slots) == (cell.key, cell.slots):
                yield profiles.decoded(row.profile, f"{run.run_id}: {row.key}: profile")


def _in_neighbours(side: Side, cell: Cell) -> Iterator[Profile]:
    """In folders that `profile` made next to a run's, of the same code on the same machine."""
    if len(side.runs) != 1:
        return
    [run] = side.runs
    folder = side.path if side.path.is_dir() else side.path.parent
    for file in sorted(folder.absolute().parent.glob(f"{glob.escape(run.scenario)}-*{SUFFIX}*/{profiles.FILE}")):
        if (profile := _readable(file)) is not None and _is_of(profile, run, cell):
            yield profile


def _readable(file: Path) -> Profile | None:
    """A folder that happens to be there and holds no profile does not concern this comparison."""
    with suppress(RecordError):
        return profiles.read(file)
    return None


def _is_of(profile: Profile, run: Run, cell: Cell) -> bool:
    header = profile.header
    same = (header.scenario, header.stack, header.slots) == (run.scenario, cell.stack, cell.slots)
    return same and all(at(header.environment, name) == at(run.environment, name) for name in SAME_CODE)
