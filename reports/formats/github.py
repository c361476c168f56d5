"""What GitHub shows: a comment or job summary in Markdown, and annotations as workflow commands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.escaping import in_command, in_command_property, in_markdown, without_links
from ttsbench.reports.formats.format import Format
from ttsbench.reports.tables import markdown, verdicts
from ttsbench.reports.tables.verdicts import QUALITY, Report

# By which a later comment finds the one that it replaces.
MARKER = "<!-- ttsbench -->"
# GitHub takes 65,536 characters.
BYTES_MAX = 64_000
NOTE_MAX = 600
# GitHub shows no more of a step.
ANNOTATIONS_MAX = 10
HEADINGS = {
    Verdict.SLOWER: "slower",
    QUALITY: "quality failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.FASTER: "faster",
    Verdict.SAME: "no change",
}
EXPLAINED = "Why, and what else to know"
ERROR, WARNING = LEVELS = ("error", "warning")


def comment(report: Report) -> str:
    """The verdict first, then the figures, then what explains them, folded; cut where GitHub would refuse it."""
    tables = verdicts.tables(report)
    marked = " (these runs are not comparable)" * bool(report.mismatches)
    opening = [MARKER, f"## ttsbench: {HEADINGS[verdicts.gravest(report.candidates)]}{marked}", ""]
    lines = [
        f"- {in_markdown(name)}: **{HEADINGS[verdicts.gravest([candidate])]}**"
        for name, candidate in zip(verdicts.names(report), report.candidates, strict=True)
    ]
    drawn = [line for table in tables for line in ("", *markdown.render(replace(table, notes=())).split("\n"))]
    notes = [*(note for table in tables for note in table.notes), *report.notes]
    folded = [f"- {in_markdown(note[:NOTE_MAX])}" for note in notes]
    whole = "\n".join([*opening, *_fitting([*lines, *drawn], BYTES_MAX // 2), *_folded(folded), ""])
    return without_links(whole)


def _folded(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return ["", f"<details><summary>{EXPLAINED}</summary>", "", *_fitting(lines, BYTES_MAX // 3), "", "</details>"]


def _fitting(lines: Sequence[str], bytes_max: int) -> list[str]:
    """The first of them, and how many are left out."""
    room, kept = bytes_max, 0
    for line in lines:
        room -= len(without_links(line).encode(errors="replace")) + 1
        if room < 0:
            break
        kept += 1
    left = len(lines) - kept
    return [*lines[:kept], *(["", f"{left:,} more lines stand in comparison.md."] if left else [])]


def commands(report: Report, fail_on: Collection[str]) -> str:
    """A line per figure that changed or stays open, the gravest first; what counts as a failure is an error."""
    complaints = [
        (reason, f"{name}: {text}")
        for name, candidate in zip(verdicts.names(report), report.candidates, strict=True)
        for reason, text in verdicts.complaints(candidate)
    ]
    complaints.sort(key=lambda complaint: verdicts.REASONS.index(complaint[0]))
    lines = [(ERROR if reason in fail_on else WARNING, HEADINGS[reason], text) for reason, text in complaints]
    shown = [line for level in LEVELS for line in _first([line for line in lines if line[0] == level])]
    return "".join(
        f"::{level} title={in_command_property(f'ttsbench: {title}')}::{in_command(text)}\n"
        for level, title, text in shown
    )


Annotation = tuple[str, str, str]


def _first(lines: Sequence[Annotation]) -> list[Annotation]:
    if len(lines) <= ANNOTATIONS_MAX:
        return list(lines)
    kept, left = lines[: ANNOTATIONS_MAX - 1], len(lines) - ANNOTATIONS_MAX + 1
    return [*kept, (lines[0][0], "and more", f"{left} more; the job summary has them all")]


FORMAT = Format("github", {"comment.md": lambda report, fail_on: comment(report), "annotations.txt": commands})
