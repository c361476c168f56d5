"""Ways to make sound of an utterance's tokens while more of them are still to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ttsbench.records.chunk_schedule import BLENDED_FRAMES, FRAMES_PER_TOKEN, SAMPLES_PER_FRAME, Streaming
from ttsbench.streaming.source import PITCH_REACH_FRAMES, CarriedSource
from ttsbench.streaming.synthesis import Conditions, Synthesis, bounded

SAMPLES_PER_TOKEN = FRAMES_PER_TOKEN * SAMPLES_PER_FRAME
# HiFT's convolutions reach 13 frames.
VOCODER_CONTEXT_FRAMES = 16
# A window of the vocoder is filled up with frames before it, as far as they are kept, to a multiple of this: so there
# are few lengths, and what is captured for one of them is used again. Nothing is before an utterance's first windows.
VOCODER_BUCKET_FRAMES = 32
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


@dataclass(frozen=True)
class Window:
    """A chunk's share of the flow: tokens of which the first has that number, and up to which one is to be spoken."""

    tokens: Sequence[int]
    first_token: int
    upto: int
    final: bool


@dataclass(frozen=True)
class Frames:
    """A chunk's share of the vocoder: frames of which the first has that number."""

    mel: torch.Tensor
    source: CarriedSource
    first: int
    flow_frames: int


class Windowed:
    """Each chunk is made from a window of tokens: some before it, the chunk, some ahead.

    All windows of an utterance share the noise of each frame. Mel frames near a window's end are blended with the next
    window's; the vocoder's source is carried on; its waves are blended at the seam. So nothing depends on where the
    seams are but the context that a frame was made in.

    `open`, `extend` and `cut` are the steps between the flow and the vocoder, so that both can work on the windows of
    several utterances at once.
    """

    def __init__(self, synthesis: Synthesis, voice: Conditions, seed: int, streaming: Streaming) -> None:
        self._synthesis = synthesis
        self.voice = bounded(voice, streaming.prompt_tokens)
        self.noise = synthesis.noise(seed)
        self._source = synthesis.source(self.noise)
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
        window = self.open(tokens, upto, final=final)
        mel = self._synthesis.mel(window.tokens, self.voice, self.noise, first_token=window.first_token, final=final)
        frames = self.extend(window, mel)
        return self.cut(window, frames, self._synthesis.wave(frames.mel, frames.source))

    def open(self, tokens: Sequence[int], upto: int, *, final: bool) -> Window:
        """What the flow needs for the next chunk."""
        first = max(0, self._spoken - self._context)
        return Window(tokens[first : len(tokens) if final else upto + self.lookahead_tokens], first, upto, final)

    def extend(self, window: Window, mel: torch.Tensor) -> Frames:
        """Joins the window's frames to those that are there; what the vocoder needs for the chunk."""
        first_new = FRAMES_PER_TOKEN * window.first_token
        self._mel = _joined(self._mel, self._mel_first, mel, first_new) if self._spoken else mel
        last = self._mel_first + self._mel.size(2)
        first = self._first_to_vocode(last)
        certain = last if window.final else last - BLENDED_FRAMES - PITCH_REACH_FRAMES
        source = self._source.window(first, last, certain)
        flow_frames = mel.size(2) + int(self.voice["prompt_feat"].size(1))
        return Frames(self._mel[:, :, first - self._mel_first :], source, first, flow_frames)

    def _first_to_vocode(self, last: int) -> int:
        """With enough context, and in as many frames as windows before and after have."""
        needed = max(0, FRAMES_PER_TOKEN * self._spoken - VOCODER_CONTEXT_FRAMES)
        filled = last - -(-(last - needed) // VOCODER_BUCKET_FRAMES) * VOCODER_BUCKET_FRAMES
        return min(needed, max(filled, self._mel_first, self._source.first_kept))

    def cut(self, window: Window, frames: Frames, wave: torch.Tensor) -> Piece:
        """The chunk out of its window's wave, blended with the one before it."""
        first = frames.first * SAMPLES_PER_FRAME
        start, end = self._spoken * SAMPLES_PER_TOKEN - first, window.upto * SAMPLES_PER_TOKEN - first
        if window.final:
            end = wave.size(0)
        samples = self._blended(wave[start:end])
        self._tail = wave[end : end + FADE_SAMPLES].clone()
        if not self._spoken:
            samples = self._synthesis.faded_in(samples)
        self._spoken = window.upto
        self._forget()
        return Piece(samples, frames.flow_frames, wave.size(0) // SAMPLES_PER_FRAME)

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
        needed = FRAMES_PER_TOKEN * self._spoken - VOCODER_CONTEXT_FRAMES - VOCODER_BUCKET_FRAMES
        first = max(self._mel_first, needed)
        self._mel = self._mel[:, :, first - self._mel_first :].clone()
        self._mel_first = first


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
