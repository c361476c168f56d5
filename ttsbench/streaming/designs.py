"""Ways to make sound of an utterance's tokens while more of them are still to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ttsbench.records.chunk_schedule import BLENDED_FRAMES, FRAMES_PER_TOKEN, SAMPLES_PER_FRAME, Streaming
from ttsbench.streaming.source import PITCH_REACH_FRAMES, CarriedSource
from ttsbench.streaming.synthesis import Conditions, Synthesis, with_prompt_tokens

SAMPLES_PER_TOKEN = FRAMES_PER_TOKEN * SAMPLES_PER_FRAME
# HiFT's convolutions reach 13 frames.
VOCODER_CONTEXT_FRAMES = 16
# A window of the vocoder is filled up with frames before it, as far as they are kept, to a multiple of this: so there
# are few lengths, and what is captured for one of them is used again. Nothing is before an utterance's first windows.
VOCODER_BUCKET_FRAMES = 32
# Two windows' waves are blended over so much of the next chunk's beginning: 10 ms.
FADE_SAMPLES = 240


@dataclass(frozen=True)
class ChunkAudio:
    """The sound of one chunk, on the model's device, and how many frames went through flow and vocoder for it."""

    samples: torch.Tensor
    flow_frames: int
    vocoder_frames: int


class Design(Protocol):
    """Makes the sound of one utterance."""

    lookahead_tokens: int

    def speak(self, tokens: Sequence[int], end_token: int, *, final: bool) -> ChunkAudio:
        """The sound from the end of the last chunk up to `end_token`; `tokens` are all that there are by now."""


class Revocode:
    """What public forks do: for each chunk everything is made anew, from new noise, and its new end is cut off."""

    lookahead_tokens = 0

    def __init__(self, synthesis: Synthesis, voice: Conditions, seed: int, streaming: Streaming) -> None:
        self._synthesis = synthesis
        self._voice = with_prompt_tokens(voice, streaming.prompt_tokens)
        self._seed = seed
        self._calls = self._made = 0

    @torch.inference_mode()
    def speak(self, tokens: Sequence[int], end_token: int, *, final: bool) -> ChunkAudio:
        self._calls += 1
        wave = self._synthesis.whole(tokens[:end_token], self._voice, self._synthesis.noise(self._seed + self._calls))
        first, self._made = self._made, wave.size(0)
        frames = wave.size(0) // SAMPLES_PER_FRAME
        return ChunkAudio(wave[first:], frames + self._voice["prompt_feat"].size(1), frames)


@dataclass(frozen=True)
class Window:
    """The flow's work for a chunk: tokens from number `first_token` on; the chunk ends at `end_token`."""

    tokens: Sequence[int]
    first_token: int
    end_token: int
    final: bool


@dataclass(frozen=True)
class Frames:
    """The vocoder's work for a chunk: mel frames from number `first` on."""

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
        self.voice = with_prompt_tokens(voice, streaming.prompt_tokens)
        self.noise = synthesis.noise(seed)
        self._source = synthesis.source(self.noise)
        self._context = streaming.context_tokens
        self.lookahead_tokens = streaming.lookahead_tokens
        self._made = 0
        # Frames made so far that are still needed, and the number of the first of them.
        self._mel = torch.empty(0)
        self._mel_first = 0
        self._tail = torch.empty(0)

    @torch.inference_mode()
    def speak(self, tokens: Sequence[int], end_token: int, *, final: bool) -> ChunkAudio:
        window = self.open(tokens, end_token, final=final)
        mel = self._synthesis.mel(window.tokens, self.voice, self.noise, first_token=window.first_token, final=final)
        frames = self.extend(window, mel)
        return self.cut(window, frames, self._synthesis.wave(frames.mel, frames.source))

    def open(self, tokens: Sequence[int], end_token: int, *, final: bool) -> Window:
        """The flow's work for the next chunk."""
        first = max(0, self._made - self._context)
        return Window(
            tokens[first : len(tokens) if final else end_token + self.lookahead_tokens], first, end_token, final
        )

    def extend(self, window: Window, mel: torch.Tensor) -> Frames:
        """Joins the window's frames to the kept ones; gives the vocoder's work for the chunk."""
        first_new = FRAMES_PER_TOKEN * window.first_token
        self._mel = _joined(self._mel, self._mel_first, mel, first_new) if self._made else mel
        last = self._mel_first + self._mel.size(2)
        first = self._first_to_vocode(last)
        certain = last if window.final else last - BLENDED_FRAMES - PITCH_REACH_FRAMES
        source = self._source.window(first, last, certain)
        flow_frames = mel.size(2) + int(self.voice["prompt_feat"].size(1))
        return Frames(self._mel[:, :, first - self._mel_first :], source, first, flow_frames)

    def _first_to_vocode(self, last: int) -> int:
        """Enough context, and as many frames as the windows before and after have."""
        needed = max(0, FRAMES_PER_TOKEN * self._made - VOCODER_CONTEXT_FRAMES)
        filled = last - -(-(last - needed) // VOCODER_BUCKET_FRAMES) * VOCODER_BUCKET_FRAMES
        return min(needed, max(filled, self._mel_first, self._source.first_kept))

    def cut(self, window: Window, frames: Frames, wave: torch.Tensor) -> ChunkAudio:
        """The chunk out of its window's wave, blended with the one before it."""
        first = frames.first * SAMPLES_PER_FRAME
        start, end = self._made * SAMPLES_PER_TOKEN - first, window.end_token * SAMPLES_PER_TOKEN - first
        if window.final:
            end = wave.size(0)
        samples = self._blended(wave[start:end])
        self._tail = wave[end : end + FADE_SAMPLES].clone()
        if not self._made:
            samples = self._synthesis.faded_in(samples)
        self._made = window.end_token
        self._forget()
        return ChunkAudio(samples, frames.flow_frames, wave.size(0) // SAMPLES_PER_FRAME)

    def _blended(self, samples: torch.Tensor) -> torch.Tensor:
        length = min(self._tail.size(0), samples.size(0))
        if not length:
            return samples
        weight = torch.linspace(0, 1, length, device=samples.device)
        shared = self._tail[:length] * (1 - weight) + samples[:length] * weight
        return torch.cat([shared, samples[length:]])

    def _forget(self) -> None:
        """Drops frames that no later window looks at."""
        needed = FRAMES_PER_TOKEN * self._made - VOCODER_CONTEXT_FRAMES - VOCODER_BUCKET_FRAMES
        first = max(self._mel_first, needed)
        self._mel = self._mel[:, :, first - self._mel_first :].clone()
        self._mel_first = first


def _joined(old: torch.Tensor, old_first: int, new: torch.Tensor, new_first: int) -> torch.Tensor:
    """The frames of two windows, the last few old ones blended into the new ones."""
    end = old_first + old.size(2)
    blend = min(BLENDED_FRAMES, end - new_first)
    weight = torch.arange(1, blend + 1, device=new.device) / (blend + 1)
    until = end - new_first
    blended = old[:, :, old.size(2) - blend :] * (1 - weight) + new[:, :, until - blend : until] * weight
    return torch.cat([old[:, :, : old.size(2) - blend], blended, new[:, :, until:]], dim=2)


MakeDesign = Callable[[Synthesis, Conditions, int, Streaming], Design]
DESIGNS: Mapping[str, MakeDesign] = {"revocode": Revocode, "windowed": Windowed}
