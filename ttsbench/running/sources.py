"""Which sources run: hashes and commits, read from the files; nothing is imported."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ttsbench

# Their version numbers do not identify the code: upstream's main branch still calls itself 0.1.7.
HASHED_PACKAGES = ("chatterbox", "conformer", "perth", "s3tokenizer")
# Of transformers, what the two backbones and the sampling loop run through.
HASHED_OF_TRANSFORMERS = (
    "activations.py",
    "cache_utils.py",
    "generation/logits_process.py",
    "integrations/flash_attention.py",
    "integrations/sdpa_attention.py",
    "masking_utils.py",
    "modeling_flash_attention_utils.py",
    "modeling_layers.py",
    "modeling_rope_utils.py",
    "modeling_utils.py",
    "models/gpt2/configuration_gpt2.py",
    "models/gpt2/modeling_gpt2.py",
    "models/llama/configuration_llama.py",
    "models/llama/modeling_llama.py",
    "pytorch_utils.py",
)
GIT_SECONDS_MAX = 2.0


def hashes() -> dict[str, str]:
    """Hashes of the sources that run."""
    folders = {name: package_folder(name) for name in HASHED_PACKAGES}
    digests = {
        name: source_hash(folder, python_files(folder)) for name, folder in folders.items() if folder is not None
    }
    if (folder := package_folder("transformers")) is not None:
        digests["transformers (what runs)"] = source_hash(folder, [folder / name for name in HASHED_OF_TRANSFORMERS])
    return digests


def own() -> dict[str, Any]:
    """This package: its version, its hash, and the commit if it runs from a checkout."""
    folder = Path(ttsbench.__file__).parent
    facts: dict[str, Any] = {
        "version": ttsbench.__version__,
        "sha256": source_hash(folder, python_files(folder)),
        "git_commit": None,
        "git_dirty": None,
    }
    return facts | git_state(folder.parent)


def git_state(checkout: Path) -> dict[str, Any]:
    """Commit and whether anything differs from it; empty where there is no checkout or no git."""
    if not (checkout / ".git").exists():
        return {}
    command = ["git", "--no-optional-locks", "-C", str(checkout), "status", "--porcelain=v2", "--branch"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS_MAX, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    commit = re.search(r"^# branch\.oid ([0-9a-f]+)$", answer, re.MULTILINE)
    dirty = any(not line.startswith("#") for line in answer.splitlines())
    return {"git_commit": commit[1] if commit else None, "git_dirty": dirty}


def torch_build() -> dict[str, str]:
    """What the installed torch was built from and for, read from its version file; the import would take seconds."""
    folder = package_folder("torch")
    version_file = None if folder is None else folder / "version.py"
    text = version_file.read_text(encoding="utf-8") if version_file is not None and version_file.is_file() else ""
    return dict(re.findall(r"^(cuda|hip|git_version)\b[^=\n]*= '([^']+)'", text, re.MULTILINE))


def package_folder(name: str) -> Path | None:
    """Where a top-level package lies, without importing it."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def python_files(folder: Path) -> list[Path]:
    """Below a package, links followed: a checkout of ttsbench and its wheel hold the same files."""
    return [
        Path(root, name)
        for root, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.endswith(".py")
    ]


def source_hash(folder: Path, files: Iterable[Path]) -> str:
    """sha256 over names and contents; a file that does not exist is left out."""
    digest = hashlib.sha256()
    for name, file in sorted((file.relative_to(folder).as_posix(), file) for file in files if file.is_file()):
        content = file.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
