"""Folders checked, kept and refused. The files are whole but empty, so that no model is ever built."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from ttsbench.errors import CheckpointError
from ttsbench.model import checkpoint, synthetic
from ttsbench.model import checkpoint_files as files
from ttsbench.model.families import CANGJIE, Family, files_of, names

FAMILIES = names(Family.speaks)
Fill = Callable[[Path, str, str, str, int], None]


def fill(folder: Path, family: str, size: str = "tiny", dtype: str = "fp32", seed: int = 0) -> None:
    for name in files_of(family).names:
        write_file(folder / name)


def write_file(path: Path, payload: bytes = b"\0" * 4096) -> None:
    if path.suffix == ".safetensors":
        tensor = {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}
        header = json.dumps({"__metadata__": {"format": "pt"}, "a": tensor}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + payload)
    elif path.suffix == ".pt":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", payload)
    else:
        path.write_text(json.dumps({"what": "x" * 100}), encoding="utf-8")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache root, and a `fill` that takes no time."""
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(synthetic, "fill", fill)
    return tmp_path / "cache"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, with no network behind it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def snapshot(hub: Path, family: str) -> Path:
    repository = hub / f"models--{files_of(family).repository.replace('/', '--')}"
    commit = "1" * 40
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    fill(folder, family)
    return folder


def refusal(folder: Path, family: str = "chatterbox") -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.locate(str(folder), family)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_foreign_folder_with_the_family_s_files_is_taken(family: str, tmp_path: Path) -> None:
    fill(tmp_path, family)
    assert checkpoint.locate(str(tmp_path), family) == tmp_path


@pytest.mark.parametrize("family", FAMILIES)
def test_every_missing_file_is_named(family: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, family)
    required = set(files_of(family).names) - {"conds.pt", CANGJIE, "special_tokens_map.json", "added_tokens.json"}
    missing = message.partition(" lacks ")[2].partition(". Put ")[0].split(", ")
    assert set(missing) == required


@pytest.mark.parametrize("name", ["t3_cfg.safetensors", "s3gen.safetensors", "conds.pt", "tokenizer.json"])
def test_a_file_cut_short_is_found(name: str, tmp_path: Path) -> None:
    fill(tmp_path, "chatterbox")
    for kept in (0, 1, 7, 40, -1):
        write_file(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
        assert f"is damaged: {name} (" in refusal(tmp_path)


def test_a_header_that_is_no_header_is_found(tmp_path: Path) -> None:
    fill(tmp_path, "chatterbox")
    for header in (b"[]", b'{"a": 1}', b'{"a": {"data_offsets": "ab"}}', b'{"a": {"data_offsets": [0]}}', b"\xff\xfe"):
        (tmp_path / "ve.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        assert "is damaged: ve.safetensors (" in refusal(tmp_path)


def test_all_damage_is_told_at_once(tmp_path: Path) -> None:
    fill(tmp_path, "multilingual")
    for name in ("ve.pt", "t3_mtl23ls_v2.safetensors", "s3gen.pt"):
        (tmp_path / name).write_bytes(b"no weights")
    message = refusal(tmp_path, "multilingual")
    assert all(f"{name} (" in message for name in ("ve.pt", "t3_mtl23ls_v2.safetensors", "s3gen.pt"))


def test_another_family_s_folder_is_told_apart(tmp_path: Path) -> None:
    fill(tmp_path, "turbo")
    assert "it looks like a checkpoint for turbo, not for nano" in refusal(tmp_path, "nano")
    (tmp_path / files_of("nano").t3).write_bytes((tmp_path / files_of("turbo").t3).read_bytes())
    files.write_manifest(tmp_path, "turbo", "tiny", "fp32", 0, "")
    assert "holds a checkpoint for turbo, not for nano" in refusal(tmp_path, "nano")


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in refusal(tmp_path / "file")


def test_tokenizer_json_may_stand_for_vocabulary_and_merges(tmp_path: Path) -> None:
    fill(tmp_path, "turbo")
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    write_file(tmp_path / "tokenizer.json")
    assert checkpoint.locate(str(tmp_path), "turbo") == tmp_path


def test_the_manifest_is_believed_only_as_far_as_sizes_agree(tmp_path: Path) -> None:
    fill(tmp_path, "chatterbox")
    files.write_manifest(tmp_path, "chatterbox", "tiny", "bf16", 7, "")
    manifest = files.check(tmp_path, "chatterbox")
    assert manifest is not None
    assert (manifest.size, manifest.dtype, manifest.seed) == ("tiny", "bf16", 7)
    (tmp_path / "conds.pt").unlink()
    assert "lacks conds.pt" in refusal(tmp_path)
    write_file(tmp_path / "conds.pt", b"longer" * 4096)
    assert "where ttsbench.json says" in refusal(tmp_path)
    for text in ("", "[]", '{"format_version": 1}', '{"format_version": 99}'):
        (tmp_path / "ttsbench.json").write_text(text, encoding="utf-8")
        assert "ttsbench.json cannot be read" in refusal(tmp_path)


def test_the_digest_tells_contents_apart(tmp_path: Path) -> None:
    fill(tmp_path, "chatterbox")
    foreign = checkpoint.weights_digest(tmp_path)
    assert checkpoint.weights_digest(tmp_path) == foreign
    (tmp_path / "notes.txt").write_text("not read by upstream", encoding="utf-8")
    assert checkpoint.weights_digest(tmp_path) == foreign
    write_file(tmp_path / "ve.safetensors", b"\0" * 4095 + b"\1")
    changed = checkpoint.weights_digest(tmp_path)
    assert changed != foreign
    files.write_manifest(tmp_path, "chatterbox", "tiny", "fp32", 0, "")
    ours = checkpoint.weights_digest(tmp_path)
    files.write_manifest(tmp_path, "chatterbox", "tiny", "fp32", 1, "another recipe")
    assert checkpoint.weights_digest(tmp_path) == ours != changed


def test_the_cache_is_filled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint.ensure("turbo", "tiny", "fp32", 3)
    assert folder.parent == cache / "checkpoints"
    assert folder.name.startswith("turbo-tiny-fp32-3-")
    monkeypatch.setattr(synthetic, "fill", None)
    assert checkpoint.locate("synthetic", "turbo", "tiny", "fp32", 3) == folder


@pytest.mark.parametrize("damage", ["ttsbench.json", "conds.pt"])
def test_what_is_incomplete_or_damaged_in_the_cache_is_written_again(cache: Path, damage: str) -> None:
    folder = checkpoint.ensure("chatterbox", "tiny", "fp32", 0)
    (folder / damage).unlink()
    assert checkpoint.ensure("chatterbox", "tiny", "fp32", 0) == folder
    (folder / "ve.safetensors").write_bytes(b"short")
    (cache / "checkpoints" / f".{folder.name}.partial").mkdir()  # as a killed process leaves it
    checkpoint.ensure("chatterbox", "tiny", "fp32", 0)
    assert files.is_whole(folder, "chatterbox")
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_two_processes_that_race_write_one_copy(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_slowly(folder: Path, family: str, size: str, dtype: str, seed: int) -> None:
        with (cache / "writers").open("a", encoding="utf-8") as log:
            log.write(f"{os.getpid()}\n")
        time.sleep(0.3)
        fill(folder, family)

    monkeypatch.setattr(synthetic, "fill", fill_slowly)
    racers = [
        multiprocessing.get_context("fork").Process(target=checkpoint.ensure, args=("nano", "tiny", "fp32", 0))
        for _ in range(3)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert len((cache / "writers").read_text(encoding="utf-8").splitlines()) == 1
    assert files.is_whole(checkpoint.ensure("nano", "tiny", "fp32", 0), "nano")


def test_a_full_disk_is_told_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(folder: Path, *_: object) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(synthetic, "fill", run_out)
    with pytest.raises(CheckpointError, match=r"No space left on device\. Free some space"):
        checkpoint.ensure("chatterbox", "tiny", "fp32", 0)
    assert [path for path in (cache / "checkpoints").iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="cannot be written: Not a directory"):
        checkpoint.ensure("chatterbox", "tiny", "fp32", 0)


@pytest.mark.usefixtures("cache")
def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert checkpoint.write(folder, "chatterbox", "tiny") == folder
    monkeypatch.setattr(synthetic, "fill", None)
    assert checkpoint.write(folder, "chatterbox", "tiny") == folder
    for family, seed in (("turbo", 0), ("chatterbox", 1)):
        with pytest.raises(CheckpointError, match="is not empty, and is not overwritten"):
            checkpoint.write(folder, family, "tiny", "fp32", seed)
    (tmp_path / ".other.partial").mkdir()
    with pytest.raises(CheckpointError, match="is in the way"):
        checkpoint.write(tmp_path / "other", "chatterbox", "tiny")


@pytest.mark.parametrize(
    ("family", "size", "dtype", "seed", "reason"),
    [
        ("turob", "tiny", "fp32", 0, "did you mean 'turbo'"),
        ("turbo", "huge", "fp32", 0, "allowed: full, tiny"),
        ("turbo", "tiny", "fp8", 0, "allowed: bf16, fp16, fp32"),
        ("turbo", "tiny", "fp32", -1, "not -1"),
    ],
)
def test_a_wrong_argument_is_told(family: str, size: str, dtype: str, seed: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.write(tmp_path / "new", family, size, dtype, seed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_hub_s_cache_is_used_without_a_network(family: str, hub: Path) -> None:
    folder = snapshot(hub, family)
    assert checkpoint.locate("hub", family) == folder


def test_an_empty_hub_cache_without_a_network_is_told_with_the_way_out(hub: Path) -> None:
    with pytest.raises(CheckpointError, match="ResembleAI/chatterbox-turbo is not in the hub's cache") as caught:
        checkpoint.locate("hub", "turbo")
    assert "hf download ResembleAI/chatterbox-turbo ve.safetensors t3_turbo_v1.safetensors" in str(caught.value)


def test_half_a_download_is_told(hub: Path) -> None:
    (snapshot(hub, "nano") / "t3_nano_v1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks t3_nano_v1\.safetensors"):
        checkpoint.locate("hub", "nano")


def test_looking_at_a_folder_imports_no_torch(tmp_path: Path) -> None:
    fill(tmp_path, "chatterbox")
    code = (
        "import sys; from ttsbench.model import checkpoint; checkpoint.locate(sys.argv[1], 'chatterbox'); "
        "checkpoint.recipe('chatterbox'); print({'torch', 'numpy', 'chatterbox', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert ended.stdout == "set()\n"
