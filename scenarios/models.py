"""The sections of a scenario: what each key may hold, on its own. What keys mean together is in `checks`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from ttsbench.model.families import FAMILIES, LANGUAGES, SIZES
from ttsbench.optimizations import rules
from ttsbench.records.chunk_schedule import LOOKAHEAD_TOKENS_MIN, Streaming
from ttsbench.scenarios import files
from ttsbench.scenarios.expectations import Claim, Limits, QualityLimits
from ttsbench.scenarios.fakes import FakeEngine
from ttsbench.scenarios.kinds import (
    AsTuple,
    Count,
    Device,
    FilePath,
    Name,
    OneOf,
    Positive,
    Scale,
    Seconds,
    Section,
    Seed,
    Share,
    Utterance,
    absolute,
    not_empty,
    present,
    refused,
)
from ttsbench.scenarios.loads import Load, Targets
from ttsbench.scenarios.texts import DEFAULT_SET, SETS

DTYPES = ("fp32", "fp16", "bf16")
QUALITY = "quality"
PASSES = ("time", "memory", "energy", QUALITY, "cold")
DEFAULT_PASSES = ("time", "memory", "energy")
FORWARD_PASSES = LOAD_PASSES = ("time", "memory", QUALITY)
# Per second of audio, or of a first call to speak.
UTTERANCE_PASSES = tuple(name for name in PASSES if name not in FORWARD_PASSES)
STARTS = ("forkserver", "bare")
SYNTHETIC = "synthetic"
HUB = "hub"
TEXT_SOURCES = ("texts", "file", "set")
PLAIN = Streaming()


def _weights(value: str, info: ValidationInfo) -> str:
    return value if value in (SYNTHETIC, HUB) else absolute(value, info)


def _passes(passes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(passes)) < len(passes):
        raise refused("a pass is named twice")
    if "time" not in passes:
        raise refused("time is missing; it is the pass that everything else is compared by")
    return tuple(name for name in PASSES if name in passes)


class Model(Section):
    """Which checkpoint is loaded."""

    family: Annotated[str, OneOf(tuple(FAMILIES))] = Field(default="chatterbox", description="which model")
    weights: Annotated[str, Field(min_length=1), AfterValidator(_weights)] = Field(
        default=SYNTHETIC, description="synthetic (random, seeded), hub, or a folder relative to this file"
    )
    size: Annotated[str, OneOf(SIZES)] = Field(
        default="full", description="of synthetic weights: the true architecture, or the same code at a size for a CPU"
    )
    dtype: Annotated[str, OneOf(DTYPES)] = Field(default="fp32", description="how synthetic weights are stored")
    seed: Seed = Field(default=0, description="of the synthetic weights")

    @property
    def synthetic(self) -> bool:
        """Whether the weights are made here."""
        return self.weights == SYNTHETIC


class _Choice(Section):
    """A word, or a mapping with one key."""

    word: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, fields: Any) -> Any:
        if isinstance(fields, cls) or (isinstance(fields, Mapping) and len(fields) == 1):
            return fields
        if fields == cls.word:
            return {}
        forms = [cls.word, *(f"{{{key}: …}}" for key in cls.model_fields)]
        raise refused(f"should be one of {', '.join(forms)}")

    @model_serializer
    def _to_word(self) -> Any:
        return {key: value for key, value in self if value is not None} or self.word


class Length(_Choice):
    """How many speech tokens an utterance gets; by default as many as the model likes."""

    word = "natural"
    fixed: Annotated[int | None, Field(ge=1, le=files.TOKENS_MAX), BeforeValidator(present)] = None
    replay: Annotated[FilePath | None, BeforeValidator(present)] = None


class Voice(_Choice):
    """Whose voice; by default the one in the checkpoint."""

    word = "checkpoint"
    wav: Annotated[FilePath | None, BeforeValidator(present)] = None
    synthetic: Annotated[Seconds | None, BeforeValidator(present)] = None


class Sampling(Section):
    """How tokens are drawn; what is left out is upstream's default for the family."""

    temperature: Positive | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    top_k: Annotated[int, Field(ge=0, le=8_194)] | None = None
    repetition_penalty: Positive | None = None
    cfg_weight: Scale | None = None
    exaggeration: Scale | None = None

    def set_values(self) -> dict[str, float]:
        """Only what the scenario sets."""
        return self.model_dump(exclude_none=True)


class Forward(Section):
    """The backbone alone, on seeded random embeddings: no text, no voice, no S3Gen."""

    rows: Annotated[int, Field(ge=1, le=256)] = Field(default=1, description="sequences side by side")
    positions: Annotated[int, Field(ge=1, le=32_768)] = Field(default=512, description="of each sequence")
    steps: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=0, description="0: one forward over all positions; otherwise so many decode steps after them"
    )


class Chunks(Section):
    """How stacks that stream cut their chunks, and what a window of the windowed design holds beside its chunk."""

    first_tokens: Annotated[int, Field(ge=1, le=files.TOKENS_MAX)] | None = Field(
        default=None, description=f"speech tokens of the first chunk, 25 a second; {PLAIN.first_tokens} if left out"
    )
    growth: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] | None = Field(
        default=None, description=f"each chunk is so many times as long as the last; {PLAIN.growth:g} if left out"
    )
    cap_tokens: Annotated[int, Field(ge=1, le=files.TOKENS_MAX)] | None = Field(
        default=None, description=f"no chunk is longer; {PLAIN.cap_tokens} if left out"
    )
    buffer_seconds: Annotated[float, Field(ge=0.04, le=160, allow_inf_nan=False)] | None = Field(
        default=None, description="all chunks of so many seconds, in the place of the three above"
    )
    context_tokens: Annotated[int, Field(ge=0, le=files.TOKENS_MAX)] = Field(
        default=PLAIN.context_tokens, description="in a window, before its chunk"
    )
    lookahead_tokens: Annotated[int, Field(ge=LOOKAHEAD_TOKENS_MIN, le=1_000)] = Field(
        default=PLAIN.lookahead_tokens, description="in a window, after its chunk"
    )
    prompt_tokens: Annotated[int, Field(ge=1, le=files.TOKENS_MAX)] | None = Field(
        default=None, description="of the reference, from its end, in each window; all of it if left out"
    )
    overlap: bool = Field(default=True, description="whether T3 decodes on while S3Gen works")
    pause_for_first_chunk: bool = Field(
        default=True, description="whether T3 waits while S3Gen makes the first chunk; a batch never does"
    )
    prepare_voice: bool = Field(
        default=False, description="each utterance prepares its voice anew, within its time to first audio"
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> Chunks:
        lengths = [key for key in ("first_tokens", "growth", "cap_tokens") if getattr(self, key) is not None]
        if lengths and self.buffer_seconds is not None:
            raise refused(f"buffer_seconds stands in the place of {' and '.join(lengths)}; give one or the other")
        chosen = self.chosen()
        if chosen.first_tokens > chosen.cap_tokens:
            first, cap = chosen.first_tokens, chosen.cap_tokens
            raise refused(f"first_tokens is {first} and cap_tokens {cap}; the first chunk cannot be longer than that")
        return self

    def chosen(self) -> Streaming:
        """With the defaults in place."""
        return Streaming(**self.model_dump(exclude_none=True))


class Workload(Section):
    """What is said, how long, and in which voice; or a forward of the backbone alone."""

    texts: Annotated[tuple[Utterance, ...], AsTuple, AfterValidator(not_empty)] | None = Field(
        default=None, description="what is said; give one of texts, file and set"
    )
    file: FilePath | None = Field(default=None, description="UTF-8, one text a line, relative to this file")
    set: Annotated[str, OneOf(tuple(SETS))] | None = Field(default=None, description="texts that ship with ttsbench")
    length: Length = Field(
        default=Length.model_construct(),
        description="natural, fixed tokens (25 a second), or a JSON file of tokens for each text",
    )
    voice: Voice = Field(
        default=Voice.model_construct(),
        description="the checkpoint's own, a wav, or a synthetic one of so many seconds",
    )
    language: Annotated[str, OneOf(tuple(LANGUAGES))] | None = Field(
        default=None, description="multilingual only; en if left out"
    )
    forward: Forward | None = Field(default=None, description="the backbone alone, in the place of utterances")
    load: Load | None = Field(default=None, description="many requests, in the place of one utterance after the other")
    streaming: Chunks | None = Field(default=None, description="how stacks that stream cut their chunks")
    clip_voice: bool = Field(
        default=False, description="of a long reference, read only the 10 s (Turbo: 15 s) that S3Gen and T3 keep"
    )
    seed: Seed = Field(default=0, description="of the first utterance, or of a forward's embeddings")
    sampling: Sampling = Field(default_factory=Sampling, description="what is left out is upstream's default")

    @model_validator(mode="before")
    @classmethod
    def _default_set(cls, fields: Any) -> Any:
        if isinstance(fields, Mapping) and all(fields.get(key) is None for key in (*TEXT_SOURCES, "forward")):
            return {**fields, "set": DEFAULT_SET}
        return fields

    def utterances(self) -> tuple[str, ...]:
        """What is said, read from the file if there is one; nothing in a forward."""
        if self.forward is not None:
            return ()
        if self.texts is not None:
            return self.texts
        return files.read_utterances(Path(self.file)) if self.file else SETS[self.set or DEFAULT_SET]

    def conflict(self, slots: Mapping[str, str], family: str) -> str:
        """Why these options make no sense together for this work; empty when they do."""
        steps = None if self.forward is None else self.forward.steps
        return rules.conflict(slots, family=family, cfg_weight=self.sampling.cfg_weight, forward_steps=steps)

    def replay_tokens(self) -> tuple[tuple[int, ...], ...]:
        """The tokens to force, one list for each utterance; empty unless the length is `replay`."""
        return files.read_replay(Path(self.length.replay)) if self.length.replay else ()


class Measure(Section):
    """How often, in how many processes, and what."""

    warmup: Count = Field(default=2, description="utterances before the clock counts; the first is kept apart")
    repeats: Count = Field(default=5, description="timed passes over all texts in one process")
    processes: Count = Field(default=3, description="fresh processes for each cell")
    passes: Annotated[tuple[Annotated[str, OneOf(PASSES)], ...], AsTuple, AfterValidator(_passes)] = Field(
        default=DEFAULT_PASSES, description="what is measured, each apart; time is required"
    )
    timeout_seconds: Annotated[float, Field(gt=0, le=7 * 86_400, allow_inf_nan=False)] = Field(
        default=900.0, description="after which a process is ended and its cell fails"
    )
    start: Annotated[str, OneOf(STARTS)] = Field(
        default="forkserver", description="processes from a preloaded fork server, or bare interpreters"
    )


class ScenarioFile(Section):
    """What to compare, on what work, and how it is measured."""

    name: Name = Field(description="names the run folder")
    description: str = Field(default="", max_length=1_000, description="what the scenario answers, in a sentence")
    model: Model = Field(default_factory=Model, description="which checkpoint is loaded")
    fake: FakeEngine | None = Field(
        default=None,
        description="in the place of the model: an engine that pretends to speak, and what its figures are like",
    )
    device: Device = Field(default="auto", description="auto, cpu, cuda, or cuda:N")
    workload: Workload = Field(default_factory=Workload, description="what is said, how long, and in which voice")
    stacks: Annotated[dict[str, dict[str, str]], AfterValidator(not_empty)] = Field(
        description="name: {slot: option}; what is left out is as upstream has it"
    )
    matrix: Annotated[
        dict[str, Annotated[tuple[Any, ...], AsTuple, AfterValidator(not_empty)]], AfterValidator(not_empty)
    ] = Field(default={}, description="path: [values]; workload, model and device make points, slots make variants")
    exclude: Annotated[tuple[Annotated[dict[str, Any], AfterValidator(not_empty)], ...], AsTuple] = Field(
        default=(), description="cells that match all of one entry are left out"
    )
    baseline: str | None = Field(default=None, description="what others are compared with; upstream, or the first")
    measure: Measure = Field(default_factory=Measure, description="how often, in how many processes, and what")
    quality: QualityLimits = Field(
        default_factory=QualityLimits, description="how far from fp32 upstream a stack may be before it counts as wrong"
    )
    claims: Annotated[tuple[Claim, ...], AsTuple] = Field(
        default=(), description="what others say of these stacks; the report lays our figures beside it"
    )


# Which class describes the keys below which place.
SECTIONS: Mapping[tuple[str | int, ...], type[BaseModel]] = {
    (): ScenarioFile,
    ("model",): Model,
    ("fake",): FakeEngine,
    ("workload",): Workload,
    ("workload", "length"): Length,
    ("workload", "voice"): Voice,
    ("workload", "sampling"): Sampling,
    ("workload", "forward"): Forward,
    ("workload", "load"): Load,
    ("workload", "load", "targets"): Targets,
    ("workload", "streaming"): Chunks,
    ("measure",): Measure,
    ("claims",): Claim,
    ("quality",): QualityLimits,
    ("quality", "exact"): Limits,
    ("quality", "half"): Limits,
    ("quality", "quantized"): Limits,
}
