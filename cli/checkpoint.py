"""`ttsbench checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttsbench.cli.arguments import require
from ttsbench.errors import ExitCode
from ttsbench.model.families import SIZES, Family, names


def checkpoint(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it; made if it is not there.")],
    family: Annotated[str, typer.Option(help=f"{', '.join(names(Family.speaks))}.")] = "chatterbox",
    size: Annotated[str, typer.Option(help="full (the true architecture) or tiny.")] = "full",
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> ExitCode:
    """Write a checkpoint with seeded random weights.

    It holds the files that upstream loads.

    Example: ttsbench checkpoint /tmp/model --family turbo --size tiny
    """
    require("family", family, names(Family.speaks))
    require("size", size, SIZES)
    require("dtype", dtype, ("fp32", "fp16", "bf16"))
    from ttsbench.model import checkpoint as checkpoints

    typer.echo(checkpoints.write(folder, family, size=size, dtype=dtype, seed=seed))
    return ExitCode.OK
