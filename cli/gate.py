"""`ttsbench gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttsbench.cli.arguments import (
    Calibration,
    FailOn,
    Formats,
    GateFolder,
    Only,
    Overrides,
    Quiet,
    Scenario,
    check_formats,
    check_reasons,
)
from ttsbench.errors import ExitCode


def gate(
    scenario: Scenario,
    base: Annotated[str, typer.Option(metavar="REF", help="The commit to compare with, measured now.")] = "",
    head: Annotated[str, typer.Option(metavar="REF", help="The commit that is judged; the working tree if left "
                                      "out.")] = "",
    base_run: Annotated[Path | None, typer.Option(metavar="RUN", help="A run of the past in the base's place.")] = None,
    overrides: Overrides = [],  # noqa: B006
    only: Only = [],  # noqa: B006
    fail_on: FailOn = [],  # noqa: B006
    output: GateFolder = None,
    formats: Formats = [],  # noqa: B006
    calibration: Calibration = None,
    quiet: Quiet = False,
) -> ExitCode:  # fmt: skip
    """Decide whether a change made anything slower.

    Both versions take turns; what is slower has to be so again in a second series of fresh processes.

    Example: ttsbench gate quickstart --base main --only lean --fail-on slower
    """
    from ttsbench.cli.compare import show_verdicts
    from ttsbench.cli.console import print_lines, progress_printer
    from ttsbench.gating import compare
    from ttsbench.gating import gate as engine
    from ttsbench.gating.series import GateRequest
    from ttsbench.reports.formats import registry
    from ttsbench.running import runner

    check_reasons(fail_on)
    check_formats(formats, registry.COMPARISON, output or Path())
    request = GateRequest(scenario, tuple(overrides), tuple(only), output, calibration)
    with runner.at_work():
        versions = engine.ComparedVersions(base, head, base_run)
        report, folder = engine.gate(request, versions, progress_printer(quiet))
        show_verdicts(report)
        compare.write(report, folder, formats, fail_on=fail_on)
        print_lines([f"written to {folder}", *(f"did not run: {reason}" for reason in engine.failures(report))])
        return engine.exit_code(report, fail_on)
