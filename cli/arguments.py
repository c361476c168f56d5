"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def complete_scenario(incomplete: str) -> list[str]:
    """Shell completion: shipped scenarios by name."""
    from ttsbench.scenarios import schema

    return [name for name in schema.shipped() if name.startswith(incomplete)]


Scenario = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A YAML file, or the name of a shipped scenario.",
                        autocompletion=complete_scenario)
]  # fmt: skip
OptionalScenario = Annotated[
    str, typer.Argument(metavar="[SCENARIO]", help="A YAML file, or the name of a shipped scenario.",
                        autocompletion=complete_scenario)
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
