"""report.html: a run as one file that opens from disk, without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ttsbench.records import runs
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.escaping import printable
from ttsbench.reports.pages import load_plot, players, report_plots, stream_plot, templates, verdict_cards
from ttsbench.reports.pages.players import Player
from ttsbench.reports.tables import ablation, claims, forwards, loads, markdown, run_tables, streaming
from ttsbench.reports.tables.table import Table
from ttsbench.reports.tables.verdicts import CandidateReport

FILE = "report.html"
STYLE = "report.css"
SCRIPTS = ("plots", "tables", "charts", "report_places", "report_bars", "report_samples", "report_first_audio")
EVIDENCE_LETTERS_MAX = 2000


@dataclass(frozen=True)
class Evidence:
    """What one process shows for its options."""

    title: str
    lines: list[tuple[str, str]]


def page(run: Run, folder: Path, page_folder: Path | None = None) -> str:
    """The document; waves are read from the run's folder, and linked as seen from the page's."""
    data = report_plots.data(run)
    heard = players.players(run, folder, page_folder or folder)
    context = {**_head(run), **_verdicts(run), **_tables(run), **_rest(run), **_audio(heard)}
    context |= {"has": _has(data), "stage_names": _stage_names(data)}
    context["contents"] = _contents(context)
    return templates.render("report.html", SCRIPTS, data, style=STYLE, media=bool(heard), **context)


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
    ("GPU", ("gpu", "name")), ("CPU", ("cpu", "model")), ("driver", ("gpu", "driver")),
    ("torch", ("packages", "torch")), ("Python", ("python", "version")), ("code", ("ttsbench", "sha256")),
)  # fmt: skip
HASH_DIGITS = 12


def _facts(run: Run) -> list[tuple[str, str]]:
    found = [(label, _at(run.environment, path)) for label, path in FACTS]
    told = [(label, value[:HASH_DIGITS] if label == "code" else value) for label, value in found if value]
    if told and told[0][0] == "GPU":
        told = [fact for fact in told if fact[0] != "CPU"]
    processes = sum(cell.ok for cell in run.cells)
    return [("run", run.run_id), ("finished", _minute(run.finished_utc)), ("processes", f"{processes:,}"), *told]


def _minute(utc: str) -> str:
    """As people write it, where it is a time."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*\+00:00$", r"\1 \2 UTC", utc)


def _at(data: Any, path: Sequence[str]) -> str:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data if isinstance(data, str) else ""


def _verdicts(run: Run) -> dict[str, Any]:
    compared = [CandidateReport(match, comparison.judge_recorded(match.pairing)) for match in sides.within(run)]
    return {
        "cards": [verdict_cards.card(one) for one in compared],
        "failures": run_tables.failures(run),
        "faults": run_tables.faults(run),
        "warnings": run_tables.warnings(run),
    }


def _tables(run: Run) -> dict[str, Any]:
    return {
        "overview": _listed("overview", [*run_tables.overview(run), *forwards.overview(run)]),
        "stages": _listed("stages", run_tables.stages(run)),
        "details": _listed("details", run_tables.detail(run)),
        "streams": _listed("streams", [table for build in STREAMS for table in build(run)]),
        "timelines": _pictures(stream_plot.drawings(run)),
        "loads": _listed("loads", loads.overview(run)),
        "curves": _pictures(load_plot.drawings(run)),
        "ladder": _listed("ladder", run_tables.ladder(run)),
        "qualities": _listed("quality", run_tables.quality(run)),
        "memory": _listed("memory", run_tables.memory(run)),
        "claims": _claims(run),
        "ablation": _ablation(run),
    }


STREAMS = (streaming.listener, streaming.engine, streaming.seams, streaming.voices)
# A timeline takes up to 100 kB.
PICTURES_MAX = 12


def _pictures(drawn: Mapping[str, str]) -> list[tuple[str, str]]:
    """File and address of each; the rest lies beside the page."""
    return [(name, _picture(svg)) for name, svg in islice(drawn.items(), PICTURES_MAX)]


def _picture(svg: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _listed(name: str, found: Sequence[Table]) -> list[dict[str, Any]]:
    return [
        templates.table(replace(table, id=f"{name}-{number}"), titled=True)
        for number, table in enumerate(found)
        if table.rows
    ]


def _claims(run: Run) -> list[dict[str, Any]]:
    return [
        {"finding": found, "id": claims.named(found), "slug": SLUGS[found.verdict]} for found in claims.findings(run)
    ]


SLUGS = {
    claims.HOLDS: "faster",
    claims.DOES_NOT_HOLD: "slower",
    claims.NOT_SHOWN: "inconclusive",
    claims.NOT_MEASURABLE: "inconclusive",
}


def _ablation(run: Run) -> dict[str, Any] | None:
    found = ablation.ablation(run)
    if found is None:
        return None
    return {
        "table": templates.table(replace(ablation.table(found), id="ablation")),
        "picture": _picture(ablation.waterfall(found)),
    }


def _rest(run: Run) -> dict[str, Any]:
    understood = {key: value for key, value in run.scenario_understood.items() if key not in ("name", "description")}
    return {
        "evidence": _evidence(run),
        "ran": [*markdown.flatten(understood), *(("changed by --set", override) for override in run.overrides)],
        "environment": markdown.flatten(run.environment),
    }


def _evidence(run: Run) -> list[Evidence]:
    """Of each stack's first process that has any: the others had to show the same."""
    first: dict[str, Cell] = {}
    for cell in run.cells:
        if cell.evidence:
            first.setdefault(cell.key, cell)
    return [Evidence(key, _lines(cell)) for key, cell in first.items()]


def _lines(cell: Cell) -> list[tuple[str, str]]:
    slots = [(f"slot {slot}", option) for slot, option in cell.slots.items()]
    shown = [(name, value if isinstance(value, str) else runs.dump(value)) for name, value in cell.evidence.items()]
    return [(name, templates.clipped(printable(value), EVIDENCE_LETTERS_MAX)) for name, value in (*slots, *shown)]


def _audio(heard: Sequence[Player]) -> dict[str, Any]:
    linked = [player for player in heard if not player.embedded]
    return {
        "players": heard,
        "audio_note": (
            "The waves of the first process of each stack, as they were kept."
            + (" Some would make this page too large: they are heard where audio/ lies beside it." if linked else "")
        ),
    }


def _has(data: dict[str, Any]) -> dict[str, bool]:
    """Which plots there is something to draw for."""
    return {
        "places": any(point["places"] for point in data["points"]),
        "stages": any(point["stages"]["host"] for point in data["points"]),
        "device": any(point["stages"]["device"] for point in data["points"]),
        "samples": any(point["samples"] for point in data["points"]),
        "ladder": any(point["ladder"] for point in data["points"]),
        "first_audio": any(point["first_audio"] for point in data["points"]),
    }


def _stage_names(data: dict[str, Any]) -> list[str]:
    """Those that a bar has, in the order of an utterance."""
    bars = [bar for point in data["points"] for clock in point["stages"].values() for bar in clock]
    drawn = {part["name"] for bar in bars for part in bar["parts"]}
    return [stage for stage in metrics.STAGES if stage in drawn]


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    has = context["has"]
    sections = (
        ("verdicts", "Verdicts", True),
        ("places", "Speed, memory, quality", has["places"] or context["overview"]),
        ("stages", "Stages", has["stages"] or context["stages"]),
        ("samples", "Samples", has["samples"]),
        ("first-audio", "First audio", has["first_audio"]),
        ("streams", "Streams", context["streams"]),
        ("load", "Load", context["loads"]),
        ("ladder", "Cold ladder", context["ladder"]),
        ("claims", "Claims", context["claims"]),
        ("ablation", "Ablation", context["ablation"]),
        ("costs", "Quality and memory", context["qualities"] or context["memory"]),
        ("listen", "Listen", context["players"]),
        ("evidence", "Evidence", context["evidence"]),
        ("environment", "Environment", True),
    )
    return [(id_, title) for id_, title, there in sections if there]
