from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ttsbench
from ttsbench.running import sources


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def hash_of(folder: Path) -> str:
    return sources.source_hash(folder, sources.python_files(folder))


def test_a_hash_depends_on_names_and_contents_and_on_nothing_else(tmp_path: Path) -> None:
    first = write(tmp_path / "a", x="1", deep__y="2")
    same = write(tmp_path / "b", deep__y="2", x="1")
    (same / "notes.txt").write_text("not Python")
    assert hash_of(first) == hash_of(same)
    assert hash_of(write(tmp_path / "c", x="1", deep__z="2")) != hash_of(first)
    assert hash_of(write(tmp_path / "d", x="1", deep__y="3")) != hash_of(first)
    assert hash_of(write(tmp_path / "e", x="", y="ab")) != hash_of(write(tmp_path / "f", x="a", y="b"))


def test_a_checkout_with_links_hashes_like_an_install_without(tmp_path: Path) -> None:
    installed = shutil.copytree(Path(ttsbench.__file__).parent, tmp_path / "ttsbench", symlinks=False)
    names = {file.relative_to(installed).as_posix() for file in sources.python_files(installed)}
    assert {"errors.py", "cli/__init__.py", "optimizations/registry.py"} <= names
    assert hash_of(installed) == sources.own()["sha256"]


def test_changed_upstream_code_changes_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sources.hashes()
    conformer = sources.package_folder("conformer")
    assert conformer is not None
    patched = shutil.copytree(conformer, tmp_path / "conformer")
    (patched / "__init__.py").write_text("patched = True")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(
        sys.modules, "conformer", raising=False
    )  # where another test has imported it, it is found there
    after = sources.hashes()
    assert {name for name in before if before[name] != after[name]} == {"conformer"}


def test_of_transformers_every_file_named_is_there() -> None:
    folder = sources.package_folder("transformers")
    assert folder is not None
    assert [name for name in sources.HASHED_OF_TRANSFORMERS if not (folder / name).is_file()] == []


def test_the_build_of_torch_is_read_without_importing_it() -> None:
    import torch

    assert sources.torch_build().get("cuda") == torch.version.cuda
    assert sources.torch_build()["git_version"] == torch.version.git_version


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_commit_and_dirt_of_a_checkout(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
        command = ["git", *identity, "-C", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    write(tmp_path, x="1")
    assert sources.git_state(tmp_path) == {"git_commit": None, "git_dirty": True}
    git("add", ".")
    git("commit", "-qm", "first")
    assert sources.git_state(tmp_path) == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": False}
    write(tmp_path, x="2")
    assert sources.git_state(tmp_path)["git_dirty"] is True


def test_without_a_checkout_or_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.git_state(tmp_path) == {}
    (tmp_path / ".git").mkdir()
    assert sources.git_state(tmp_path) == {}
    monkeypatch.setenv("PATH", "")
    assert sources.git_state(tmp_path) == {}
