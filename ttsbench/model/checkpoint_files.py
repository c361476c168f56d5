"""Which files each family's checkpoint holds, and whether a folder holds them whole. No torch: planning reads it."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttsbench.errors import CheckpointError, NoRecordError, RecordError
from ttsbench.model.families import CANGJIE, CONDITIONALS, Family, files_of, names
from ttsbench.records import runs
from ttsbench.records.files import read_json

FORMAT_VERSION = 1
MANIFEST = "ttsbench.json"
DTYPES = ("fp32", "fp16", "bf16")
SAFETENSORS_HEADER_BYTES_MAX = 100_000_000

# Upstream loads without these: then there is no built-in voice, no Cangjie, or tokenizer.json says it all.
_OPTIONAL = (CONDITIONALS, CANGJIE, "special_tokens_map.json", "added_tokens.json")
_SPARED_BY_TOKENIZER_JSON = ("vocab.json", "merges.txt")
_SAMPLE_BYTES = 4096
_SAMPLES = 64


@dataclass(frozen=True)
class FileFacts:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Describes a synthetic checkpoint; `recipe` stands for the code that made it."""

    format_version: int
    family: str
    size: str
    dtype: str
    seed: int
    recipe: str
    files: dict[str, FileFacts]


def write_manifest(folder: Path, family: str, size: str, dtype: str, seed: int, recipe: str) -> Manifest:
    """Describes every file below the folder; written last, so that its presence means completeness."""
    files = {name: FileFacts((folder / name).stat().st_size, _sha256(folder / name)) for name in _names_below(folder)}
    manifest = Manifest(FORMAT_VERSION, family, size, dtype, seed, recipe, files)
    (folder / MANIFEST).write_text(runs.dump(runs.to_json(manifest), indent=1) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """None for a checkpoint that others made."""
    path = folder / MANIFEST
    try:
        manifest = runs.from_json(Manifest, read_json(path), str(path))
    except NoRecordError:
        return None
    except RecordError as error:
        raise CheckpointError(f"{path} cannot be read: {error}", mend="Write the checkpoint again") from None
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is of format {manifest.format_version}; this ttsbench reads {FORMAT_VERSION}",
            mend="Write the checkpoint again",
        )
    return manifest


def check(folder: Path, family: str) -> Manifest | None:
    """Refuses a folder that does not hold this family's files whole, with all that is wrong; gives its manifest."""
    if not folder.is_dir():
        reason = "is a file, not a folder" if folder.exists() else "is not there"
        raise CheckpointError(
            f"checkpoint {folder} {reason}", mend=f"Name a folder with {', '.join(files_of(family).names)}"
        )
    manifest = read_manifest(folder)
    if manifest is not None and manifest.family != family:
        raise CheckpointError(
            f"{folder} holds a checkpoint for {manifest.family}, not for {family}",
            mend=f"Set model.family to {manifest.family}, or name another folder",
        )
    missing = sorted(_missing(folder, family, manifest))
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}{_other_family(folder, family)}", mend=_mend(family))
    if faults := list(_faults(folder, family, manifest)):
        raise CheckpointError(f"{folder} is damaged: {'; '.join(faults)}", mend=_mend(family))
    return manifest


def is_whole(folder: Path, family: str) -> bool:
    try:
        return check(folder, family) is not None
    except CheckpointError:
        return False


def safetensors_header(path: Path) -> dict[str, Any]:
    """The names, dtypes and shapes a safetensors file declares; refuses one whose length does not fit them."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(SAFETENSORS_HEADER_BYTES_MAX, size - 8):
            raise ValueError("not a safetensors file, or cut off in its header")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its safetensors header is not an object")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    try:
        expected = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (KeyError, TypeError, IndexError):
        raise ValueError("its safetensors header lacks offsets") from None
    if expected != size:
        raise ValueError(f"{size:,} bytes, where its header wants {expected:,}")
    return tensors


def weights_digest(folder: Path) -> str:
    """Tells one checkpoint's content from another's, cheaply.

    With a manifest: its sha256s, which cover every byte as it was written. Without: the names and sizes of the
    files that a family reads, the safetensors headers in full, and 64 blocks of 4 KiB spread over each file, so a
    change of a few weights between the blocks goes unseen.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        entries = "".join(f"{name}\0{facts.sha256}\n" for name, facts in sorted(manifest.files.items()))
        return hashlib.sha256(entries.encode()).hexdigest()
    digest = hashlib.sha256()
    known = sorted({name for family in names(Family.speaks) for name in files_of(family).names} | {"tokenizer.json"})
    for path in (folder / name for name in known if (folder / name).is_file()):
        digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
        digest.update(_sample(path))
    return digest.hexdigest()


def _missing(folder: Path, family: str, manifest: Manifest | None) -> Iterator[str]:
    expected = (*files_of(family).names, *(manifest.files if manifest is not None else ()))
    spared = _SPARED_BY_TOKENIZER_JSON if (folder / "tokenizer.json").is_file() else ()
    for name in dict.fromkeys(expected):
        needed = manifest is not None or (name not in _OPTIONAL and name not in spared)
        if needed and not (folder / name).is_file():
            yield name


def _faults(folder: Path, family: str, manifest: Manifest | None) -> Iterator[str]:
    for name in (name for name in files_of(family).names if (folder / name).is_file()):
        try:
            _READERS.get(Path(name).suffix, _read_nothing)(folder / name)
        except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
            yield f"{name} ({error})"
    for name, facts in manifest.files.items() if manifest is not None else ():
        size = (folder / name).stat().st_size
        if size != facts.bytes:
            yield f"{name} ({size:,} bytes, where {MANIFEST} says {facts.bytes:,})"


def _other_family(folder: Path, family: str) -> str:
    if (folder / files_of(family).t3).is_file():
        return ""
    others = [other for other in names(Family.speaks) if (folder / files_of(other).t3).is_file()]
    return f"; it looks like a checkpoint for {' or '.join(others)}, not for {family}" if others else ""


def _mend(family: str) -> str:
    return f"Put {', '.join(files_of(family).names)} there, as {files_of(family).repository} has them"


def _read_nothing(path: Path) -> object:
    return path


def _read_zip(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _read_json(path: Path) -> object:
    return json.loads(path.read_text(encoding="utf-8"))


_READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": safetensors_header,
    ".pt": _read_zip,
    ".json": _read_json,
}


def _names_below(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if name != MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sample(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(8 + int.from_bytes(file.read(8), "little")) if path.suffix == ".safetensors" else b""
        blocks = []
        for index in range(_SAMPLES):
            file.seek(max(0, (size - _SAMPLE_BYTES) * index // (_SAMPLES - 1)))
            blocks.append(file.read(_SAMPLE_BYTES))
    return header + b"".join(blocks)
