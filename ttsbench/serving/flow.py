"""S3Gen for several utterances at once: each row comes out as it does alone.

Upstream's own batch does not do that: it draws one noise for all rows, and its encoder looks ahead into padding. Here
each row has the noise of its own utterance, padding is taken out of every attention and of the look-ahead, and all
convolutions of the flow are causal, so that what stands behind a row's end reaches nothing that counts. The vocoder's
convolutions look both ways and its transform overlaps, so that it goes through utterances one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from ttsbench.model.pipeline import Pipeline
from ttsbench.model.speech import MEL_BANDS
from ttsbench.optimizations.parts.buckets import round_up
from ttsbench.optimizations.parts.flow_graphs import BUCKET_TOKENS
from ttsbench.optimizations.parts.graphs import Graphs
from ttsbench.records.chunk_schedule import FRAMES_PER_TOKEN
from ttsbench.serving.randomness import RandomStream
from ttsbench.streaming.source import CarriedSource, vocoded_with
from ttsbench.streaming.synthesis import euler_steps, euler_times

# Of 1, 2, 4 and 8 rows, and of some lengths.
GRAPHS_MAX = 24


@dataclass(frozen=True)
class Row:
    """What an utterance, or a window of it, has in a batch: tokens, and noise for the reference's frames and its own.

    The last `ahead` tokens are only looked ahead to: no noise belongs to them, and no frames come of them.
    """

    tokens: torch.Tensor
    noise: torch.Tensor
    ahead: int = 0


class BatchedS3Gen:
    """With what the stack's slots put into S3Gen."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._s3gen = pipeline.tts.s3gen
        parts = pipeline.s3gen_parts
        assert parts.estimator is not None
        assert parts.encoder is not None
        self._estimator, self._encoder = parts.estimator, parts.encoder
        self._steps = parts.fixed_steps.steps if parts.fixed_steps is not None else euler_steps(self._s3gen)
        self._graphs = Graphs(held_max=GRAPHS_MAX) if pipeline.slots["s3gen_graph"] != "off" else None
        # Captured graphs go on reading the encoder's tables of positions, also when longer ones took their place.
        self._tables: set[torch.Tensor] = set()
        self.calls = self.utterances = 0

    def mels(
        self, tokens: Sequence[torch.Tensor], randoms: Sequence[RandomStream], voice: dict[str, Any]
    ) -> list[torch.Tensor]:
        """The frames of each utterance, (1, bands, frames), with noise as upstream draws it for one utterance."""
        prompt = voice["prompt_token"].size(1)
        drawn = [self._noise(prompt + len(ids), len(ids), own) for ids, own in zip(tokens, randoms, strict=True)]
        return self.solved([Row(ids, noise) for ids, noise in zip(tokens, drawn, strict=True)], voice)

    @torch.inference_mode()
    def solved(self, batch: Sequence[Row], voice: dict[str, Any]) -> list[torch.Tensor]:
        """The frames of each row, (1, bands, frames)."""
        self.calls += 1
        self.utterances += len(batch)
        prompt, first = voice["prompt_token"].long(), voice["prompt_feat"].size(1)
        whole = [torch.cat([prompt[0], row.tokens.to(prompt.device)]) for row in batch]
        lengths = [len(row) for row in whole]
        sounding = [length - row.ahead for length, row in zip(lengths, batch, strict=True)]
        rows, longest = self._shape(len(whole), max(lengths))
        ids = torch.stack([functional.pad(row, (0, longest - len(row))) for row in whole])
        padded = [functional.pad(row.noise, (0, FRAMES_PER_TOKEN * longest - row.noise.size(2))) for row in batch]
        tensors = [ids, torch.cat(padded)]
        if self._graphs is not None or min(sounding) < longest:
            tensors += [_ones_up_to(ends, longest, tensors[1]) for ends in (lengths, sounding)]
        ids, start, *valid = (_with_rows(tensor, rows) for tensor in tensors)
        arguments = (ids, start, voice["prompt_feat"], voice["embedding"], *valid)
        solved = (
            self._work(*arguments) if self._graphs is None else self._graphs((rows, longest), self._work, *arguments)
        )
        return [solved[row : row + 1, :, first : FRAMES_PER_TOKEN * n].clone() for row, n in enumerate(sounding)]

    @torch.inference_mode()
    def wave(self, mel: torch.Tensor, random: RandomStream) -> torch.Tensor:
        """As upstream's `inference` ends: the sound, with its beginning softened, (samples,)."""
        module = self._s3gen.mel2wav.m_source
        source = CarriedSource(module, random.source_noise(module.l_sin_gen.harmonic_num + 1))
        source.window(0, mel.size(2), mel.size(2))
        with vocoded_with(self._s3gen, [source]):
            wave, _ = self._s3gen.hift_inference(mel.to(self._s3gen.dtype))
        fade = self._s3gen.trim_fade
        wave[:, : fade.numel()] *= fade[: wave.size(1)]
        assert isinstance(wave, torch.Tensor)
        return wave[0]

    @property
    def rows_per_call(self) -> float:
        """On average."""
        return round(self.utterances / max(1, self.calls), 2)

    def _shape(self, rows: int, tokens: int) -> tuple[int, int]:
        """Graphs are captured for powers of two and for buckets of lengths."""
        if self._graphs is None:
            return rows, tokens
        return 1 << (rows - 1).bit_length(), round_up(tokens, BUCKET_TOKENS)

    def _noise(self, tokens: int, speech: int, random: RandomStream) -> torch.Tensor:
        """As upstream draws it for one utterance; a mean flow draws that of the speech before all of it."""
        generator, shape = random.device, (1, MEL_BANDS, FRAMES_PER_TOKEN * tokens)
        if not self._s3gen.meanflow:
            return torch.randn(shape, generator=generator, device=generator.device)
        of_speech = torch.randn((1, MEL_BANDS, FRAMES_PER_TOKEN * speech), generator=generator, device=generator.device)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        noise[:, :, noise.size(2) - of_speech.size(2) :] = of_speech
        return noise

    def _work(
        self,
        ids: torch.Tensor,
        start: torch.Tensor,
        prompt: torch.Tensor,
        speaker: torch.Tensor,
        valid: torch.Tensor | None = None,
        sounding: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Tokens and noise to frames. `valid` is 1 for tokens and 0 for padding; `sounding` is 1 for those that frames
        are made of."""
        flow, rows = self._s3gen.flow, ids.size(0)
        embedded = flow.input_embedding(ids)
        hidden = self._encoder.work(embedded if valid is None else embedded * valid[:, :, None], valid)
        self._tables.update((flow.encoder.embed.pos_enc.pe, flow.encoder.up_embed.pos_enc.pe))
        mu = flow.encoder_proj(hidden).transpose(1, 2).contiguous()
        cond = torch.zeros_like(mu)
        cond[:, :, : prompt.size(1)] = prompt.transpose(1, 2)
        spks = flow.spk_embed_affine_layer(functional.normalize(speaker, dim=1)).expand(rows, -1)
        keys = None if sounding is None else self._keys(sounding)
        times = euler_times(flow.decoder, self._steps, start)
        return self._estimator.solve(flow.decoder, start, times, mu, spks, cond, keys)

    def _keys(self, sounding: torch.Tensor) -> torch.Tensor:
        """What attention in the estimator needs to know; with guidance, rows without conditions come last."""
        module = self._estimator.module
        frames = sounding.repeat_interleave(FRAMES_PER_TOKEN, dim=1)[:, None].to(module.dtype)
        marked = self._estimator.attention.mark_keys(frames if module.meanflow else frames.repeat(2, 1, 1))
        assert isinstance(marked, torch.Tensor)
        return marked


def _ones_up_to(lengths: Sequence[int], longest: int, like: torch.Tensor) -> torch.Tensor:
    """(rows, longest): 1 for what is there, 0 for padding behind it."""
    ends = torch.tensor(lengths, device=like.device)[:, None]
    return (torch.arange(longest, device=like.device) < ends).to(like.dtype)


def _with_rows(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    """Filled up with copies of the last row, which are not looked at."""
    return torch.cat([tensor, tensor[-1:].expand(rows - tensor.size(0), *tensor.shape[1:])])
