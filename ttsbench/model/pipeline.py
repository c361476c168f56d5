"""Chatterbox with its length, seeds and voice under control; the stages are those of the package's own `generate`.

The stack `upstream` changes nothing: what runs is the package's loop, its S3Gen and its watermark. Options replace
parts of the live object; whatever is not replaced is upstream's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Protocol

import torch

from ttsbench.errors import CellError
from ttsbench.instruments.attest import WarmCall
from ttsbench.instruments.clock import Timeline, staged
from ttsbench.instruments.swapping import swapped, within, wrapped
from ttsbench.model import checkpoint, kv_cache
from ttsbench.model.guidance import guided
from ttsbench.model.length_control import (
    UPSTREAM_TOKENS_MAX,
    Length,
    analyzer_watches_only,
    forced_draws,
    without_special_tokens,
)
from ttsbench.model.speech import SPEECH_TOKENS, FirstAudio, Speech
from ttsbench.model.voice import Reference
from ttsbench.optimizations.stacks import complete
from ttsbench.optimizations.target import S3GenParts, T3Parts
from ttsbench.optimizations.undo import Undo
from ttsbench.records.chunk_schedule import Streaming

Arguments = dict[str, Any]
TokenTaker = Callable[[torch.Tensor], None]


class _EnoughDecoded(Exception):
    """Ends `generate` before S3Gen, or before T3."""


class Generator(Protocol):
    """What a slot puts in the place of the package's `generate`."""

    def speak(self, text_index: int, seed: int, limit: int) -> Speech: ...

    def speak_timed(self, text_index: int, seed: int, limit: int, timeline: Timeline) -> tuple[Speech, float]: ...


class Pipeline:
    """One loaded checkpoint, ready to speak the texts of a workload. Options are applied to `tts` from outside."""

    def __init__(
        self,
        tts: Any,
        *,
        texts: Sequence[str],
        length: Length,
        sampling: dict[str, float],
        language: str | None,
        slots: Mapping[str, str] | None = None,
        streaming: Streaming | None = None,
        reference: Reference | None = None,
        keep_weights: bool = False,
    ) -> None:
        self.tts = tts
        self.undo = Undo(keep_weights=keep_weights)
        self.t3_parts = T3Parts()
        self.s3gen_parts = S3GenParts()
        self.streaming = streaming or Streaming()
        self.reference = reference
        self.generator: Generator | None = None
        self.slots = complete(slots or {})
        self.texts = tuple(texts)
        self.length = length
        self.infer = "inference_turbo" if tts.t3.is_gpt else "inference"
        self.loop: Any = getattr(tts.t3, self.infer)
        self._arguments = _generate_arguments(tts, sampling, language)
        self._tokens = torch.empty(0)
        self._limit = UPSTREAM_TOKENS_MAX
        self._cache_shape = (0, 0)
        self.warm_call = WarmCall()
        self.forget_captures: list[Callable[[], None]] = []
        self._last_arguments: dict[str, dict[str, Any]] = {}

    @property
    def device(self) -> torch.device:
        device = self.tts.t3.device
        assert isinstance(device, torch.device)
        return device

    def control_length(self) -> None:
        """Binds the loop to the workload's length and puts it in its place; once, after the stack has been applied."""
        if not self.length.natural:
            self.undo.replace(self.tts.t3.speech_head, "bias", without_special_tokens(self.tts.t3.speech_head))
        loop = self.loop

        def bounded(*args: Any, **kwargs: Any) -> torch.Tensor:
            kwargs |= self._bound()
            with within(self.t3_parts.contexts):
                self._tokens = loop(*args, **kwargs)
            return self._tokens

        self.undo.replace(self.tts.t3, self.infer, bounded)
        self._remember(self.tts.t3, "prepare_input_embeds")
        self._remember(self.tts.s3gen, "inference")

    def _bound(self) -> dict[str, int]:
        """The most tokens, as T3's loop counts: Turbo's draws one before it starts to."""
        return {"max_gen_len": self._limit - 1} if self.tts.t3.is_gpt else {"max_new_tokens": self._limit}

    def t3_arguments(self, text_index: int) -> dict[str, Any]:
        """What `generate` hands to T3's loop for this text; nothing is drawn."""
        self._limit = self.length.limit(text_index)
        return self._arguments_of(self.tts.t3, self.infer, text_index) | self._bound()

    def _arguments_of(self, owner: Any, method: str, text_index: int) -> Arguments:
        """Runs `generate` up to its call of a method; what that would have been called with."""
        kept: Arguments = {}

        def keep(**arguments: Any) -> Any:
            kept.update(arguments)
            raise _EnoughDecoded

        with swapped(owner, method, keep), suppress(_EnoughDecoded):
            self.tts.generate(self.texts[text_index], **self._arguments)
        return kept

    def _remember(self, owner: Any, method: str) -> None:
        """Keeps a method's last arguments, so that a part of an utterance can be run again by itself."""
        call = getattr(owner, method)

        def remembered(**arguments: Any) -> Any:
            self._last_arguments[method] = arguments
            return call(**arguments)

        self.undo.replace(owner, method, remembered)

    @torch.inference_mode()
    def embed_again(self) -> int:
        """The embedding of the last utterance's prompt, voice included."""
        self.tts.t3.prepare_input_embeds(**self._last_arguments["prepare_input_embeds"])
        return 0

    def speak(self, text_index: int, seed: int, *, more_tokens: int = 0) -> Speech:
        """The whole utterance, by the package's `generate` or as a stream."""
        limit = self.length.limit(text_index) + more_tokens
        if self.generator is not None:
            return self.generator.speak(text_index, seed, limit)
        self._begin(seed, limit)
        with self._controlled(text_index):
            wave = self.tts.generate(self.texts[text_index], **self._arguments)
        return Speech(wave, self._tokens)

    def speak_timed(self, text_index: int, seed: int, timeline: Timeline) -> tuple[Speech, float]:
        """With its stages marked; also gives the wall seconds."""
        limit = self.length.limit(text_index)
        if self.generator is not None:
            return self.generator.speak_timed(text_index, seed, limit, timeline)
        self._begin(seed, limit)
        with self._controlled(text_index), staged(self.tts, timeline, self.backbone):
            timeline.start()
            wave = self.tts.generate(self.texts[text_index], **self._arguments)
            wall_seconds = timeline.stop()
        return Speech(wave, self._tokens), wall_seconds

    @property
    def backbone(self) -> Any:
        """Of a loop of our own."""
        return getattr(self.loop, "backbone", None)

    @backbone.setter
    def backbone(self, backbone: Any) -> None:
        self.loop.backbone = backbone

    def use_loop(self, loop: Callable[[Any], Any]) -> None:
        """A loop of our own in the place of the package's."""
        self.undo.replace(self, "loop", loop(self.tts.t3))

    def _begin(self, seed: int, limit: int) -> None:
        torch.manual_seed(seed)
        self._limit = limit

    def decode(self, text_index: int, seed: int, limit: int, take: TokenTaker | None = None) -> tuple[Arguments, Any]:
        """T3's part of an utterance: what `generate` then hands to S3Gen, and all tokens; `take` gets them early."""
        self._begin(seed, limit)
        with self._controlled(text_index), nullcontext() if take is None else self.showing_tokens(take):
            return self._arguments_of(self.tts.s3gen, "inference", text_index), self._tokens

    def decode_only(self, text_index: int, seed: int, tokens: int) -> int:
        """T3's part of an utterance, ended after so many tokens; how many there were."""
        return int(self.decode(text_index, seed, tokens)[1].numel())

    def remember_s3gen_arguments(self, arguments: Arguments) -> None:
        """For a stream, which does not call S3Gen's `inference`, so that `vocode` can run it."""
        self._last_arguments["inference"] = arguments

    def vocoded_tokens(self) -> int:
        """How many tokens S3Gen last got."""
        return int(self._last_arguments["inference"]["speech_tokens"].numel())

    def present_voice(self) -> Any:
        """The workload's, prepared or from the cache; without a recording the checkpoint's own."""
        if self.reference is None:
            return self.tts.conds
        prepare = self.reference.voices.prepare if self.streaming.prepare_voice else self.reference.voices.of
        return prepare(self.reference.wav)

    def fit_voice(self) -> None:
        """Fits the model's present voice to T3's dtype and the sampling; once for each that is put there."""
        checkpoint.fit_conditionals(self.tts)
        if "exaggeration" in self._arguments:
            _set_exaggeration(self.tts, self._arguments)

    @torch.inference_mode()
    def vocode(self, seed: int, tokens: torch.Tensor | None = None) -> torch.Tensor:
        """S3Gen's part of the last utterance, or of other tokens; the wave before any watermark."""
        arguments = dict(self._last_arguments["inference"])
        if tokens is not None:
            arguments["speech_tokens"] = tokens[tokens < SPEECH_TOKENS].to(self.device, torch.long)
        torch.manual_seed(seed)
        wave, _ = self.tts.s3gen.inference(**arguments)
        assert isinstance(wave, torch.Tensor)
        return wave

    @contextmanager
    def _controlled(self, text_index: int) -> Iterator[None]:
        with (
            analyzer_watches_only(self.tts.t3, active=not self.length.natural),
            self.forcing(self.length.tokens_of(text_index)),
        ):
            yield

    @contextmanager
    def showing_logits(self, take: Callable[[torch.Tensor], None]) -> Iterator[None]:
        """`take` gets the head's logits before each draw, one row or two."""
        if hasattr(self.loop, "on_logits"):
            with swapped(self.loop, "on_logits", take):
                yield
            return
        handle = self.tts.t3.speech_head.register_forward_hook(lambda _, __, logits: take(_of_last_position(logits)))
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def showing_tokens(self, take: TokenTaker) -> Iterator[None]:
        """`take` gets tokens on the device as they are taken, one or a few together."""
        if hasattr(self.loop, "on_tokens"):
            with swapped(self.loop, "on_tokens", take):
                yield
            return

        def wrap(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            def draw_and_show(*args: Any, **kwargs: Any) -> torch.Tensor:
                drawn = draw(*args, **kwargs)
                take(drawn)
                return drawn

            return draw_and_show

        with wrapped(torch, "multinomial", wrap):
            yield

    def guided(self, logits: torch.Tensor) -> torch.Tensor:
        """What is drawn from: one row, speech tokens only."""
        if logits.size(0) > 1:
            weight = self._arguments.get(
                "cfg_weight", inspect.signature(self.tts.generate).parameters["cfg_weight"].default
            )
            logits = guided(logits, weight)
        return logits[:, :SPEECH_TOKENS]

    @contextmanager
    def forcing(self, tokens: tuple[int, ...] | None) -> Iterator[None]:
        """Replay: every draw is made, at its usual cost, and then the given token is taken instead."""
        if tokens is None:
            yield
            return
        own_loop = hasattr(self.loop, "forced")
        with swapped(self.loop, "forced", tokens) if own_loop else forced_draws(tokens, self.device):
            yield

    def weights_bytes(self) -> int:
        return parameter_bytes(self.tts.t3, self.tts.s3gen, self.tts.ve)

    def note_cache(self, rows: int, positions: int) -> None:
        """Of each timed utterance; the longest counts."""
        self._cache_shape = max(self._cache_shape, (rows, positions))

    def kv_cache_bytes(self) -> int | None:
        """Bytes of keys and values: of a static cache its memory, else at the end of the longest timed utterance."""
        backbone = self.backbone
        if hasattr(backbone, "keys"):
            return int(sum(tensor.nbytes for tensor in (*backbone.keys, *backbone.values)))
        rows, positions = self._cache_shape
        if not rows:
            return None
        t3 = self.tts.t3
        return kv_cache.bytes_of(t3.tfmr.config, rows, positions, t3.speech_head.weight.element_size())

    def first_audio(self, speech: Speech, wall_seconds: float) -> FirstAudio:
        """First sample, first playable chunk, first audible sample: a whole wave arrives all at once."""
        if speech.first_audio is not None:
            return speech.first_audio
        return wall_seconds, wall_seconds, wall_seconds if speech.audible else None


def _of_last_position(logits: torch.Tensor) -> torch.Tensor:
    return logits[:, -1] if logits.dim() == 3 else logits


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


def parameter_bytes(*modules: torch.nn.Module) -> int:
    """Of the distinct parameters and buffers."""
    held = (t for m in modules for t in (*m.parameters(), *m.buffers()))
    tensors = {t.data_ptr(): t for whole in held for t in _plain_tensors(whole.data)}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _plain_tensors(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A quantized weight is several: the packed numbers, scales, zero points."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _plain_tensors(getattr(tensor, name))
