"""The sizes a checkpoint may have, and how upstream's constructors, which take no sizes, come to build them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import chatterbox.models.s3gen.s3gen as s3gen_module
import chatterbox.models.s3gen.transformer.upsample_encoder as encoder_module
import chatterbox.models.t3.modules.cond_enc as cond_enc_module
from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
from s3tokenizer.model_v2 import ModelConfig, S3TokenizerV2

from ttsbench.instruments.swapping import swapped
from ttsbench.model.families import FAMILIES, files_of

Swap = tuple[Any, str, Any]

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
# By these names upstream's modules read safetensors files.
_FILE_READERS = ("load_file", "load_safetensors")


def upstream_class(family: str) -> Any:
    module, _, name = FAMILIES[family].upstream.partition(":")
    return getattr(importlib.import_module(module), name)


@contextmanager
def registered(family: str, size: str) -> Iterator[None]:
    """While open, upstream's constructors and `from_local` build this family at this size; afterwards, as before."""
    with ExitStack() as stack:
        for owner, name, value in _swaps(family, size):
            stack.enter_context(swapped(owner, name, value))
        yield


def _swaps(family: str, size: str) -> Iterator[Swap]:
    declared = FAMILIES[family]
    yield LLAMA_CONFIGS, declared.backbone, {**LLAMA_CONFIGS[declared.backbone], **declared.sizes.get(size, {})}
    if files_of(family).t3_in_upstream:
        module = importlib.import_module(declared.upstream.partition(":")[0])
        for reader in (reader for reader in _FILE_READERS if hasattr(module, reader)):
            yield module, reader, _reading_t3_of(family, getattr(module, reader))
    if size == "tiny":
        for owner, name, sizes in _TINY_MODULES:
            yield owner, name, _with(getattr(owner, name), sizes)
        yield S3TokenizerV2.__init__, "__defaults__", (_TINY_SPEECH_TOKENIZER,)


def _with(constructor: Callable[..., Any], sizes: dict[str, Any]) -> Callable[..., Any]:
    def construct(*args: Any, **kwargs: Any) -> Any:
        return constructor(*args, **{**kwargs, **sizes})

    return construct


def _reading_t3_of(family: str, read: Callable[..., Any]) -> Callable[..., Any]:
    """For a family that is loaded by another's class, which names its own T3 file."""
    files = files_of(family)

    def load(path: Path, *args: Any, **kwargs: Any) -> Any:
        own = Path(path).with_name(files.t3)
        return read(own if Path(path).name == files.t3_in_upstream else path, *args, **kwargs)

    return load
