"""The families of models that can be measured, each declared once. No torch: schema, planning and `--help` read it.

A distribution adds a family by an entry point of the group `ttsbench.families` that names a `Family`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from ttsbench.records.plugins import declare_installed

ENTRY_POINTS = "ttsbench.families"
SIZES = ("full", "tiny")
CONDITIONALS = "conds.pt"
CANGJIE = "Cangjie5_TC.json"

# What T3 is: upstream's English and multilingual Llamas, its GPT-2, or no T3 but a Qwen2 by itself.
ENGLISH, MULTILINGUAL, GPT2, QWEN2 = "english", "multilingual", "gpt2", "qwen2"
SAMPLING: Mapping[str, tuple[str, ...]] = {
    GPT2: ("temperature", "top_p", "top_k", "repetition_penalty"),
    **dict.fromkeys(
        (ENGLISH, MULTILINGUAL),
        ("temperature", "top_p", "min_p", "repetition_penalty", "cfg_weight", "exaggeration"),
    ),
}


@dataclass(frozen=True)
class Files:
    """A checkpoint's files, as its repository names them."""

    repository: str
    t3: str
    s3gen: str
    tokenizer: tuple[str, ...]
    voice_encoder: str = "ve.safetensors"
    # Under which name upstream's class reads T3, where the file has another.
    t3_in_upstream: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.voice_encoder, self.t3, self.s3gen, *self.tokenizer, CONDITIONALS)


@dataclass(frozen=True)
class Family:
    """One kind of model. Without `files` it is a backbone by itself, which runs forwards and cannot speak."""

    name: str
    t3: str
    # Upstream's class, as `module:name`, and the key of its backbone's configuration.
    upstream: str = ""
    backbone: str = ""
    files: Files | None = None
    # How each size differs from upstream's configuration of the backbone.
    sizes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # S3Gen's flow is a mean flow: 2 Euler steps without guidance, in the place of 10 with.
    mean_flow: bool = False
    languages: tuple[str, ...] = ()
    # A reference must be longer than this.
    voice_seconds_min: float = 0.0

    def speaks(self) -> bool:
        return self.files is not None

    def missing(self) -> str:
        """Why it cannot be loaded here; empty where it can."""
        package = self.upstream.partition(":")[0].partition(".")[0]
        return "" if not package or find_spec(package) else f"needs the package {package}"

    def llama_layers(self) -> bool:
        return self.t3 in (ENGLISH, MULTILINGUAL, QWEN2)

    def guided(self) -> bool:
        """T3 reads two rows, with the text and without, unless `cfg_weight` is 0."""
        return self.t3 in (ENGLISH, MULTILINGUAL)

    def watched(self) -> bool:
        """The package's alignment analyzer watches T3's attention."""
        return self.t3 == MULTILINGUAL

    @property
    def sampling(self) -> tuple[str, ...]:
        return SAMPLING.get(self.t3, ())


# By the code that upstream takes.
LANGUAGES: Mapping[str, str] = {
    "ar": "Arabic", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "he": "Hebrew", "hi": "Hindi", "it": "Italian", "ja": "Japanese", "ko": "Korean", "ms": "Malay",
    "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ru": "Russian", "sv": "Swedish",
    "sw": "Swahili", "tr": "Turkish", "zh": "Chinese",
}  # fmt: skip
_GPT2_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_TINY_GPT2 = {"n_embd": 128, "hidden_size": 128, "n_layer": 4, "n_head": 2}
_TINY_LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}

CHATTERBOX = Family(
    "chatterbox",
    ENGLISH,
    upstream="chatterbox.tts:ChatterboxTTS",
    backbone="Llama_520M",
    files=Files("ResembleAI/chatterbox", "t3_cfg.safetensors", "s3gen.safetensors", ("tokenizer.json",)),
    sizes={"tiny": _TINY_LLAMA},
)
TURBO = Family(
    "turbo",
    GPT2,
    upstream="chatterbox.tts_turbo:ChatterboxTurboTTS",
    backbone="GPT2_medium",
    files=Files(
        "ResembleAI/chatterbox-turbo", "t3_turbo_v1.safetensors", "s3gen_meanflow.safetensors", _GPT2_TOKENIZER
    ),
    sizes={"tiny": _TINY_GPT2},
    mean_flow=True,
    voice_seconds_min=5.0,  # its conditioning asserts that the reference is longer
)
NANO = Family(
    "nano",
    GPT2,
    upstream="chatterbox.tts_turbo:ChatterboxTurboTTS",
    backbone="GPT2_medium",
    files=Files(
        "ResembleAI/chatterbox-nano",
        "t3_nano_v1.safetensors",
        "s3gen_meanflow.safetensors",
        _GPT2_TOKENIZER,
        t3_in_upstream="t3_turbo_v1.safetensors",
    ),
    sizes={
        "full": {"n_embd": 768, "hidden_size": 768, "n_layer": 12, "n_head": 12},
        "tiny": {**_TINY_GPT2, "n_layer": 3},
    },
    mean_flow=True,
    voice_seconds_min=5.0,
)
MULTILINGUAL_23 = Family(
    "multilingual",
    MULTILINGUAL,
    upstream="chatterbox.mtl_tts:ChatterboxMultilingualTTS",
    backbone="Llama_520M",
    files=Files(
        "ResembleAI/chatterbox",
        "t3_mtl23ls_v2.safetensors",
        "s3gen.pt",
        ("grapheme_mtl_merged_expanded_v1.json", CANGJIE),
        voice_encoder="ve.pt",
    ),
    # The alignment analyzer reads layers up to 13 and heads up to 15.
    sizes={"tiny": {**_TINY_LLAMA, "num_hidden_layers": 14, "num_attention_heads": 16, "num_key_value_heads": 16}},
    languages=tuple(LANGUAGES),
)
# Spark-TTS-0.5B's backbone; of its vocabulary nothing is needed, since embeddings are given and no logits are made.
_FULL_QWEN2 = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "rms_norm_eps": 1e-6,
    "vocab_size": 1,
}
SPARK_TTS = Family(
    "spark-tts",
    QWEN2,
    sizes={"full": _FULL_QWEN2, "tiny": {**_FULL_QWEN2, **_TINY_LLAMA, "num_key_value_heads": 1}},
)

FAMILIES: dict[str, Family] = {}


def declare(family: Family) -> None:
    if family.name in FAMILIES:
        raise ValueError(f"there is a family {family.name} already")
    FAMILIES[family.name] = family


for _family in (CHATTERBOX, TURBO, NANO, MULTILINGUAL_23, SPARK_TTS):
    declare(_family)
declare_installed(ENTRY_POINTS, Family, declare)


def names(fits: Callable[[Family], bool]) -> tuple[str, ...]:
    return tuple(name for name, family in FAMILIES.items() if fits(family))


def files_of(name: str) -> Files:
    """Those of a family that speaks."""
    files = FAMILIES[name].files
    assert files is not None, f"{name} has no checkpoint"
    return files
