"""report.md: a run's sections, what went wrong in it, and what it ran on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ttsbench.records.runs import Run
from ttsbench.reports import sections
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.sections import Content, Section
from ttsbench.reports.tables import run_tables, streaming
from ttsbench.reports.tables.markdown import flatten, render
from ttsbench.reports.tables.table import Table

FILE = "report.md"


def report(run: Run, contents: Sequence[Content] | None = None) -> str:
    """The whole document; the plots that it shows lie beside it."""
    contents = list(sections.contents(run)) if contents is None else contents
    first = [content for content in contents if not content.section.details]
    details = [content for content in contents if content.section.details]
    lede = f"{run.run_id}, {run.status}, {run.started_utc} to {run.finished_utc}, ttsbench {run.ttsbench_version}"
    parts = [
        f"# {in_markdown(run.scenario)}",
        f"Run {in_markdown(lede)}.",
        *(part for content in first for part in _section(content)),
        *_list("Not measured", _failures(run)),
        *_list("Quality failed", map(in_markdown, run_tables.faults(run))),
        *_list("Warnings", map(in_markdown, (*run_tables.warnings(run), *streaming.warnings(run)))),
        *(part for content in details for part in _section(content)),
        *_list("What ran", _scenario_lines(run)),
        *_list("Ran on", (f"{in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(run.environment))),
    ]
    return "\n\n".join(parts) + "\n"


def _section(content: Content) -> list[str]:
    if not content.tables and not content.plots:
        return []
    section = content.section
    return [
        f"## {in_markdown(section.title)}",
        *([in_markdown(content.caption)] if content.caption else []),
        *(f"![{in_markdown(plot.alt)}]({plot.file})" for plot in content.plots),
        *(render(replace(table, title=_own_title(table, section)), level=3) for table in content.tables),
    ]


def _own_title(table: Table, section: Section) -> str:
    return "" if table.title == section.title else table.title


def _failures(run: Run) -> list[str]:
    escaped = (map(in_markdown, failure) for failure in run_tables.failures(run))
    return [f"{key}: **{status}**, {reason}" for key, status, reason in escaped]


def _list(title: str, lines: Iterable[str]) -> list[str]:
    written = "\n".join(f"- {line}" for line in lines)
    return [f"## {title}\n\n{written}"] if written else []


def _scenario_lines(run: Run) -> list[str]:
    """The scenario with every default in place, and what the command line changed."""
    understood = {key: value for key, value in run.scenario_understood.items() if key not in ("name", "description")}
    changed = [f"changed by --set: {in_markdown(override)}" for override in run.overrides]
    return [*(f"{in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(understood)), *changed]
