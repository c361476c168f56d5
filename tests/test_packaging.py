from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import ttsbench

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = {
    name.removeprefix("ttsbench."): folder
    for name, folder in SETUPTOOLS["package-dir"].items()
    if name.startswith("ttsbench.")
}
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# What --help, validate, list and compare need.
LIGHT = (
    *(f"ttsbench.{folder}" for folder in ("cli", "scenarios", "reports")),
    *(f"ttsbench.optimizations.{path.stem}" for path in (ROOT / "optimizations").glob("[a-z]*.py")),
    "ttsbench.optimizations.kernels.catalog",
)
EXTRAS_NOT_LOCKED = ("flash-attn", "quantize", "ray")


def modules() -> list[str]:
    """Dotted names of all that lies below ttsbench/, links followed; packages as their __init__."""
    return sorted(
        ".".join(("ttsbench", *Path(root, name).relative_to(ROOT / "ttsbench").with_suffix("").parts))
        for root, _, names in os.walk(ROOT / "ttsbench", followlinks=True)
        for name in names
        if name.endswith(".py")
    )


def locked() -> dict[str, list[Requirement]]:
    """Pins by normalized name; one package may have several, for different Pythons."""
    pins: dict[str, list[Requirement]] = {}
    for line in re.findall(r"^[A-Za-z0-9].*", LOCK, re.MULTILINE):
        requirement = Requirement(line.rstrip(" \\"))
        pins.setdefault(normalized(requirement.name), []).append(requirement)
    return pins


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def excluded(requirement: Requirement) -> bool:
    return requirement.marker is not None and 'python_version < "3"' in str(requirement.marker)


def test_links_and_package_dir_say_the_same() -> None:
    links = {path.name: path for path in (ROOT / "ttsbench").iterdir() if path.is_symlink()}
    assert {name: str(path.readlink()) for name, path in links.items()} == {
        name: f"../{folder}" for name, folder in FOLDERS.items()
    }
    assert all(path.is_dir() for path in links.values())


def test_every_package_on_disk_is_packaged() -> None:
    on_disk = [name.removesuffix(".__init__") for name in modules() if name.endswith(".__init__")]
    assert sorted(SETUPTOOLS["packages"]) == on_disk


def test_every_data_file_is_packaged() -> None:
    for name, folder in {"": "ttsbench", **FOLDERS}.items():
        patterns = SETUPTOOLS["package-data"].get(f"ttsbench.{name}" if name else "ttsbench", [])
        files = {p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        data = {p for p in files if p.suffix != ".py"}
        assert data == {p for pattern in patterns for p in (ROOT / folder).glob(pattern)}, folder


def test_nothing_generic_is_needed_to_import_anything(tmp_path: Path) -> None:
    # Those below import what --help needs; the others are looked up only, since torch takes seconds.
    program = f"""
import importlib, importlib.util, json, sys
names = {[name.removesuffix(".__init__") for name in modules()]!r}
lost = [name for name in names if importlib.util.find_spec(name) is None]
for name in names:
    if name.startswith({LIGHT!r}):
        importlib.import_module(name)
print(json.dumps([lost, sorted(sys.modules)]))
"""
    environment = {**os.environ, "PYTHONPATH": str(checkout_without_generic_names(tmp_path))}
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert answer.returncode == 0, answer.stderr
    lost, imported = json.loads(answer.stdout)
    assert lost == []
    assert not {*FOLDERS, "tests", "torch"} & set(imported)


def checkout_without_generic_names(folder: Path) -> Path:
    """A path on which `import ttsbench` works and `import cli` does not."""
    (folder / "path").mkdir()
    (folder / "path" / "ttsbench").symlink_to(ROOT / "ttsbench")
    return folder / "path"


def test_the_installed_version_is_that_of_the_source() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert str(Version(ttsbench.__version__)) == ttsbench.__version__
    try:
        installed = importlib.metadata.version("ttsbench")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ttsbench is not installed here")
    assert installed == ttsbench.__version__


def test_the_lock_names_no_address_and_no_path() -> None:
    assert "://" not in LOCK
    assert not re.search(r"(^|[\s=@])(/|\.\.?/|file:|-i |-f |--index|--extra-index|--find-links)", LOCK, re.MULTILINE)
    assert not re.search(r"\.(org|com|net|io|dev)\b", LOCK)


def test_every_pin_is_exact_and_hashed() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) > 50
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert [str(pin) for pins in locked().values() for pin in pins if not str(pin.specifier).startswith("==")] == []


def test_the_lock_holds_what_the_project_and_its_developers_ask_for() -> None:
    pins, overrides = locked(), [Requirement(text) for text in PROJECT["tool"]["uv"]["override-dependencies"]]
    request = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    for requirement in [*map(Requirement, request), *(o for o in overrides if not excluded(o))]:
        result = pins.get(normalized(requirement.name), [])
        versions = [next(iter(pin.specifier)).version for pin in result]
        assert versions, requirement
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_every_package_that_is_imported_is_declared() -> None:
    """What another package brings along today, it may leave out tomorrow."""
    sources = [path for folder in ("ttsbench", *FOLDERS.values()) for path in (ROOT / folder).rglob("*.py")]
    imported = {name.partition(".")[0] for path in sources for name in imports(path)}
    extras = PROJECT["project"]["optional-dependencies"]
    optional = {
        normalized(Requirement(text).name) for extra in ("flash-attn", "parquet", "quantize") for text in extras[extra]
    }
    foreign = imported - set(sys.stdlib_module_names) - {"ttsbench"}
    owners = importlib.metadata.packages_distributions()
    needed = {normalized(owners[name][0] if name in owners else name) for name in foreign}
    declared = {normalized(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    assert {"torch", "numpy"} <= needed
    assert needed <= declared | optional


def imports(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]


def test_the_lock_holds_nothing_that_is_left_out() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    left_out = [Requirement(text) for extra in EXTRAS_NOT_LOCKED for text in extras[extra]]
    left_out += [o for o in map(Requirement, PROJECT["tool"]["uv"]["override-dependencies"]) if excluded(o)]
    assert len(left_out) == 7
    assert [r.name for r in left_out if normalized(r.name) in locked()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
class TestMakefile:
    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["make", "-C", str(ROOT), *words], capture_output=True, text=True, check=False)

    def test_help_names_every_target(self) -> None:
        phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert phony is not None
        assert set(phony[1].split()) == set(re.findall(r"^  make (\w+)", self.make().stdout, re.MULTILINE))

    @pytest.mark.parametrize("version", ["3.10", ""])
    def test_a_python_that_will_not_do_is_refused_in_one_line(self, tmp_path: Path, version: str) -> None:
        python = tmp_path / "old-python"
        if version:
            python.write_text(f'#!/bin/sh\ncase "$2" in *print*) echo {version};; *) exit 1;; esac\n')
            python.chmod(0o755)
        answer = self.make("test", f"PYTHON={python}")
        assert answer.returncode != 0
        output = [line for line in answer.stderr.splitlines() if not line.startswith("make")]
        result = f"ttsbench needs Python 3.11 or newer, and '{python}' is {version or 'not there'}"
        assert output == [f"{result}; name another: make PYTHON=python3.12"]
