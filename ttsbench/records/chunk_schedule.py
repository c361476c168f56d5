"""How an utterance is cut into chunks: plain numbers, and the sizes that follow from them. No torch behind it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

TOKENS_PER_SECOND = 25
# The flow encoder looks so many tokens ahead; a mel frame is 20 ms.
ENCODER_LOOKAHEAD_TOKENS = 3
FRAMES_PER_TOKEN = 2
SAMPLES_PER_FRAME = 480
# Of the mel frames that a window has beyond its chunk, so many are made again by the next one and blended.
BLENDED_FRAMES = 4
LOOKAHEAD_TOKENS_MIN = ENCODER_LOOKAHEAD_TOKENS + BLENDED_FRAMES // FRAMES_PER_TOKEN


@dataclass(frozen=True)
class Streaming:
    """The chunks of a stream, and what a window of the `windowed` design holds beside them."""

    first_tokens: int = 4
    growth: float = 2.0
    cap_tokens: int = 64
    # In the place of the three above: all chunks of so many seconds.
    buffer_seconds: float | None = None
    context_tokens: int = 25
    # The encoder's three, and 8 frames for the vocoder, half of which the next window makes again.
    lookahead_tokens: int = 7
    # Of the reference, its end; all of it where none is given.
    prompt_tokens: int | None = None
    # Whether T3 decodes on while S3Gen works.
    overlap: bool = True
    # Whether it waits while S3Gen makes the first chunk, which is then there sooner.
    pause_for_first_chunk: bool = True
    # Whether each utterance prepares its voice anew, within its time to first audio.
    prepare_voice: bool = False

    def sizes(self) -> Iterator[int]:
        """Speech tokens of each chunk, without end."""
        if self.buffer_seconds is not None:
            return itertools.repeat(max(1, round(self.buffer_seconds * TOKENS_PER_SECOND)))
        return (min(self.cap_tokens, int(size)) for size in _growing(float(self.first_tokens), self.growth))


def _growing(size: float, growth: float) -> Iterator[float]:
    """Stops growing long before a float overflows."""
    while True:
        yield size
        size = min(size * growth, 1e6)


class Cutter:
    """Cuts an utterance into chunks while its tokens come."""

    def __init__(self, streaming: Streaming, lookahead_tokens: int) -> None:
        self._sizes = streaming.sizes()
        self._lookahead = lookahead_tokens
        self._next = next(self._sizes)

    def due(self, made: int, tokens: int) -> int | None:
        """The end of the next chunk, once the tokens ahead of it are there too; `made` tokens are in chunks already."""
        end_token = made + self._next
        if tokens < end_token + self._lookahead:
            return None
        self._next = next(self._sizes)
        return end_token
