"""`ttsbench overhead`."""

from __future__ import annotations

from typing import Annotated

import typer

from ttsbench.cli.arguments import require
from ttsbench.errors import ExitCode


def overhead(
    size: Annotated[str, typer.Option(help="full or tiny; full where there is a GPU.")] = "",
    pairs: Annotated[int, typer.Option(min=3, help="How many pairs of utterances.")] = 60,
    tokens: Annotated[int, typer.Option(min=1, help="Speech tokens per utterance.")] = 25,
) -> ExitCode:
    """Show that the harness does not slow down what it measures.

    Example: ttsbench overhead --size tiny --pairs 100
    """
    from ttsbench.cli.console import print_lines
    from ttsbench.model.families import SIZES
    from ttsbench.running import host
    from ttsbench.running import overhead as engine

    if size:
        require("size", size, SIZES)
    machine = host.machine()
    size = size or ("full" if machine.has_cuda else "tiny")
    measured = engine.compare(size, host.resolve_device("auto", machine), pairs, tokens)
    print_lines([measured.describe()])
    return ExitCode.OK if measured.ratio <= measured.allowed else ExitCode.SLOWER
