"""Chatterbox with its length, seeds and voice under control; the stages are those of the package's own `generate`.

The stack `upstream` changes nothing: what runs is the package's loop, its S3Gen and its watermark. Options replace
parts of the live object; whatever is not replaced is upstream's.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.clock import Timeline, staged
from ttsbench.swapping import swapped, wrapped

SPEECH_TOKENS = 6561
SAMPLE_RATE_HZ = 24_000
UPSTREAM_TOKENS_MAX = 1000
PLAYABLE_SECONDS = 0.080
AUDIBLE_LEVEL = 1e-3


@dataclass(frozen=True)
class Length:
    """How many speech tokens an utterance gets: a fixed number, given tokens, or as many as the model likes."""

    fixed: int | None = None
    replay: tuple[tuple[int, ...], ...] = ()

    @property
    def natural(self) -> bool:
        """Whether the model decides."""
        return self.fixed is None and not self.replay

    def tokens_of(self, text_index: int) -> tuple[int, ...] | None:
        """The tokens to be forced, if any."""
        return self.replay[text_index] if self.replay else None

    def limit(self, text_index: int) -> int:
        """The most tokens that the loop may draw."""
        forced = self.tokens_of(text_index)
        return len(forced) if forced is not None else self.fixed or UPSTREAM_TOKENS_MAX


@dataclass(frozen=True)
class Spoken:
    """What one call delivered."""

    wave: torch.Tensor
    tokens: torch.Tensor

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that the consumer holds."""
        return self.wave.shape[-1] / SAMPLE_RATE_HZ

    def tokens_sha256(self) -> str:
        """Identifies the token sequence across stacks and machines."""
        return hashlib.sha256(self.tokens.detach().to("cpu", torch.int32).numpy().tobytes()).hexdigest()

    @property
    def audible(self) -> bool:
        """Whether any sample rises above silence."""
        return bool((self.wave.abs() > AUDIBLE_LEVEL).any())


class Pipeline:
    """One loaded checkpoint, ready to speak the texts of a workload. Options are applied to `tts` from outside."""

    def __init__(
        self, tts: Any, *, texts: Sequence[str], length: Length, sampling: dict[str, float], language: str | None
    ) -> None:
        self.tts = tts
        self.texts = tuple(texts)
        self.length = length
        self.infer = "inference_turbo" if tts.t3.is_gpt else "inference"
        self.loop: Any = getattr(tts.t3, self.infer)
        self._arguments = _generate_arguments(tts, sampling, language)
        self._tokens = torch.empty(0)
        self._limit = UPSTREAM_TOKENS_MAX
        self._cache_shape = (0, 0)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        device = self.tts.t3.device
        assert isinstance(device, torch.device)
        return device

    def control_length(self) -> None:
        """Puts the loop in its place, bound to the workload's length; once, after the stack has been applied."""
        if not self.length.natural:
            forbid_special_tokens(self.tts.t3)
        loop = self.loop
        # Turbo's loop draws one token before it starts to count.
        bound, uncounted = ("max_gen_len", 1) if self.tts.t3.is_gpt else ("max_new_tokens", 0)

        def bounded(*args: Any, **kwargs: Any) -> torch.Tensor:
            kwargs[bound] = self._limit - uncounted
            self._tokens = loop(*args, **kwargs)
            return self._tokens

        setattr(self.tts.t3, self.infer, bounded)

    def speak(self, text_index: int, seed: int, *, more_tokens: int = 0) -> Spoken:
        """The whole utterance by the package's `generate`, from a seeded random stream."""
        torch.manual_seed(seed)
        self._limit = self.length.limit(text_index) + more_tokens
        with self._controlled(text_index):
            wave = self.tts.generate(self.texts[text_index], **self._arguments)
        return Spoken(wave, self._tokens)

    def speak_timed(self, text_index: int, seed: int, timeline: Timeline) -> tuple[Spoken, float]:
        """The same, with its stages marked; returns the wall seconds beside it."""
        torch.manual_seed(seed)
        self._limit = self.length.limit(text_index)
        with self._controlled(text_index), staged(self.tts, timeline):
            timeline.start()
            wave = self.tts.generate(self.texts[text_index], **self._arguments)
            wall_seconds = timeline.stop()
        return Spoken(wave, self._tokens), wall_seconds

    @contextmanager
    def _controlled(self, text_index: int) -> Iterator[None]:
        forced = self.length.tokens_of(text_index)
        with _analyzer_watches_only(self.tts.t3, active=not self.length.natural), forced_tokens(forced, self.device):
            yield

    def weights_bytes(self) -> int:
        """Bytes of everything that was loaded."""
        return parameter_bytes(self.tts.t3, self.tts.s3gen, self.tts.ve)

    def note_cache(self, rows: int, positions: int) -> None:
        """Of every timed utterance; the longest counts."""
        self._cache_shape = max(self._cache_shape, (rows, positions))

    def kv_cache_bytes(self) -> int | None:
        """Bytes of keys and values at the end of the longest utterance that was timed."""
        rows, positions = self._cache_shape
        if not rows:
            return None
        config = self.tts.t3.tfmr.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        element_bytes = self.tts.t3.speech_head.weight.element_size()
        return int(2 * config.num_hidden_layers * rows * heads * head_dim * positions * element_bytes)

    def first_audio(self, spoken: Spoken, wall_seconds: float) -> tuple[float, float, float | None]:
        """First sample, first playable chunk, first audible sample: a whole wave arrives all at once."""
        return wall_seconds, wall_seconds, wall_seconds if spoken.audible else None


def _generate_arguments(tts: Any, sampling: dict[str, float], language: str | None) -> dict[str, Any]:
    accepted = inspect.signature(tts.generate).parameters
    if unknown := sorted(set(sampling) - set(accepted)):
        raise CellError(f"{type(tts).__name__}.generate takes no {', '.join(unknown)}")
    arguments: dict[str, Any] = dict(sampling)
    if "language_id" in accepted:
        arguments["language_id"] = language or "en"
    if "exaggeration" in arguments:
        _set_exaggeration(tts, arguments)
    return arguments


def _set_exaggeration(tts: Any, arguments: dict[str, Any]) -> None:
    """Set once and in the model's dtype; `generate` would rebuild it in fp32, which half-precision models refuse."""
    if tts.conds is not None and tts.conds.t3.emotion_adv is not None:
        tts.conds.t3.emotion_adv = torch.full_like(tts.conds.t3.emotion_adv, arguments["exaggeration"])
        arguments["exaggeration"] = float(tts.conds.t3.emotion_adv.flatten()[0])


def forbid_special_tokens(t3: Any) -> None:
    """A bias of -1e4 on every id that is not speech: the same kernels in every stack, and nothing stops early."""
    head = t3.speech_head
    bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias.detach().clone()
    bias[SPEECH_TOKENS:] = -1e4
    head.bias = torch.nn.Parameter(bias, requires_grad=False)


@contextmanager
def forced_tokens(tokens: Sequence[int] | None, device: torch.device) -> Iterator[None]:
    """Replay: every draw is made, at its usual cost, and then replaced by the token that was given."""
    if tokens is None:
        yield
        return
    given = iter(torch.tensor(tokens, dtype=torch.long, device=device).view(-1, 1, 1))

    def wrap(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def draw_and_replace(*args: Any, **kwargs: Any) -> torch.Tensor:
            drawn = draw(*args, **kwargs)
            return next(given, drawn)

        return draw_and_replace

    with wrapped(torch, "multinomial", wrap):
        yield


@contextmanager
def _analyzer_watches_only(t3: Any, *, active: bool) -> Iterator[None]:
    """With a fixed length the multilingual analyzer still looks at every step, but can no longer force a stop."""
    if not (active and t3.hp.is_multilingual):
        yield
        return
    from chatterbox.models.t3.inference.alignment_stream_analyzer import AlignmentStreamAnalyzer

    look = AlignmentStreamAnalyzer.step

    def look_and_leave(self: Any, logits: torch.Tensor, next_token: int | None = None) -> torch.Tensor:
        look(self, logits, next_token=next_token)
        return logits

    with swapped(AlignmentStreamAnalyzer, "step", look_and_leave):
        yield


def parameter_bytes(*modules: torch.nn.Module) -> int:
    """Bytes of the distinct parameters and buffers."""
    tensors = {t.data_ptr(): t for m in modules for t in (*m.parameters(), *m.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
