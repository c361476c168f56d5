"""`ttsbench schema`."""

from __future__ import annotations

import typer

from ttsbench.errors import ExitCode


def schema() -> ExitCode:
    """Print the JSON Schema of scenarios, for editors.

    Example: ttsbench schema > scenario.schema.json
    """
    import json

    from ttsbench.scenarios.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
    return ExitCode.OK
