"""Folders that results go to."""

from __future__ import annotations

from pathlib import Path

from ttsbench.errors import UsageError


def make_folder(folder: Path) -> None:
    """To be called before anything is measured, so that a wrong path costs nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}", mend="Give --output another folder") from None
