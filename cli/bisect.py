"""`ttsbench bisect`."""

from __future__ import annotations

from typing import Annotated

import typer

from ttsbench.cli.arguments import Calibration, GateFolder, Overrides, Quiet, Scenario, require
from ttsbench.errors import ExitCode


def bisect(
    scenario: Scenario,
    good: Annotated[str, typer.Option(metavar="REF", help="A commit that was fast, before the bad one.")],
    bad: Annotated[str, typer.Option(metavar="REF", help="A commit that is slower.")],
    stack: Annotated[str, typer.Option(metavar="NAME", help="Which stack; the one that lost most if left out.")] = "",
    metric: Annotated[str, typer.Option(metavar="NAME", help="Which figure; the one that lost most if left out.")] = "",
    overrides: Overrides = [],  # noqa: B006
    output: GateFolder = None,
    calibration: Calibration = None,
    quiet: Quiet = False,
) -> ExitCode:
    """Find the commit that made a stack slower.

    It gates the commits between a good and a bad one.

    Example: ttsbench bisect quickstart --good v1.0 --bad main --stack lean --metric rtf
    """
    from ttsbench.cli.compare import show_verdicts
    from ttsbench.cli.console import print_lines, progress_printer
    from ttsbench.gating import bisect as engine
    from ttsbench.gating.series import GateRequest
    from ttsbench.reports import metrics
    from ttsbench.running import runner

    if metric:
        require("figure", metric, tuple(gating.name for gating in metrics.that_gate()))
    request = GateRequest(scenario, tuple(overrides), (stack,) * bool(stack), output, calibration)
    with runner.at_work():
        judged = [metrics.BY_NAME[metric]] if metric else []
        bisection = engine.bisect(request, good, bad, judged, progress_printer(quiet))
        if not bisection.regressed:
            show_verdicts(bisection.report)
        print_lines(bisection.lines)
        return ExitCode.OK if bisection.regressed else ExitCode.INCONCLUSIVE
