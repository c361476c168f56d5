"""Profiles that explain a comparison: among the rows of its runs, or in folders beside them."""

from __future__ import annotations

import glob
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ttsbench.errors import RecordError
from ttsbench.records import profiles
from ttsbench.records.fingerprint import CODE, differing
from ttsbench.records.jobs import PROFILE
from ttsbench.records.profiles import Profile
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.decide.sides import Match, Side
from ttsbench.reports.tables import profile_diff
from ttsbench.reports.tables.profile_diff import ProfileDifference

SUFFIX = "-profile-"


@dataclass(frozen=True)
class SideProfiles:
    """The profiles of one side's stacks, looked up once: a side may have thousands of cells."""

    side: Side

    @cached_property
    def _rows(self) -> dict[str, list[tuple[Run, Cell]]]:
        """By their keys, rows of its runs; in a folder of runs, of the folders that `profile` made."""
        rows: dict[str, list[tuple[Run, Cell]]] = {}
        for run in self.side.runs:
            for row in run.cells:
                if row.kind == PROFILE and row.profile:
                    rows.setdefault(row.key, []).append((run, row))
        return rows

    @cached_property
    def _in_neighbours(self) -> list[Profile]:
        """In folders that `profile` made next to a run's, of the same code on the same machine."""
        if len(self.side.runs) != 1:
            return []
        [run] = self.side.runs
        folder = self.side.path if self.side.path.is_dir() else self.side.path.parent
        files = sorted(folder.absolute().parent.glob(f"{glob.escape(run.scenario)}-*{SUFFIX}*/{profiles.FILE}"))
        return [profile for file in files if (profile := _readable(file)) is not None and _is_of(profile, run)]

    def newest(self, cell: Cell) -> Profile | None:
        """The last one made of this stack at this point."""
        in_rows = (
            profiles.decoded(row.profile, f"{run.run_id}: {row.key}: profile")
            for run, row in self._rows.get(cell.key, ())
            if row.slots == cell.slots
        )
        headers = ((profile, profile.header) for profile in self._in_neighbours)
        in_neighbours = (
            profile for profile, header in headers if (header.stack, header.slots) == (cell.stack, cell.slots)
        )
        return max((*in_rows, *in_neighbours), key=lambda profile: profile.header.started_utc, default=None)


def between_profiles(match: Match, candidate: SideProfiles, baseline: SideProfiles) -> ProfileDifference | None:
    """From the baseline's profile to the candidate's; nothing where one of them has none, or both have the same."""
    first = next(iter(match.pairing.pairs), None)
    if first is None:
        return None
    before, after = baseline.newest(first.baseline[0]), candidate.newest(first.candidate[0])
    if before is None or after is None or before == after:
        return None
    return profile_diff.compare_profiles(before, after)


def _readable(file: Path) -> Profile | None:
    """A folder that happens to lie there and holds no profile does not concern this comparison."""
    with suppress(RecordError):
        return profiles.read(file)
    return None


def _is_of(profile: Profile, run: Run) -> bool:
    header = profile.header
    same_code = not differing(CODE, header.environment, run.environment)
    return header.scenario == run.scenario and same_code
