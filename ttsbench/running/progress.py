"""How far something is, in words: whoever runs it passes a function that shows them."""

from collections.abc import Callable

ProgressCallback = Callable[[str], None]


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
