"""Windows of several streams at once: one call of the flow for all, and one of the vocoder for those of one length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from ttsbench.model.pipeline import Pipeline
from ttsbench.records.chunk_schedule import ENCODER_LOOKAHEAD_TOKENS, FRAMES_PER_TOKEN
from ttsbench.serving.flow import BatchedS3Gen, Row
from ttsbench.streaming.designs import Frames, Window, Windowed
from ttsbench.streaming.stream import DueChunk, Stream
from ttsbench.streaming.synthesis import Synthesis


class WindowBatch:
    """All streams have one voice, that of the workload."""

    def __init__(self, pipeline: Pipeline, synthesis: Synthesis) -> None:
        self._synthesis = synthesis
        self.s3gen = BatchedS3Gen(pipeline)

    @torch.inference_mode()
    def speak(self, due_chunks: Mapping[Stream, DueChunk]) -> None:
        """The next chunk of each stream, delivered in their order."""
        began = {stream: stream.now() for stream in due_chunks}
        windows = [
            _design(stream).open(stream.tokens, due.end_token, final=due.final) for stream, due in due_chunks.items()
        ]
        designs = [_design(stream) for stream in due_chunks]
        rows = [_row(design, window) for design, window in zip(designs, windows, strict=True)]
        dtype = self._synthesis.s3gen.dtype
        mels = [mel.to(dtype) for mel in self.s3gen.solved(rows, designs[0].voice)]
        frames = [d.extend(window, mel) for d, window, mel in zip(designs, windows, mels, strict=True)]
        waves = self._waves(frames)
        for (stream, due), window, own, wave in zip(due_chunks.items(), windows, frames, waves, strict=True):
            stream.deliver(due, _design(stream).cut(window, own, wave), began[stream])

    def _waves(self, frames: Sequence[Frames]) -> list[torch.Tensor]:
        """The vocoder's convolutions look both ways, so that no length can stand for another."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for number, own in enumerate(frames):
            of_length[own.mel.size(2)].append(number)
        waves: dict[int, torch.Tensor] = {}
        for numbers in of_length.values():
            mels = torch.cat([frames[number].mel for number in numbers])
            made = self._synthesis.waves(mels, [frames[number].source for number in numbers])
            waves |= dict(zip(numbers, made, strict=True))
        return [waves[number] for number in range(len(frames))]


def _design(stream: Stream) -> Windowed:
    assert isinstance(stream.design, Windowed)
    return stream.design


def _row(design: Windowed, window: Window) -> Row:
    """The reference's frames come before the window's, and are numbered backwards from its first."""
    ahead = 0 if window.final else ENCODER_LOOKAHEAD_TOKENS
    prompt = int(design.voice["prompt_feat"].size(1))
    first = FRAMES_PER_TOKEN * window.first_token
    last = first + FRAMES_PER_TOKEN * (len(window.tokens) - ahead)
    return Row(torch.tensor(window.tokens), design.noise.mel(first - prompt, last), ahead)
