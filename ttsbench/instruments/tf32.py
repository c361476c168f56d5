"""Whether fp32 products of matrices and convolutions may be TF32's: a setting of the whole process, for one block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ttsbench.instruments.swapping import swapped

# Of matrices, of convolutions.
Setting = tuple[bool, bool]
ALLOWED: Setting = (True, True)
FORBIDDEN: Setting = (False, False)
_PLACES: tuple[Any, Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)


def tf32_setting() -> Setting:
    matrices, convolutions = (bool(place.allow_tf32) for place in _PLACES)
    return matrices, convolutions


@contextmanager
def tf32(setting: Setting = ALLOWED) -> Iterator[None]:
    with ExitStack() as places:
        for place, allowed in zip(_PLACES, setting, strict=True):
            places.enter_context(swapped(place, "allow_tf32", allowed))
        yield
