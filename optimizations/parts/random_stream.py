"""Random streams that are drawn from ahead of what is known, and put back afterwards."""

from __future__ import annotations

import torch


def of_process(device: torch.device) -> torch.Generator:
    """What everything in the process draws from that names no stream."""
    return torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator


class Draws:
    """Counts draws by what the first one took of a GPU's stream. On a CPU nobody draws ahead."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator if generator.device.type == "cuda" else None
        self._before = 0 if self._generator is None else self._generator.get_offset()
        self._of_one = 0

    def first_is_over(self) -> None:
        """Every draw takes as much as the first."""
        if self._generator is not None:
            self._of_one = self._generator.get_offset() - self._before

    def rewind(self, draws: int) -> None:
        """As if only so many had been made."""
        if self._generator is not None:
            self._generator.set_offset(self._before + draws * self._of_one)
