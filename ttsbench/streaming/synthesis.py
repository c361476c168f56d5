"""S3Gen's two halves with every random number given; what slots put into either is what runs.

Upstream's own calls draw from the process's random stream, which belongs to T3 while it decodes. With `finalize=False`
upstream 0.1.7 leaves its mask six frames longer than the mel, and fails; here the mask is as long as the mel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ttsbench.instruments.swapping import swapped
from ttsbench.records.chunk_schedule import FRAMES_PER_TOKEN
from ttsbench.streaming.noise import FrameNoise
from ttsbench.streaming.source import CarriedSource, vocoded_with

Conditions = Mapping[str, Any]


def euler_steps(s3gen: Any) -> int:
    """As many as upstream's `inference` takes."""
    return 2 if s3gen.meanflow else 10


def euler_times(decoder: Any, steps: int, like: torch.Tensor) -> torch.Tensor:
    """Upstream's, from 0 to 1."""
    times = torch.linspace(0, 1, steps + 1, device=like.device, dtype=like.dtype)
    straight = decoder.estimator.meanflow or decoder.t_scheduler != "cosine"
    return times if straight else 1 - torch.cos(times * 0.5 * torch.pi)


class Synthesis:
    """One S3Gen. While it makes a mel, its flow decoder is replaced by one that solves from given noise."""

    def __init__(self, s3gen: Any) -> None:
        self.s3gen = s3gen
        self.steps = euler_steps(s3gen)

    @property
    def device(self) -> torch.device:
        device = self.s3gen.device
        assert isinstance(device, torch.device)
        return device

    def noise(self, seed: int) -> FrameNoise:
        generator = self.s3gen.mel2wav.m_source.l_sin_gen
        return FrameNoise(seed, self.device, generator.harmonic_num + 1)

    def source(self, noise: FrameNoise) -> CarriedSource:
        return CarriedSource(self.s3gen.mel2wav.m_source, noise)

    def mel(
        self, tokens: Sequence[int], voice: Conditions, noise: FrameNoise, *, first_token: int = 0, final: bool = True
    ) -> torch.Tensor:
        """The frames of these tokens, whose first has that number; unless final, those of the last three are left out.

        (1, bands, frames)
        """
        prompt = voice["prompt_feat"].size(1)
        first_frame = FRAMES_PER_TOKEN * first_token - prompt

        def noise_of(frames: int) -> torch.Tensor:
            return noise.mel(first_frame, first_frame + frames)

        # A mean flow's noise would be drawn before the flow is called; the decoder knows by itself what it is.
        decoder = self.s3gen.flow.decoder
        solve = functools.partial(_solve_from, noise_of, decoder)
        with swapped(decoder, "forward", solve), swapped(self.s3gen, "meanflow", False):
            frames = self.s3gen.flow_inference(
                speech_tokens=torch.tensor([tokens], dtype=torch.long, device=self.device),
                ref_dict=dict(voice),
                n_cfm_timesteps=self.steps,
                finalize=final,
            )
        assert isinstance(frames, torch.Tensor)
        return frames.to(self.s3gen.dtype)

    def wave(self, mel: torch.Tensor, source: CarriedSource) -> torch.Tensor:
        """480 samples a frame, (samples,); `source.window` has named the frames."""
        return self.waves(mel, [source])[0]

    def waves(self, mels: torch.Tensor, sources: Sequence[CarriedSource]) -> torch.Tensor:
        """Of as many rows of as many frames, (rows, samples)."""
        with vocoded_with(self.s3gen, sources):
            waves, _ = self.s3gen.hift_inference(mels)
        assert isinstance(waves, torch.Tensor)
        return waves

    @torch.inference_mode()
    def whole(self, tokens: Sequence[int], voice: Conditions, noise: FrameNoise) -> torch.Tensor:
        """All tokens at once, as upstream's `inference` does it; (samples,)."""
        mel = self.mel(tokens, voice, noise)
        frames = mel.size(2)
        return self.faded_in(self.wave(mel, self.source(noise).window(0, frames, frames)))

    def faded_in(self, wave: torch.Tensor) -> torch.Tensor:
        """The beginning of an utterance as upstream softens it, against what spills over from the reference."""
        fade = self.s3gen.trim_fade[: wave.size(0)]
        return torch.cat([wave[: fade.size(0)] * fade, wave[fade.size(0) :]])


def _solve_from(noise_of: Callable[[int], torch.Tensor], decoder: Any, **arguments: Any) -> Any:
    """The flow decoder's `forward`: upstream's times and solvers, from noise of the caller's."""
    mu = arguments["mu"]
    times = euler_times(decoder, arguments["n_timesteps"], mu)
    solve = decoder.basic_euler if decoder.estimator.meanflow else decoder.solve_euler
    noise, mask = noise_of(mu.size(2)).to(mu.dtype), torch.ones_like(mu[:, :1])
    return solve(noise, t_span=times, mu=mu, mask=mask, spks=arguments["spks"], cond=arguments["cond"]), None


def with_prompt_tokens(voice: Conditions, prompt_tokens: int | None) -> dict[str, Any]:
    """The voice with only the end of its reference, in whole tokens."""
    tokens, frames = voice["prompt_token"], voice["prompt_feat"]
    held = min(tokens.size(1), frames.size(1) // FRAMES_PER_TOKEN)
    kept = held if prompt_tokens is None else min(held, prompt_tokens)
    first = held - kept
    return {
        **voice,
        "prompt_token": tokens[:, first:held],
        "prompt_token_len": torch.full_like(voice["prompt_token_len"], kept),
        "prompt_feat": frames[:, FRAMES_PER_TOKEN * first : FRAMES_PER_TOKEN * held],
    }
