"""comparison.html: a comparison as one file that opens from disk, without a network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ttsbench.reports.decide.decision import DIFFERENT
from ttsbench.reports.pages import forest_plot, templates, verdict_cards
from ttsbench.reports.pages.forest_plot import ForestRow
from ttsbench.reports.tables import profile_diff, tradeoffs, verdicts, words
from ttsbench.reports.tables.profile_diff import ProfileDifference
from ttsbench.reports.tables.verdicts import CandidateReport, Report

FILE, STYLE = "comparison.html", "report.css"
SCRIPTS = ("plots", "tables")
ROWS_MAX = 60


@dataclass(frozen=True)
class Cause:
    """Where a difference comes from: by the run's own clocks, or between two profiles."""

    title: str
    explained: str
    notes: tuple[str, ...]
    tables: tuple[dict[str, Any], ...]


def page(report: Report) -> str:
    costs = tradeoffs.costs([candidate.match for candidate in report.candidates])
    context: dict[str, Any] = {
        "title": f"{'MISMATCH: ' if report.mismatches else ''}{report.title}: ttsbench comparison",
        "report": report,
        "forest": forest(report),
        "cards": [verdict_cards.card(candidate) for candidate in report.candidates],
        "tables": [
            templates.table(replace(table, id=f"verdicts-{number}"), titled=True)
            for number, table in enumerate(verdicts.tables(report))
        ],
        "costs": templates.table(replace(costs, id="costs")) if costs else None,
        "causes": [cause for number, candidate in enumerate(report.candidates) for cause in _causes(candidate, number)],
        "environments": templates.table(replace(verdicts.environments(report), id="environments")),
    }  # fmt: skip
    context["contents"] = _contents(context)
    return templates.render("comparison.html", SCRIPTS, {}, style=STYLE, **context)


def forest(report: Report) -> str:
    """A row per candidate and metric that has an interval."""
    return forest_plot.forest(
        [
            ForestRow(f"{candidate.name} · {metric.phrase}", words.phrase(metric, judgement), judgement)
            for candidate in report.candidates
            for metric, judgement in candidate.judged
            if math.isfinite(judgement.ratio) and judgement.ratio > 0
        ]
    )


def _causes(candidate: CandidateReport, number: int) -> Iterator[Cause]:
    """Of a candidate that differs; a profile explains others too, since whoever made both wants to know."""
    if candidate.stages and candidate.comparison.verdict in DIFFERENT:
        yield _cause(f"{candidate.name}: stages, by the host's clock", candidate.stages, f"stages-{number}")
    if candidate.profile:
        yield _cause(f"{candidate.name}: between the two profiles", candidate.profile, f"profile-{number}")


def _cause(title: str, difference: ProfileDifference, id_: str) -> Cause:
    named = (replace(table, id=f"{table.id}-{id_}") for table in profile_diff.tables(difference))
    tables = tuple(templates.table(table, ROWS_MAX) for table in named)
    return Cause(title, profile_diff.explanation(difference), difference.notes, tables)


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
