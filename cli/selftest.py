"""`ttsbench selftest`."""

from __future__ import annotations

from typing import Annotated

import typer

from ttsbench.errors import ExitCode


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="100 comparisons a row in the place of 1,000.")] = False,
) -> ExitCode:
    """Show how often the tool itself errs, over simulated comparisons.

    Example: ttsbench selftest --quick
    """
    from ttsbench.cli import console
    from ttsbench.gating import selftest as engine

    comparisons = engine.QUICK_COMPARISONS if quick else engine.COMPARISONS
    outcomes = engine.simulate(comparisons, console.print_progress)
    console.show_table(engine.table(outcomes, comparisons))
    broken = engine.complaints(outcomes)
    console.print_lines([f"not as promised: {complaint}" for complaint in broken] or ["all as promised"])
    return ExitCode.QUALITY if broken else ExitCode.OK
