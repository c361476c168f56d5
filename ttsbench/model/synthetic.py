"""Seeded random weights of the true architecture, in the very files that upstream loads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from chatterbox.models.s3gen import S3Gen
from chatterbox.models.t3 import T3
from chatterbox.models.t3.modules.t3_config import T3Config
from chatterbox.models.voice_encoder import VoiceEncoder
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ttsbench.model import architecture, tokenizer_files
from ttsbench.model.families import CONDITIONALS, ENGLISH, FAMILIES, GPT2, MULTILINGUAL, files_of
from ttsbench.model.speech import MEL_BANDS, SPEECH_TOKENS

TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
REFERENCE_TOKENS = {"full": 250, "tiny": 50}  # 25 a second
SPEAKER_CHANNELS = 256
XVECTOR_CHANNELS = 192

_VOCABULARIES: dict[str, Callable[[Path], None]] = {
    ENGLISH: tokenizer_files.write_english,
    GPT2: tokenizer_files.write_gpt2,
    MULTILINGUAL: tokenizer_files.write_multilingual,
}


def fill(folder: Path, family: str, size: str, dtype: str, seed: int) -> None:
    """Writes the weights, the tokenizer and the built-in voice of a checkpoint into an empty folder."""
    files = files_of(family)
    for part, file in (("ve", files.voice_encoder), ("t3", files.t3), ("s3gen", files.s3gen)):
        with seeded(seed, part), architecture.registered(family, size):
            _save(stored(build(part, family), dtype), folder / file)
    _VOCABULARIES[FAMILIES[family].t3](folder)
    with seeded(seed, "voice"):
        _save(_voice(family, size), folder / CONDITIONALS)


def build(part: str, family: str) -> nn.Module:
    """One of upstream's three modules as its constructor makes it, with nothing left constant, zero or silent."""
    module: nn.Module = _BUILDERS[part](family)
    roughen(module)
    if part == "s3gen":
        _make_audible(module)
    return module


def stored(module: nn.Module, dtype: str) -> dict[str, Tensor]:
    """What the file holds: parameters in the checkpoint's dtype; filters, windows and running statistics in fp32."""
    parameters = dict(module.named_parameters())
    state = module.state_dict()
    return {name: t.to(TORCH_DTYPES[dtype]) if name in parameters else t for name, t in state.items()}


def t3_config(family: str) -> Any:
    """T3's settings, which upstream's from_local sets for itself."""
    declared = FAMILIES[family]
    if declared.t3 == ENGLISH:
        return T3Config.english_only()
    if declared.t3 == MULTILINGUAL:
        return T3Config.multilingual()
    config = T3Config(text_tokens_dict_size=tokenizer_files.GPT2_TOKENS)
    config.llama_config_name = declared.backbone
    config.speech_tokens_dict_size = 6563
    config.input_pos_emb = None
    config.speech_cond_prompt_len = 375
    config.use_perceiver_resampler = False
    config.emotion_adv = False
    return config


@contextmanager
def seeded(seed: int, part: str) -> Iterator[None]:
    """A random stream of its own for each part, on the CPU; the caller's streams stay as they were."""
    own = int.from_bytes(hashlib.sha256(f"{seed}/{part}".encode()).digest()[:8], "little") >> 1
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(own)
        yield


_BUILDERS: dict[str, Callable[[str], Any]] = {
    "ve": lambda family: VoiceEncoder(),
    "t3": lambda family: T3(t3_config(family)),
    "s3gen": lambda family: S3Gen(meanflow=FAMILIES[family].mean_flow),
}


def roughen(module: nn.Module) -> None:
    """Noise on biases, norms and running statistics: left at 0 and 1, code that forgets them would go unnoticed."""
    for tensor in chain(module.parameters(), module.buffers()):
        if tensor.is_floating_point() and tensor.ndim == 1 and tensor.numel() > 1 and tensor.min() == tensor.max():
            tensor.add_(torch.randn_like(tensor), alpha=0.1 if tensor[0] else 0.02)


def _make_audible(s3gen: Any) -> None:
    """Gains under which the wave peaks at 0.1 to 0.5 and follows the mel; as constructed it is a 6 kHz buzz at 0.05."""
    vocoder = s3gen.mel2wav
    for layer in (vocoder.conv_pre, *vocoder.ups, vocoder.conv_post):
        layer.parametrizations.weight.original0.mul_(2)
    vocoder.conv_post.bias[: vocoder.istft_params["n_fft"] // 2 + 1] -= 1  # the log magnitudes
    pitch = vocoder.f0_predictor.classifier
    pitch.weight.mul_(20)
    pitch.bias.fill_(140)  # Hz; below 10 Hz all of it would be unvoiced
    mixer = s3gen.flow.decoder.estimator.time_embed_mixer
    if mixer is not None:  # constructed to ignore the step's end
        mixer.weight.add_(torch.randn_like(mixer.weight), alpha=0.01)


def _voice(family: str, size: str) -> dict[str, Any]:
    """What upstream's prepare_conditionals makes of a reference, in its types and shapes."""
    tokens = REFERENCE_TOKENS[size]
    prompt = t3_config(family).speech_cond_prompt_len
    t3 = {
        "speaker_emb": nn.functional.normalize(torch.rand(1, SPEAKER_CHANNELS)),
        "clap_emb": None,
        "cond_prompt_speech_tokens": torch.randint(SPEECH_TOKENS, (1, prompt)),
        "cond_prompt_speech_emb": None,
        "emotion_adv": torch.full((1, 1, 1), 0.5),
    }
    gen = {
        "prompt_token": torch.randint(SPEECH_TOKENS, (1, tokens)),
        "prompt_token_len": torch.tensor([tokens]),
        "prompt_feat": torch.randn(1, 2 * tokens, MEL_BANDS) * 2 - 5,  # log mel of speech
        "prompt_feat_len": None,
        "embedding": torch.randn(1, XVECTOR_CHANNELS),
    }
    return {"t3": t3, "gen": gen}


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        if path.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in content.items()}, path, metadata={"format": "pt"})
        else:
            with path.open("wb") as file:
                torch.save(content, file)
    except (SafetensorError, RuntimeError) as error:
        raise _disk_error(error) or error from None


def _disk_error(error: Exception) -> OSError | None:
    """The error that both libraries hide in their own: safetensors in its words, torch in its context."""
    if isinstance(error.__context__, OSError):
        return error.__context__
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None
