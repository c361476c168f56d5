"""report.md: the run's tables, its failures and what it ran on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ttsbench.records.runs import Run
from ttsbench.reports.escaping import in_markdown
from ttsbench.reports.pages import drawings, load_plot, stream_plot
from ttsbench.reports.tables import ablation, claims, forwards, loads, run_tables, streaming
from ttsbench.reports.tables.table import Table

# What stands first: the figures of utterances or of forwards, then what others claim of them.
OVERVIEWS = (run_tables.overview, streaming.listener, forwards.overview, loads.overview, claims.overview)

DETAILS = (
    streaming.engine,
    streaming.seams,
    streaming.voices,
    run_tables.quality,
    run_tables.stages,
    run_tables.detail,
    run_tables.memory,
    run_tables.ladder,
)


def report(run: Run, plots: Collection[str] = ()) -> str:
    """The whole document, with those plots that lie beside it."""
    parts = [
        f"# {in_markdown(run.scenario)}",
        f"Run {in_markdown(lede(run))}.",
        *(render(table) for build in OVERVIEWS for table in build(run)),
        *(f"![{drawings.title(name)}]({name})" for name in plots),
        *_ablation(run),
        *(f"![Load against latency]({name})" for name in load_plot.drawings(run)),
        *_streams(run),
        *_section("Not measured", _failures(run)),
        *_section("Quality failed", [in_markdown(fault) for fault in run_tables.faults(run)]),
        *_section(
            "Warnings", [in_markdown(warning) for warning in (*run_tables.warnings(run), *streaming.warnings(run))]
        ),
        *(render(table) for build in DETAILS for table in build(run) if table.rows),
        *_section("What ran", _scenario_lines(run)),
        *_section("Ran on", _environment_lines(run)),
    ]
    return "\n\n".join(parts) + "\n"


def lede(run: Run) -> str:
    """Which run this is, of when, and whether it is whole."""
    return f"{run.run_id}, {run.status}, {run.started_utc} to {run.finished_utc}, ttsbench {run.ttsbench_version}"


def _failures(run: Run) -> list[str]:
    return [
        f"{in_markdown(where)}: **{in_markdown(what)}**, {in_markdown(why)}"
        for where, what, why in run_tables.failures(run)
    ]


def _ablation(run: Run) -> list[str]:
    found = ablation.ablation(run)
    if found is None:
        return []
    return [render(ablation.table(found)), f"![What each slot saves]({ablation.PLOT})"]


def _streams(run: Run) -> list[str]:
    drawn = [f"![A stream over time]({name})" for name in stream_plot.drawings(run)]
    return ["## Streams over time", *drawn] if drawn else []


def render(table: Table, level: int = 2) -> str:
    """One table with its notes below."""
    lines = [f"{'#' * level} {in_markdown(table.title)}", ""] if table.title else []
    lines += [
        _row(map(in_markdown, table.header)),
        _row("---" if column.is_text else "---:" for column in table.columns),
    ]
    lines += [_row(map(in_markdown, texts)) for texts in table.texts]
    return "\n".join([*lines, *(f"\n{in_markdown(note)}" for note in table.notes)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)] if lines else []


def _scenario_lines(run: Run) -> list[str]:
    """The scenario with every default in place, and what the command line changed."""
    understood = {key: value for key, value in run.scenario_understood.items() if key not in ("name", "description")}
    changed = [f"changed by --set: {in_markdown(override)}" for override in run.overrides]
    return [*(f"{in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(understood)), *changed]


def _environment_lines(run: Run) -> list[str]:
    """The fingerprint, flattened to `name: value`."""
    return [f"{in_markdown(name)}: {in_markdown(value)}" for name, value in flatten(run.environment)]


def flatten(data: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested data as dotted names and texts; hashes are cut to 12 digits."""
    if isinstance(data, dict):
        return [
            pair for key, value in data.items() for pair in flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(data, list | tuple):
        data = ", ".join(str(item) for item in data)
    text = str(data)
    return [(prefix, text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text)]
