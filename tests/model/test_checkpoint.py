"""Synthetic checkpoints of the tiny size, written, loaded by upstream's own classes, and made to speak."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from chatterbox import tts_turbo
from chatterbox.models.s3gen import S3Gen
from chatterbox.models.s3gen import s3gen as s3gen_module
from chatterbox.models.t3 import T3
from chatterbox.models.t3.llama_configs import LLAMA_CONFIGS
from chatterbox.models.tokenizers import EnTokenizer, MTLTokenizer
from s3tokenizer.model_v2 import S3TokenizerV2
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ttsbench.errors import CheckpointError
from ttsbench.model import architecture, checkpoint, synthetic
from ttsbench.model import checkpoint_files as files
from ttsbench.model.families import CONDITIONALS, SIZES, Family, files_of, names
from ttsbench.model.speech import SPEECH_TOKENS

FAMILIES = names(Family.speaks)
TOKENS = 6
SAMPLES_PER_TOKEN = 960
SILENT_TOKENS = {"turbo": 3, "nano": 3}  # that upstream adds at the end
WRITE_ALL = (
    "import sys; from pathlib import Path; from ttsbench.model import checkpoint, families\n"
    "for family in families.names(families.Family.speaks): checkpoint.write(Path(sys.argv[1], family), family, 'tiny')"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads of a busy machine's two cores wait for one another far longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def other_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Writes every family once more, beside the tests; the function waits for it."""
    folder = tmp_path_factory.mktemp("other")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITE_ALL, str(folder)],
        cwd=Path(__file__).parents[2], env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def wait() -> Path:
        _, errors = process.communicate(timeout=240) if process.returncode is None else (None, "")
        assert process.returncode == 0, errors
        return folder

    yield wait
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A tiny checkpoint, written once for the module."""
    root = tmp_path_factory.mktemp("checkpoints")

    def write(family: str, dtype: str = "fp32", seed: int = 0) -> Path:
        return checkpoint.write(root / f"{family}-{dtype}-{seed}", family, "tiny", dtype, seed)

    return write


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def copied(folder: Path, to: Path) -> Path:
    """The same files by hard links; whoever changes one removes it first."""
    to.mkdir()
    for name in (*files_of(str(folder.name).partition("-")[0]).names, files.MANIFEST):
        os.link(folder / name, to / name)
    return to


def without_tensor(path: Path, name: str) -> None:
    tensors = load_file(path)
    del tensors[name]
    path.unlink()
    save_file(tensors, path)


def speak(model: Any, family: str) -> torch.Tensor:
    """A few tokens, none of them special, through upstream's own generate."""
    head = model.t3.speech_head
    bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias.detach().clone()
    bias[SPEECH_TOKENS:] = -1e4
    head.bias = torch.nn.Parameter(bias)
    name, limit = ("inference_turbo", "max_gen_len") if family in SILENT_TOKENS else ("inference", "max_new_tokens")
    upstream = getattr(model.t3, name)
    count = TOKENS - 1 if family in SILENT_TOKENS else TOKENS  # turbo draws one before its loop
    setattr(model.t3, name, lambda **arguments: upstream(**{**arguments, limit: count}))
    torch.manual_seed(0)
    language = {"language_id": "zh"} if family == "multilingual" else {}
    wave: torch.Tensor = model.generate("Hello there, 你好.", **language)
    return wave


def tensors_of(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return {**loaded["t3"], **loaded["gen"]} if path.name == CONDITIONALS else loaded


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.usefixtures("no_network")
def test_each_family_loads_and_speaks(
    family: str, written: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model = checkpoint.load(written(family), family, "cpu")
    assert type(model) is architecture.upstream_class(family)
    wave = speak(model, family)
    assert wave.shape == (1, (TOKENS + SILENT_TOKENS.get(family, 0)) * SAMPLES_PER_TOKEN)
    assert torch.isfinite(wave).all()
    assert 1e-4 < wave.abs().max() < 0.99
    assert wave.std() > 1e-3
    assert "WARNING: Tokenizer" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_finite_and_none_is_left_constant(family: str, written: Callable[..., Path]) -> None:
    for name in (name for name in files_of(family).names if not name.endswith((".json", ".txt"))):
        for key, tensor in tensors_of(written(family) / name).items():
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                assert torch.isfinite(tensor).all(), key
                assert tensor.numel() == 1 or tensor.min() < tensor.max(), key


def test_the_built_in_voice_has_upstream_s_types_and_shapes(written: Callable[..., Path]) -> None:
    prompts = {"chatterbox": 150, "turbo": 375, "nano": 375, "multilingual": 150}
    for family, prompt in prompts.items():
        voice = torch.load(written(family) / CONDITIONALS, weights_only=True)
        ids, tokens = voice["t3"]["cond_prompt_speech_tokens"], voice["gen"]["prompt_token"]
        assert ids.shape == (1, prompt)
        assert ids.dtype == tokens.dtype == torch.int64
        assert max(ids.max(), tokens.max()) < SPEECH_TOKENS
        assert voice["t3"]["speaker_emb"].norm().item() == pytest.approx(1)
        assert voice["gen"]["prompt_feat"].shape == (1, 2 * tokens.shape[1], 80)
        assert voice["gen"]["prompt_token_len"].tolist() == [tokens.shape[1]]


def test_another_seed_or_dtype_is_another_checkpoint(written: Callable[..., Path]) -> None:
    folders = [written("chatterbox"), written("chatterbox", seed=1), written("chatterbox", "bf16")]
    assert len({checkpoint.weights_digest(folder) for folder in folders}) == 3
    first, other = (load_file(folder / "t3_cfg.safetensors")["tfmr.norm.weight"] for folder in folders[:2])
    assert not torch.equal(first, other)


def test_writing_leaves_the_caller_s_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with synthetic.seeded(1, "t3"):
        torch.rand(7)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("family", "dtype"), [("chatterbox", "bf16"), ("turbo", "bf16"), ("multilingual", "fp16")])
def test_a_half_precision_checkpoint_keeps_its_dtype_and_its_ids(
    family: str, dtype: str, written: Callable[..., Path]
) -> None:
    folder = written(family, dtype)
    model = checkpoint.load(folder, family, "cpu")
    half = synthetic.TORCH_DTYPES[dtype]
    assert checkpoint._stored_dtypes(folder, family, None) == (half, half)  # as of a folder without a manifest
    assert {parameter.dtype for parameter in model.t3.parameters()} == {half}
    estimator = model.s3gen.flow.decoder.estimator
    assert {parameter.dtype for parameter in estimator.parameters()} == {half}
    inside = {id(parameter) for parameter in estimator.parameters()}
    rest = (parameter for parameter in model.s3gen.parameters() if id(parameter) not in inside)
    assert {parameter.dtype for parameter in (*rest, *model.ve.parameters())} == {torch.float32}
    assert {buffer.dtype for buffer in model.t3.buffers() if buffer.is_floating_point()} <= {torch.float32}
    voice = torch.load(folder / CONDITIONALS, weights_only=True)
    assert torch.equal(model.conds.t3.cond_prompt_speech_tokens, voice["t3"]["cond_prompt_speech_tokens"])
    assert torch.equal(model.conds.gen["prompt_token"], voice["gen"]["prompt_token"])
    assert model.conds.t3.speaker_emb.dtype == model.conds.t3.emotion_adv.dtype == half
    assert model.conds.gen["prompt_feat"].dtype == torch.float32
    if family != "multilingual":
        wave = speak(model, family)
        assert torch.isfinite(wave).all()
        assert 1e-4 < wave.abs().max() < 0.99


@pytest.mark.usefixtures("no_network")
def test_each_tokenizer_has_the_true_size(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    english = EnTokenizer(str(written("chatterbox") / "tokenizer.json"))
    assert english.tokenizer.get_vocab_size() == 704
    assert [english.tokenizer.token_to_id(token) for token in ("[STOP]", "[UNK]", "[START]")] == [0, 1, 255]
    assert english.decode(english.encode("The quick (brown) fox!")) == "The quick (brown) fox!"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    multilingual = MTLTokenizer(str(written("multilingual") / "grapheme_mtl_merged_expanded_v1.json"))
    assert multilingual.tokenizer.get_vocab_size() == 2454
    assert multilingual.cangjie_converter.word2cj["好"] == "vnd"
    samples = {"de": "Größe", "ru": "Привет", "ar": "مرحبا", "hi": "नमस्ते", "ko": "안녕", "zh": "你好"}
    for language, text in samples.items():
        assert 1 not in multilingual.encode(text, language), language  # the unknown token
    gpt2 = AutoTokenizer.from_pretrained(written("turbo"))
    assert len(gpt2) == 50276
    assert sorted(gpt2.get_vocab().values()) == list(range(50276))
    assert gpt2.decode(gpt2("A quick, brown fox [laugh] né?").input_ids) == "A quick, brown fox [laugh] né?"


@pytest.mark.usefixtures("no_network")
def test_a_hub_checkpoint_takes_the_same_path(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "models--ResembleAI--chatterbox"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("2" * 40, encoding="utf-8")
    (repository / "snapshots").mkdir()
    copied(written("chatterbox"), repository / "snapshots" / ("2" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = checkpoint.locate("hub", "chatterbox")
    assert folder.is_relative_to(repository)
    model = checkpoint.load(folder, "chatterbox", "cpu")
    assert model.conds is not None
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("t3_cfg.safetensors", "speech_emb.weight", r"does not fit upstream's ChatterboxTTS.*speech_emb\.weight"),
        ("s3gen.safetensors", "flow.encoder_proj.weight", r"lacks flow\.encoder_proj\.weight"),
    ],
)
def test_a_tensor_that_lacks_is_named(
    name: str, tensor: str, message: str, written: Callable[..., Path], tmp_path: Path
) -> None:
    folder = copied(written("chatterbox"), tmp_path / "copy")
    without_tensor(folder / name, tensor)
    (folder / files.MANIFEST).unlink()
    files.write_manifest(folder, "chatterbox", "tiny", "fp32", 0, "")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder, "chatterbox", "cpu")


def upstream_s_state() -> dict[str, Any]:
    named = {f"{module.__name__}.{name}": getattr(module, name) for module, name, _ in architecture._TINY_MODULES}
    configs = {name: dict(config) for name, config in LLAMA_CONFIGS.items()}
    return {**named, **configs, "v2": S3TokenizerV2.__init__.__defaults__, "load": tts_turbo.load_file}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_upstream_is_as_before_after_a_load(family: str, size: str) -> None:
    before = upstream_s_state()
    with architecture.registered(family, size):
        inside = upstream_s_state()
    assert upstream_s_state() == before
    assert (inside != before) is (size == "tiny" or family == "nano")
    with pytest.raises(ZeroDivisionError), architecture.registered(family, size):
        raise ZeroDivisionError
    assert upstream_s_state() == before


FULL_PARAMETERS = {
    "chatterbox": (532_405_248, 503_387_136),
    "turbo": (478_862_755, 362_186_752),
    "nano": (217_471_139, 129_962_496),
    "multilingual": (535_989_248, 503_387_136),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_full_is_the_true_architecture(family: str) -> None:
    with architecture.registered(family, "full"), torch.device("meta"):
        t3 = T3(synthetic.t3_config(family))
    assert (count(t3), count(t3.tfmr)) == FULL_PARAMETERS[family]


def test_full_s3gen_is_the_true_architecture() -> None:
    with architecture.registered("chatterbox", "full"), torch.device("meta"):
        s3gen = S3Gen()
    parts = ("tokenizer", "speaker_encoder", "flow.encoder", "flow.decoder.estimator", "mel2wav")
    assert type(s3gen.flow.encoder) is s3gen_module.UpsampleConformerEncoder
    assert {part: round(count(s3gen.get_submodule(part)) / 1e6, 1) for part in parts} == {
        "tokenizer": 123.7,
        "speaker_encoder": 6.8,
        "flow.encoder": 37.8,
        "flow.decoder.estimator": 71.3,
        "mel2wav": 20.8,
    }


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_write_the_same_bytes(
    family: str, written: Callable[..., Path], other_process: Callable[[], Path]
) -> None:
    here, there = written(family), other_process() / family
    names = sorted(path.relative_to(here) for path in here.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert [name for name in names if (here / name).read_bytes() != (there / name).read_bytes()] == []
    assert Path(files.MANIFEST) in names
