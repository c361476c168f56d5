"""report.html: a run as one file that opens from disk, without a network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ttsbench.records import runs
from ttsbench.records.fingerprint import look_up
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import sections
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.escaping import printable
from ttsbench.reports.pages import players as audio_players
from ttsbench.reports.pages import templates, verdict_cards
from ttsbench.reports.pages.players import AudioPlayer
from ttsbench.reports.sections import Content
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.markdown import flatten
from ttsbench.reports.tables.verdicts import CandidateReport

FILE = "report.html"
STYLE = "report.css"
SCRIPTS = ("plots", "tables")
EVIDENCE_LETTERS_MAX = 2000
# What the page of a run of 10,000 cells holds, so that it stays below 10 MB and can be read. The data files have all.
PLOTS_MAX, TABLES_MAX, ROWS_MAX, CARDS_MAX, LINES_MAX, EVIDENCE_MAX = 12, 12, 200, 60, 200, 100


@dataclass(frozen=True)
class CellEvidence:
    """What one process shows for its options."""

    title: str
    lines: list[tuple[str, str]]


def page(run: Run, folder: Path, page_folder: Path | None = None, contents: Sequence[Content] | None = None) -> str:
    """The document; waves are read from the run's folder, and linked as seen from the page's."""
    contents = list(sections.contents(run)) if contents is None else contents
    shown = [_section(content) for content in contents if content.tables or content.plots]
    players = audio_players.players(run, folder, page_folder or folder)
    context = {**_head(run), **_verdicts(run), **_rest(run), **_audio(players), "sections": shown}
    context["contents"] = _navigation(context)
    return templates.render("report.html", SCRIPTS, {}, style=STYLE, media=bool(players), **context)


def _section(content: Content) -> dict[str, Any]:
    section, plots = content.section, content.plots[:PLOTS_MAX]
    named = (replace(table, id=f"{section.id}-{number}") for number, table in enumerate(content.tables[:TABLES_MAX]))
    left_out = len(content.tables) - TABLES_MAX
    return {
        "id": section.id,
        "title": section.title,
        "caption": content.caption,
        "plots": plots,
        "tables": [templates.table(table, ROWS_MAX, titled=table.title != section.title) for table in named],
        "folds": bool(section.details and plots),
        "left_out": f"{left_out} further tables are in report.md." if left_out > 0 else "",
    }


def _head(run: Run) -> dict[str, Any]:
    description = run.scenario_understood.get("description")
    return {
        "title": f"{run.scenario}: ttsbench report",
        "run": run,
        "lede": description if isinstance(description, str) else "",
        "facts": _facts(run),
        "flags": [f"this run is {run.status}; what follows is what there is of it"] if run.status != "complete" else [],
        "baseline": run.baseline,
    }


# Label, and where it stands in the fingerprint.
FACTS = (
    ("GPU", "gpu.name"), ("CPU", "cpu.model"), ("driver", "gpu.driver"), ("torch", "packages.torch"),
    ("Python", "python.version"), ("code", "ttsbench.sha256"),
)  # fmt: skip
HASH_DIGITS = 12


def _facts(run: Run) -> list[tuple[str, str]]:
    facts = {label: look_up(run.environment, name) for label, name in FACTS}
    values = {label: value if isinstance(value, str) else "" for label, value in facts.items()}
    values["code"] = values["code"][:HASH_DIGITS]
    if values["GPU"]:
        del values["CPU"]
    processes = sum(cell.ok for cell in run.cells)
    run_facts = [("run", run.run_id), ("finished", _minute(run.finished_utc)), ("processes", f"{processes:,}")]
    return [*run_facts, *((label, value) for label, value in values.items() if value)]


def _minute(utc: str) -> str:
    """As people write it, where it is a time."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*\+00:00$", r"\1 \2 UTC", utc)


def _verdicts(run: Run) -> dict[str, Any]:
    matches = sides.within(run)
    candidates = [CandidateReport(match, comparison.judge_recorded(match.pairing)) for match in matches[:CARDS_MAX]]
    left_out = len(matches) - CARDS_MAX
    return {
        "cards": [verdict_cards.card(candidate) for candidate in candidates],
        "cards_left_out": f"{left_out:,} further verdicts: ttsbench compare." if left_out > 0 else "",
        "failures": _first(run_tables.failures(run), ("further ones", "left out", "see report.md")),
        "faults": _first(run_tables.faults(run), FURTHER),
        "warnings": _first(run_tables.warnings(run), FURTHER),
    }


FURTHER = "further ones are left out here; see report.md"
Line = TypeVar("Line")


def _first(lines: Sequence[Line], further: Line) -> list[Line]:
    return [*lines[:LINES_MAX], *([further] if len(lines) > LINES_MAX else [])]


def _rest(run: Run) -> dict[str, Any]:
    understood = {key: value for key, value in run.scenario_understood.items() if key not in ("name", "description")}
    return {
        "evidence": _evidence(run),
        "ran": [*flatten(understood), *(("changed by --set", override) for override in run.overrides)],
        "environment": flatten(run.environment),
    }


def _evidence(run: Run) -> list[CellEvidence]:
    """Of each stack's first process that has any: the others had to show the same."""
    first: dict[str, Cell] = {}
    for cell in run.cells:
        if cell.evidence:
            first.setdefault(cell.key, cell)
    return [CellEvidence(key, _lines(cell)) for key, cell in islice(first.items(), EVIDENCE_MAX)]


def _lines(cell: Cell) -> list[tuple[str, str]]:
    slots = [(f"slot {slot}", option) for slot, option in cell.slots.items()]
    values = [(name, value if isinstance(value, str) else runs.dump(value)) for name, value in cell.evidence.items()]
    return [(name, templates.clipped(printable(value), EVIDENCE_LETTERS_MAX)) for name, value in (*slots, *values)]


def _audio(players: Sequence[AudioPlayer]) -> dict[str, Any]:
    notes = ["The waves of the first process of each stack, as they were kept."]
    if not all(player.embedded for player in players):
        notes.append("Some would make this page too large: they are heard where audio/ lies beside it.")
    if len(players) == audio_players.PLAYERS_MAX:
        notes.append("Further ones are in audio/ alone.")
    return {"players": players, "audio_note": " ".join(notes)}


def _navigation(context: dict[str, Any]) -> list[tuple[str, str]]:
    after = (("listen", "Listen", context["players"]), ("evidence", "Evidence", context["evidence"]))
    return [
        ("verdicts", "Verdicts"),
        *((section["id"], section["title"]) for section in context["sections"]),
        *((id_, title) for id_, title, has_any in after if has_any),
        ("environment", "Environment"),
    ]
