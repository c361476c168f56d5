"""What GitHub shows: a comment or job summary in Markdown, and annotations as workflow commands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from ttsbench.reports.decide.decision import Verdict
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
# Takes no room, and keeps GitHub from making a link of what stands before it.
NO_LINK = "\N{ZERO WIDTH SPACE}"
ERROR, WARNING = LEVELS = ("error", "warning")


def comment(report: Report) -> str:
    """The verdict first, then the figures, then what explains them, folded; cut where GitHub would refuse it."""
    found = verdicts.tables(report)
    marked = " (these runs are not comparable)" * bool(report.mismatches)
    opening = [MARKER, f"## ttsbench: {HEADINGS[verdicts.gravest(report.compared)]}{marked}", ""]
    said = [
        f"- {markdown.escape(name)}: **{HEADINGS[verdicts.gravest([one])]}**"
        for name, one in zip(verdicts.names(report), report.compared, strict=True)
    ]
    drawn = [line for table in found for line in ("", *markdown.render(replace(table, notes=())).split("\n"))]
    notes = [*(note for table in found for note in table.notes), *report.notes]
    folded = [f"- {markdown.escape(note[:NOTE_MAX])}" for note in notes]
    whole = "\n".join([*opening, *_fitting([*said, *drawn], BYTES_MAX // 2), *_folded(folded), ""])
    return unlinked(whole)


def _folded(lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return ["", f"<details><summary>{EXPLAINED}</summary>", "", *_fitting(lines, BYTES_MAX // 3), "", "</details>"]


def _fitting(lines: Sequence[str], bytes_max: int) -> list[str]:
    """The first of them, and how many are left out."""
    room, kept = bytes_max, 0
    for line in lines:
        room -= len(unlinked(line).encode(errors="replace")) + 1
        if room < 0:
            break
        kept += 1
    left = len(lines) - kept
    return [*lines[:kept], *(["", f"{left:,} more lines stand in comparison.md."] if left else [])]


def unlinked(text: str) -> str:
    """Nobody is called and nothing is linked by what a record says."""
    return text.replace("@", f"@{NO_LINK}").replace("://", f":{NO_LINK}//")


def commands(report: Report, fail_on: Collection[str]) -> str:
    """A line per figure that changed or stays open, the gravest first; what counts as a failure is an error."""
    found = [
        (reason, f"{name}: {told}")
        for name, one in zip(verdicts.names(report), report.compared, strict=True)
        for reason, told in verdicts.complaints(one)
    ]
    found.sort(key=lambda complaint: verdicts.REASONS.index(complaint[0]))
    lines = [(ERROR if reason in fail_on else WARNING, HEADINGS[reason], told) for reason, told in found]
    shown = [line for level in LEVELS for line in _first([line for line in lines if line[0] == level])]
    return "".join(
        f"::{level} title={_property(f'ttsbench: {title}')}::{_data(told)}\n" for level, title, told in shown
    )


Annotation = tuple[str, str, str]


def _first(lines: Sequence[Annotation]) -> list[Annotation]:
    if len(lines) <= ANNOTATIONS_MAX:
        return list(lines)
    kept, left = lines[: ANNOTATIONS_MAX - 1], len(lines) - ANNOTATIONS_MAX + 1
    return [*kept, (lines[0][0], "and more", f"{left} more; the job summary has them all")]


def _data(text: str) -> str:
    """As a workflow command takes it: one line, and nothing in it another command."""
    for mark, escaped in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(mark, escaped)
    return text


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
