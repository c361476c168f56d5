"""`ttsbench calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttsbench.cli.arguments import Only, Overrides, Quiet, Scenario
from ttsbench.errors import ExitCode

if TYPE_CHECKING:
    from ttsbench.gating.series import GateRequest


def calibrate(
    scenario: Scenario,
    series: Annotated[int, typer.Option(metavar="N", min=1, help="How many series; a floor takes 20.")] = 20,
    only: Only = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep it there; in the user's data folder, where "
                                                "compare and gate look for it, if left out.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what is kept, and measure nothing.")] = False,
    quiet: Quiet = False,
) -> ExitCode:  # fmt: skip
    """Measure how much the same code differs from itself here.

    What differs by less than this floor does not count in `compare` and `gate`.

    Example: ttsbench calibrate quickstart --only lean
    """
    from ttsbench.cli import console
    from ttsbench.gating import calibrate as engine
    from ttsbench.gating.series import GateRequest
    from ttsbench.reports.decide.calibration import LASTS, table
    from ttsbench.running import runner

    request = GateRequest(scenario, tuple(overrides), tuple(only), output)
    if show:
        return show_stored(request)
    with runner.at_work():
        calibration, file = engine.calibrate(request, series, console.progress_printer(quiet))
        console.show_table(table(calibration))
        console.print_lines([f"kept in {file}, for {LASTS.days} days"])
    return ExitCode.OK


def show_stored(request: GateRequest) -> ExitCode:
    from ttsbench.cli import console
    from ttsbench.gating import calibrate as engine
    from ttsbench.gating.calibrations import NOT_CALIBRATED
    from ttsbench.reports.decide.calibration import table

    stored = engine.stored_calibrations(request)
    for kept in stored:
        console.show_table(table(kept.calibration))
        console.print_lines([f"not used here: {kept.objection}" if kept.objection else "used here"])
    if not stored:
        console.print_lines([NOT_CALIBRATED])
    return ExitCode.OK
