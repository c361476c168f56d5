"""`ttsbench validate`."""

from __future__ import annotations

import typer

from ttsbench.cli.arguments import Overrides, Scenario
from ttsbench.errors import ExitCode


def validate(scenario: Scenario, overrides: Overrides = []) -> ExitCode:  # noqa: B006
    """Check a scenario without running it, and list its mistakes.

    Example: ttsbench validate my-scenario.yaml
    """
    from ttsbench.scenarios import schema

    parsed = schema.load(schema.resolve(scenario), overrides)
    cells = parsed.cells()
    refused = [f"{cell.key} cannot run: {cell.refusal}" for cell in cells if cell.refusal]
    count = f"{len(cells)} cells, {len(refused)} of which cannot run" if refused else f"fine, {len(cells)} cells"
    typer.echo("\n".join([f"{parsed.name}: {count}", *refused, *parsed.notes]))
    return ExitCode.OK
