"""What the device has made, on its way to the host: the copy starts without holding up the device."""

from __future__ import annotations

from typing import Any

import torch


class HostCopy:
    """A copy under way; `read` waits for the device to have reached the moment that it was started."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._copy = tensor.clone()
            return
        self._copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._copy.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    def read(self) -> list[Any]:
        if self._event is not None:
            self._event.synchronize()
        return self._copy.flatten().tolist()
