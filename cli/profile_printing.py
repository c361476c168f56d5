"""How profiles are printed: one, what a run of `profile` ended with, and the difference of two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.records.profiles import Profile
    from ttsbench.running.profile_run import ProfileRun

DIFFERENCES_MAX = 12


def show_finished(done: ProfileRun) -> ExitCode:
    from ttsbench.cli.console import print_lines
    from ttsbench.reports.pages import profile_page

    if done.profile is None:
        print_lines([f"{done.cell.status}: {done.cell.reason}", f"{done.folder}/run.json"])
    else:
        show_profile(done.profile)
        print_lines([*(f"not written: {file}" for file in done.not_written), f"{done.folder}/{profile_page.FILE}"])
    return done.exit_code


def show_profile(profile: Profile) -> None:
    from ttsbench.cli import console
    from ttsbench.reports.tables import profile_summary

    console.print_lines(profile_summary.lede(profile))
    for table in profile_summary.tables(profile):
        console.show_table(table)
    console.print_lines(profile_summary.findings(profile))
    for caution in profile_summary.cautions(profile):
        console.print_note(caution)


def show_difference(before: Path, after: Path) -> ExitCode:
    """What changes from one profile to another, also written beside the second."""
    from ttsbench.cli import console
    from ttsbench.records import profiles
    from ttsbench.reports.tables import profile_diff
    from ttsbench.running.profile_run import problem_of

    difference = profile_diff.compare_profiles(profiles.read(before), profiles.read(after))
    console.print_lines([f"{difference.before} → {difference.after}", profile_diff.explanation(difference)])
    for table in profile_diff.tables(difference):
        console.show_table(table.first(DIFFERENCES_MAX))
    console.print_lines([f"no longer found: {headline}" for _, headline in difference.gone])
    console.print_lines([f"found anew: {headline}" for _, headline in difference.new])
    for note in difference.notes:
        console.print_note(note)
    folder = after if after.is_dir() else after.parent
    problem = problem_of(lambda: profile_diff.write(difference, folder))
    console.print_lines([f"not written: {problem}" if problem else f"{folder}/{profile_diff.FILE}"])
    return ExitCode.INTERNAL if problem else ExitCode.OK
