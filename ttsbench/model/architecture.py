"""The sizes a checkpoint may have, and how upstream's constructors, which take no sizes, come to build them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import chatterbox.models.s3gen.s3gen as s3gen_module
import chatterbox.models.s3gen.transformer.upsample_encoder as encoder_module
import chatterbox.models.t3.modules.cond_enc as cond_enc_module
from chatterbox import mtl_tts, tts, tts_turbo
from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
from s3tokenizer.model_v2 import ModelConfig, S3TokenizerV2

from ttsbench.instruments.swapping import swapped
from ttsbench.model.checkpoint_files import T3_FILES

Swap = tuple[Any, str, Any]

CLASSES: dict[str, Any] = {
    "chatterbox": tts.ChatterboxTTS,
    "turbo": tts_turbo.ChatterboxTurboTTS,
    "nano": tts_turbo.ChatterboxTurboTTS,
    "multilingual": mtl_tts.ChatterboxMultilingualTTS,
}

BACKBONES = {"chatterbox": "Llama_520M", "turbo": "GPT2_medium", "nano": "GPT2_medium", "multilingual": "Llama_520M"}

_TINY_GPT2 = {"n_embd": 128, "hidden_size": 128, "n_layer": 4, "n_head": 2}
_TINY_LLAMA = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
# The multilingual alignment analyzer reads layers up to 13 and heads up to 15.
_TINY_MULTILINGUAL = {**_TINY_LLAMA, "num_hidden_layers": 14, "num_attention_heads": 16, "num_key_value_heads": 16}

BACKBONE_CHANGES: dict[tuple[str, str], dict[str, int]] = {
    ("nano", "full"): {"n_embd": 768, "hidden_size": 768, "n_layer": 12, "n_head": 12},
    ("chatterbox", "tiny"): _TINY_LLAMA,
    ("turbo", "tiny"): _TINY_GPT2,
    ("nano", "tiny"): {**_TINY_GPT2, "n_layer": 3},
    ("multilingual", "tiny"): _TINY_MULTILINGUAL,
}

# A head has 64 dimensions everywhere, as at full size, so that the same attention kernels can be chosen.
_TINY_MODULES: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    (cond_enc_module, "Perceiver", {"pre_attention_query_size": 128, "embedding_dim": 128, "num_attn_heads": 2}),
    (encoder_module, "PreLookaheadLayer", {"channels": 128}),
    (encoder_module, "Upsample1D", {"channels": 128, "out_channels": 128}),
    (
        s3gen_module,
        "UpsampleConformerEncoder",
        {"input_size": 128, "output_size": 128, "attention_heads": 2, "linear_units": 256, "num_blocks": 2},
    ),
    (s3gen_module, "CausalMaskedDiffWithXvec", {"input_size": 128}),
    (s3gen_module, "ConditionalDecoder", {"channels": [64], "n_blocks": 1, "num_mid_blocks": 2, "num_heads": 2}),
    (s3gen_module, "CAMPPlus", {"growth_rate": 8, "init_channels": 32}),
    (s3gen_module, "ConvRNNF0Predictor", {"cond_channels": 64}),
    (s3gen_module, "HiFTGenerator", {"base_channels": 64}),
)
_TINY_SPEECH_TOKENIZER = ModelConfig(n_audio_state=128, n_audio_head=2, n_audio_layer=2)


@contextmanager
def registered(family: str, size: str) -> Iterator[None]:
    """While open, upstream's constructors and `from_local` build this family at this size; afterwards, as before."""
    with ExitStack() as stack:
        for owner, name, value in _swaps(family, size):
            stack.enter_context(swapped(owner, name, value))
        yield


def _swaps(family: str, size: str) -> list[Swap]:
    backbone = BACKBONES[family]
    changes = BACKBONE_CHANGES.get((family, size), {})
    swaps: list[Swap] = [(LLAMA_CONFIGS, backbone, {**LLAMA_CONFIGS[backbone], **changes})]
    if family == "nano":
        swaps.append((tts_turbo, "load_file", _reading_nano_for_turbo(tts_turbo.load_file)))
    if size == "tiny":
        swaps += [(owner, name, _with(getattr(owner, name), sizes)) for owner, name, sizes in _TINY_MODULES]
        swaps.append((S3TokenizerV2.__init__, "__defaults__", (_TINY_SPEECH_TOKENIZER,)))
    return swaps


def _with(constructor: Callable[..., Any], sizes: dict[str, Any]) -> Callable[..., Any]:
    def construct(*args: Any, **kwargs: Any) -> Any:
        return constructor(*args, **{**kwargs, **sizes})

    return construct


def _reading_nano_for_turbo(load_file: Callable[..., Any]) -> Callable[..., Any]:
    """Nano is loaded by Turbo's class, which names its own T3 file."""

    def load(path: Path, *args: Any, **kwargs: Any) -> Any:
        nano = Path(path).with_name(T3_FILES["nano"])
        return load_file(nano if Path(path).name == T3_FILES["turbo"] else path, *args, **kwargs)

    return load
