"""profile.html: a profile as one file that opens from disk, without a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ttsbench.records.profiles import Finding, Profile
from ttsbench.reports.pages import profile_plots, templates
from ttsbench.reports.tables import profile_answers, profile_tables, profile_text
from ttsbench.reports.tables.markdown import flatten
from ttsbench.reports.tables.table import FORMS, with_rows

FILE = "profile.html"
BYTES_MAX = 5_000_000
# So many rows of each table, fewer where the page would be too large.
ROWS_MAX = (400, 200, 100, 50)
SCRIPTS = ("plots", "tables", "profile_stages", "profile_roofline", "profile_memory")


def page(profile: Profile) -> str:
    """The document, under 5 MB."""
    context = {**_head(profile), **_plots(profile)}
    for rows_max in ROWS_MAX:
        text = templates.render("profile.html", SCRIPTS, **context, **_tables(profile, rows_max))
        if len(text.encode()) < BYTES_MAX:
            break
    return text


def _head(profile: Profile) -> dict[str, Any]:
    header = profile.header
    return {
        "title": f"{header.stack}: ttsbench profile",
        "header": header,
        "lede": profile_text.lede(profile),
        "facts": profile_text.facts(profile),
        "warnings": profile_text.warnings(profile),
        "contents": _contents(profile),
        "answers": profile_answers.answers(profile),
        "findings": [_finding(finding) for finding in profile.findings],
        "not_found": profile_text.not_found(profile),
        "inflation": profile_text.inflation_means(profile),
        "notes": profile.notes,
        "ran": profile_text.ran(profile),
        "environment": flatten(header.environment),
        "files": profile.files,
    }


def _contents(profile: Profile) -> list[tuple[str, str]]:
    sections = (
        ("findings", "Findings", True),
        ("stages", "Stages", True),
        ("tables", "Ops and kernels", True),
        ("roofline", "Limit", profile.roofline),
        ("gaps", "Gaps", profile.gaps),
        ("memory", "Memory", profile.memory),
        ("trust", "Trust", True),
    )
    return [(id_, title) for id_, title, there in sections if there]


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "headline": finding.headline,
        "advice": finding.advice,
        "share": None if finding.share is None else FORMS["share"](finding.share),
        "evidence": [(name, templates.clipped(value)) for name, value in profile_answers.evidence(finding)],
    }


def _plots(profile: Profile) -> dict[str, Any]:
    data = profile_plots.data(profile)
    stages = dict.fromkeys(point.stage for point in profile_plots.roofline_points(profile))
    return {
        "data": data,
        "roofline_stages": [{"name": stage, "colour": profile_plots.colour(stage)} for stage in stages],
        "off_plot": _off_plot(profile),
        "has_timeline": bool(profile.memory and profile.memory.timeline),
        "memory_told": "; ".join(profile_tables.memory_totals(profile)),
    }


def _off_plot(profile: Profile) -> str:
    points = profile.roofline.points if profile.roofline else ()
    left_out = len(points) - len(profile_plots.roofline_points(profile))
    if not left_out:
        return ""
    return f"Not drawn but in the table: {left_out:,} that compute nothing or move nothing, or are smaller."


def _tables(profile: Profile, rows_max: int) -> dict[str, Any]:
    builds = (profile_tables.ops, profile_tables.kernels, profile_tables.modules, profile_tables.families)
    decode, memory = profile_tables.decode(profile), profile_tables.memory(profile)
    return {
        "stages": templates.table(profile_tables.stages(profile), rows_max),
        "decode": {"title": decode.title, "steps": decode.rows} if decode.rows else None,
        "tables": [templates.table(table, rows_max) for table in with_rows(build(profile) for build in builds)],
        "roofline": templates.table(profile_tables.roofline(profile), rows_max) if profile.roofline else None,
        "gaps": templates.table(profile_tables.gaps(profile), rows_max) if profile.gaps else None,
        "memory": templates.table(replace(memory, notes=()), rows_max) if profile.memory else None,
        "trust": [templates.table(table, rows_max) for table in profile_text.trust(profile)],
    }
