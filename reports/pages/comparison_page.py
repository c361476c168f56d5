"""comparison.html: a comparison as one file that opens from disk, without a network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ttsbench.reports.decide.comparison import FIGURES
from ttsbench.reports.decide.decision import DIFFERENT, Judgement
from ttsbench.reports.pages import templates, verdict_cards
from ttsbench.reports.tables import profile_diff, tradeoffs, verdicts, words
from ttsbench.reports.tables.profile_diff import Difference
from ttsbench.reports.tables.verdicts import Compared, Report

FILE, STYLE = "comparison.html", "report.css"
SCRIPTS = ("plots", "tables", "charts", "comparison_forest")
ROWS_MAX = 60


@dataclass(frozen=True)
class Cause:
    """Where a difference comes from: by the run's own clocks, or between two profiles."""

    title: str
    explained: str
    notes: tuple[str, ...]
    tables: tuple[dict[str, Any], ...]


def page(report: Report) -> str:
    """The document."""
    costs = tradeoffs.beside([one.match for one in report.compared])
    context: dict[str, Any] = {
        "title": f"{'MISMATCH: ' if report.mismatches else ''}{report.title}: ttsbench comparison",
        "report": report,
        "cards": [verdict_cards.card(one) for one in report.compared],
        "tables": [
            templates.table(replace(table, id=f"verdicts-{number}"), titled=True)
            for number, table in enumerate(verdicts.tables(report))
        ],
        "costs": templates.table(replace(costs, id="costs")) if costs else None,
        "causes": [cause for number, one in enumerate(report.compared) for cause in _causes(one, number)],
        "environments": templates.table(replace(verdicts.environments(report), id="environments")),
    }  # fmt: skip
    context["contents"] = _contents(context)
    return templates.render("comparison.html", SCRIPTS, {"rows": forest(report), "colours": {}}, style=STYLE, **context)


def forest(report: Report) -> list[dict[str, Any]]:
    """A row per candidate and figure that has an interval."""
    return [
        {
            "name": one.name,
            "figure": words.named(FIGURES[name]),
            "verdict": str(judgement.verdict),
            "told": words.phrase(name, judgement),
            "limit": judgement.threshold,
            **_interval(judgement),
        }
        for one in report.compared
        for name, judgement in one.found.judgements.items()
        if math.isfinite(judgement.ratio) and judgement.ratio > 0
    ]


def _interval(judgement: Judgement) -> dict[str, float | None]:
    """An end that lies nowhere is none."""
    low, high = judgement.low, judgement.high
    return {"ratio": judgement.ratio, "low": low if low > 0 else None, "high": high if math.isfinite(high) else None}


def _causes(one: Compared, number: int) -> Iterator[Cause]:
    """Of a candidate that differs; a profile explains others too, since whoever made both wants to know."""
    if one.stages and one.found.verdict in DIFFERENT:
        yield _cause(one, f"{one.name}: stages, by the host's clock", one.stages, f"stages-{number}")
    if one.profile:
        yield _cause(one, f"{one.name}: between the two profiles", one.profile, f"profile-{number}")


def _cause(one: Compared, title: str, found: Difference, id_: str) -> Cause:
    named = (replace(table, id=f"{table.id}-{id_}") for table in profile_diff.tables(found))
    tables = tuple(templates.table(table, ROWS_MAX) for table in named)
    return Cause(title, profile_diff.explanation(found), found.notes, tables)


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    report = context["report"]
    sections = (
        ("verdicts", "Verdicts", True),
        ("forest", "Differences", True),
        ("beside", "Memory and quality", context["costs"]),
        ("causes", "What explains them", context["causes"]),
        ("environments", "Environment", report.environments or report.notes),
    )
    return [(id_, title) for id_, title, there in sections if there]
