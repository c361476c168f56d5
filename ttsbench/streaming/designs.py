"""Ways to make sound of an utterance's tokens while more of them are still to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ttsbench.streaming.schedule import (
    BLENDED_FRAMES,
    FRAMES_PER_TOKEN,
    SAMPLES_PER_FRAME,
    Streaming,
)
from ttsbench.streaming.source import PITCH_REACH_FRAMES
from ttsbench.streaming.synthesis import Conditions, Synthesis, bounded

SAMPLES_PER_TOKEN = FRAMES_PER_TOKEN * SAMPLES_PER_FRAME
# HiFT's convolutions reach 13 frames.
VOCODER_CONTEXT_FRAMES = 16
# Two windows' waves are blended over so much of the next chunk's beginning: 10 ms.
FADE_SAMPLES = 240


@dataclass(frozen=True)
class Piece:
    """The sound of one chunk, on the model's device, and how many frames were worked through for it."""

    samples: torch.Tensor
    flow_frames: int
    vocoder_frames: int


class Design(Protocol):
    """Makes the sound of one utterance."""

    lookahead_tokens: int

    def speak(self, tokens: Sequence[int], upto: int, *, final: bool) -> Piece:
        """What follows what was spoken before, up to that token; `tokens` are all that there are by now."""


class Revocode:
    """Everything so far is made anew for each chunk, from new noise, and what is new is cut off its end."""

    lookahead_tokens = 0

    def __init__(self, synthesis: Synthesis, voice: Conditions, seed: int, streaming: Streaming) -> None:
        self._synthesis = synthesis
        self._voice = bounded(voice, streaming.prompt_tokens)
        self._seed = seed
        self._calls = self._spoken = 0

    @torch.inference_mode()
    def speak(self, tokens: Sequence[int], upto: int, *, final: bool) -> Piece:
        """As public forks do it."""
        self._calls += 1
        wave = self._synthesis.whole(tokens[:upto], self._voice, self._synthesis.noise(self._seed + self._calls))
        spoken, self._spoken = self._spoken, wave.size(0)
        frames = wave.size(0) // SAMPLES_PER_FRAME
        return Piece(wave[spoken:], frames + self._voice["prompt_feat"].size(1), frames)


class Windowed:
    """Each chunk is made from a window of tokens: some before it, the chunk, some ahead.

    All windows of an utterance share the noise of each frame. Mel frames near a window's end are blended with the next
    window's; the vocoder's source is carried on; its waves are blended at the seam. So nothing depends on where the
    seams are but the context that a frame was made in.
    """

    def __init__(self, synthesis: Synthesis, voice: Conditions, seed: int, streaming: Streaming) -> None:
        self._synthesis = synthesis
        self._voice = bounded(voice, streaming.prompt_tokens)
        self._noise = synthesis.noise(seed)
        self._source = synthesis.source(self._noise)
        self._context = streaming.context_tokens
        self.lookahead_tokens = streaming.lookahead_tokens
        self._spoken = 0
        # Frames made so far that are still needed, and the number of the first of them.
        self._mel = torch.empty(0)
        self._mel_first = 0
        self._tail = torch.empty(0)

    @torch.inference_mode()
    def speak(self, tokens: Sequence[int], upto: int, *, final: bool) -> Piece:
        """One window of tokens, then one of frames."""
        flow_frames = self._extend_mel(tokens, upto, final)
        wave, first = self._vocode(final)
        start, end = self._spoken * SAMPLES_PER_TOKEN - first, upto * SAMPLES_PER_TOKEN - first
        if final:
            end = wave.size(0)
        samples = self._blended(wave[start:end])
        self._tail = wave[end : end + FADE_SAMPLES].clone()
        if not self._spoken:
            samples = self._synthesis.faded_in(samples)
        self._spoken = upto
        self._forget()
        return Piece(samples, flow_frames, wave.size(0) // SAMPLES_PER_FRAME)

    def _extend_mel(self, tokens: Sequence[int], upto: int, final: bool) -> int:
        """Makes the frames of the next window and joins them to those that are there."""
        first_token = max(0, self._spoken - self._context)
        last_token = len(tokens) if final else upto + self.lookahead_tokens
        new = self._synthesis.mel(
            tokens[first_token:last_token], self._voice, self._noise, first_token=first_token, final=final
        )
        first = FRAMES_PER_TOKEN * first_token
        self._mel = _joined(self._mel, self._mel_first, new, first) if self._spoken else new
        return new.size(2) + int(self._voice["prompt_feat"].size(1))

    def _vocode(self, final: bool) -> tuple[torch.Tensor, int]:
        """The wave of all frames from some before the chunk on, and the number of its first sample."""
        first = max(0, FRAMES_PER_TOKEN * self._spoken - VOCODER_CONTEXT_FRAMES)
        last = self._mel_first + self._mel.size(2)
        certain = last if final else last - BLENDED_FRAMES - PITCH_REACH_FRAMES
        source = self._source.window(first, last, certain)
        return self._synthesis.wave(self._mel[:, :, first - self._mel_first :], source), first * SAMPLES_PER_FRAME

    def _blended(self, samples: torch.Tensor) -> torch.Tensor:
        """The chunk with its beginning shared with the window before it."""
        length = min(self._tail.size(0), samples.size(0))
        if not length:
            return samples
        weight = torch.linspace(0, 1, length, device=samples.device)
        shared = self._tail[:length] * (1 - weight) + samples[:length] * weight
        return torch.cat([shared, samples[length:]])

    def _forget(self) -> None:
        """Frames that no later window looks at."""
        needed = max(0, FRAMES_PER_TOKEN * self._spoken - VOCODER_CONTEXT_FRAMES)
        self._mel = self._mel[:, :, needed - self._mel_first :].clone()
        self._mel_first = needed


def _joined(old: torch.Tensor, old_first: int, new: torch.Tensor, new_first: int) -> torch.Tensor:
    """Two windows' frames: the old ones, the last few of them blended into the new ones."""
    end = old_first + old.size(2)
    blend = min(BLENDED_FRAMES, end - new_first)
    weight = torch.arange(1, blend + 1, device=new.device) / (blend + 1)
    until = end - new_first
    blended = old[:, :, old.size(2) - blend :] * (1 - weight) + new[:, :, until - blend : until] * weight
    return torch.cat([old[:, :, : old.size(2) - blend], blended, new[:, :, until:]], dim=2)


MakeDesign = Callable[[Synthesis, Conditions, int, Streaming], Design]
DESIGNS: Mapping[str, MakeDesign] = {"revocode": Revocode, "windowed": Windowed}
