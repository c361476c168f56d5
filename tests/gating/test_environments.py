from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ttsbench.errors import SideError
from ttsbench.gating import environments, remote, workspace
from ttsbench.gating.workspace import Workspace
from ttsbench.gating.worktrees import Checkout


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("TTSBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space").mkdir()
    return workspace.Workspace(tmp_path / "space")


def wheel(folder: Path, version: str) -> str:
    """A package that knows its version, and the line of a lock that asks for it."""
    name = f"smallest-{version}"
    files = {
        "smallest.py": f"VERSION = {version!r}\n",
        f"{name}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: smallest\nVersion: {version}\n",
        f"{name}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [f"{file},sha256={digest(text.encode())},{len(text)}" for file, text in files.items()]
    files[f"{name}.dist-info/RECORD"] = "\n".join([*lines, f"{name}.dist-info/RECORD,,"]) + "\n"
    path = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f"smallest=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def checkout(folder: Path, name: str, version: str) -> Checkout:
    (folder / name).mkdir()
    lock = f"--no-index\n--find-links {folder}\n{wheel(folder, version)}"
    (folder / name / environments.LOCK).write_text(lock)
    return Checkout(name, folder / name)


def version_in(python: str) -> str:
    program = "import smallest, sys; print(smallest.VERSION)"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_sides_of_one_lock_share_this_python(tmp_path: Path, space: Workspace) -> None:
    item, other = (checkout(tmp_path, name, "1") for name in ("one", "other"))
    assert environments.pythons([item, other], space, print) == {item: sys.executable, other: sys.executable}
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("with_uv", [True, False])
def test_sides_of_two_locks_have_an_environment_each_and_keep_it(
    tmp_path: Path, space: Workspace, monkeypatch: pytest.MonkeyPatch, with_uv: bool
) -> None:
    if not with_uv:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    item, other = (checkout(tmp_path, name, version) for name, version in (("one", "1"), ("other", "2")))
    output: list[str] = []
    pythons = environments.pythons([item, other], space, output.append)
    assert [version_in(python) for python in pythons.values()] == ["1", "2"]
    assert len(output) == 2
    assert environments.pythons([item, other], space, output.append) == pythons
    assert len(output) == 2
    # One that was not finished is made anew.
    (Path(pythons[item]).parents[1] / environments.READY).unlink()
    environments.pythons([item, other], space, output.append)
    assert len(output) == 3


def test_a_side_finds_its_own_code_first_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine/ttsbench", "theirs/ttsbench", "packages"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"theirs:packages::{tmp_path / 'theirs'}")
    mine = Checkout("mine", tmp_path / "mine")
    assert remote.import_path(mine, sys.executable) == f"{tmp_path / 'mine'}:{tmp_path / 'packages'}"
    assert remote.import_path(mine, "another/python") == str(tmp_path / "mine")


def test_what_cannot_be_had_is_told(tmp_path: Path, space: Workspace) -> None:
    item, other = checkout(tmp_path, "one", "1"), checkout(tmp_path, "other", "2")
    (tmp_path / "smallest-2-py3-none-any.whl").unlink()
    with pytest.raises(SideError, match=r"what other needs cannot be installed: .*smallest"):
        environments.pythons([item, other], space, print)
    (other.folder / environments.LOCK).unlink()
    with pytest.raises(SideError, match=r"other has no requirements\.lock"):
        environments.pythons([item, other], space, print)
