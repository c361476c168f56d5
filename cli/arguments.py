"""Arguments and options that several commands take, and their checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ttsbench.errors import UsageError, suggest


def complete_scenario(incomplete: str) -> list[str]:
    """Shell completion: shipped scenarios by name."""
    from ttsbench.scenarios.shipped import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


SCENARIO_HELP = "A YAML file, or the name of a shipped scenario."
Scenario = Annotated[
    str, typer.Argument(metavar="SCENARIO", help=SCENARIO_HELP, autocompletion=complete_scenario)
]  # fmt: skip
OptionalScenario = Annotated[
    str, typer.Argument(metavar="[SCENARIO]", help=SCENARIO_HELP, autocompletion=complete_scenario)
]  # fmt: skip
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value, e.g. measure.repeats=3. Repeatable."),
]
Formats = Annotated[
    list[str],
    typer.Option("--format", metavar="NAME", help="Also, in DIR: csv, parquet, junit, github, action-benchmark or "
                                                  "bencher. Repeatable."),
]  # fmt: skip
Only = Annotated[list[str], typer.Option(metavar="PATTERN", help="Only these stacks or cells. Repeatable.")]
FailOn = Annotated[
    list[str],
    typer.Option(metavar="REASON", help="slower, quality or inconclusive; all if left out. Repeatable."),
]
Calibration = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Floors from this file; from the user's data folder if left out.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; only the result.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A folder below runs/, or its run.json.")]
GateFolder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where records and reports go; a folder in runs/ if left out.")
]


def require(kind: str, name: str, allowed: Sequence[str]) -> None:
    """Refuses a name that is none of the allowed."""
    if name not in allowed:
        raise UsageError(f"there is no {kind} '{name}'; {suggest(name, allowed)}")


def check_formats(formats: Sequence[str], allowed: Collection[str], output: Path | None) -> None:
    """Before anything is measured or read."""
    from ttsbench.reports.formats.values import require_parquet

    for name in formats:
        require("format", name, tuple(allowed))
    if formats and output is None:
        raise UsageError(f"--format {formats[0]} is a file, and there is no folder for it", mend="Give --output DIR")
    if "parquet" in formats:
        require_parquet()


def check_reasons(fail_on: Sequence[str]) -> None:
    from ttsbench.reports.tables.verdicts import REASONS

    for reason in fail_on:
        require("reason to fail", reason, REASONS)
