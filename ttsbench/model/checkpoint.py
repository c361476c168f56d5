"""A checkpoint directory, synthetic, local or from the hub: found, checked, and loaded by upstream's own classes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import platformdirs

from ttsbench.errors import CheckpointError, first_line, suggest
from ttsbench.model import checkpoint_files as files
from ttsbench.model.checkpoint_files import weights_digest
from ttsbench.model.families import FAMILIES, SIZES, Family, files_of, names

__all__ = ["ensure", "fit_conditionals", "is_cached", "load", "locate", "weights_digest", "write"]

CACHE_VARIABLE = "TTSBENCH_CACHE"
_KEYS_NAMED = 5


def write(folder: Path, family: str, size: str = "full", dtype: str = "fp32", seed: int = 0) -> Path:
    """Writes a synthetic checkpoint, whole or not at all; a folder that already holds this very one is left alone."""
    _require(family, size, dtype, seed)
    folder = folder.expanduser().resolve()
    if _holds_already(folder, family, size, dtype, seed):
        return folder
    partial = _partial(folder)
    with _write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _claim(partial)
        try:
            from ttsbench.model import synthetic

            synthetic.fill(partial, family, size, dtype, seed)
            files.write_manifest(partial, family, size, dtype, seed, recipe(family))
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def ensure(family: str, size: str, dtype: str, seed: int) -> Path:
    """The synthetic checkpoint in the user's cache, written by the first process that asks for it."""
    _require(family, size, dtype, seed)
    folder = _cached(family, size, dtype, seed)
    root = folder.parent
    if files.is_whole(folder, family):
        return folder
    with _write_errors(folder):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{folder.name}.lock"):
            if not files.is_whole(folder, family):
                for stale in (folder, _partial(folder)):
                    if stale.exists():
                        shutil.rmtree(stale)
                write(folder, family, size, dtype, seed)
    return folder


def is_cached(family: str, size: str, dtype: str, seed: int) -> bool:
    """Whether `ensure` has nothing to write, as far as a look can tell."""
    return _cached(family, size, dtype, seed).is_dir()


def _cached(family: str, size: str, dtype: str, seed: int) -> Path:
    return cache_root() / "checkpoints" / f"{family}-{size}-{dtype}-{seed}-{recipe(family)}"


def locate(weights: str, family: str, size: str = "full", dtype: str = "fp32", seed: int = 0) -> Path:
    """The folder that `synthetic`, `hub` or a path stands for, checked before anything is loaded."""
    if weights == "synthetic":
        return ensure(family, size, dtype, seed)
    folder = _from_hub(family) if weights == "hub" else Path(weights).expanduser()
    files.check(folder, family)
    return folder


def load(folder: Path, family: str, device: str, *, draw_first: bool = False) -> Any:
    """The model as upstream's from_local makes it, in the dtype the checkpoint is stored in; nothing is fetched.

    `draw_first` lets the constructors draw random weights first, as they do for any user of the package. All of them
    are overwritten; at full size leaving that out takes a load from 30 s to 7 s on two cores.
    """
    manifest = files.check(folder, family)
    from transformers.initialization import no_init_weights

    from ttsbench.model import architecture

    size = manifest.size if manifest else "full"
    drawing = nullcontext() if draw_first else no_init_weights()
    with architecture.registered(family, size), _nothing_fetched(folder), drawing:
        model = _from_local(architecture.upstream_class(family), folder, device)
    _refuse_unset_weights(model, folder, family)
    _restore_dtypes(model, *_stored_dtypes(folder, family, manifest))
    return model


def fit_conditionals(model: Any) -> None:
    """Casts the floating fields of the voice to T3's dtype. Token ids stay ids, and S3Gen's part stays fp32."""
    if model.conds is not None:
        model.conds.t3.to(dtype=model.t3.speech_head.weight.dtype)


def cache_root() -> Path:
    """Where ttsbench keeps what it can make again; the environment variable TTSBENCH_CACHE overrides it."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("ttsbench"))


def recipe(family: str) -> str:
    """Stands for all that decides a synthetic checkpoint's bytes."""
    digest = hashlib.sha256(f"format {files.FORMAT_VERSION}\n{FAMILIES[family]}\n".encode())
    for package in ("torch", "transformers", "s3tokenizer"):
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    sources = [Path(__file__).with_name(f"{name}.py") for name in ("architecture", "synthetic", "tokenizer_files")]
    for path in (*_sources_of("chatterbox"), *sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _sources_of(package: str) -> list[Path]:
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return sorted(path for folder in folders or () for path in Path(folder).rglob("*.py"))


def _require(family: str, size: str, dtype: str, seed: int) -> None:
    allowed: Sequence[tuple[str, str, Sequence[str]]] = (
        ("family", family, names(Family.speaks)),
        ("size", size, SIZES),
        ("dtype", dtype, files.DTYPES),
    )
    for key, value, choices in allowed:
        if value not in choices:
            raise CheckpointError(f"no checkpoint has the {key} '{value}': {suggest(value, choices)}")
    if not 0 <= seed < 2**63:
        raise CheckpointError(f"a checkpoint's seed is a number from 0 to 2^63 - 1, not {seed}")


def _holds_already(folder: Path, family: str, size: str, dtype: str, seed: int) -> bool:
    """Whether nothing is left to write. Anything else in a folder is never overwritten: it could be real weights."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from None
    if folder.is_dir() and files.is_whole(folder, family):
        manifest = files.read_manifest(folder)
        same = (family, size, dtype, seed, recipe(family))
        if manifest and (manifest.family, manifest.size, manifest.dtype, manifest.seed, manifest.recipe) == same:
            return True
    reason = "is not empty" if folder.is_dir() else "is a file"
    raise CheckpointError(f"{folder} {reason}, and is not overwritten", mend="Name a new folder, or remove this one")


def _partial(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def _claim(partial: Path) -> None:
    try:
        partial.mkdir()
    except FileExistsError:
        raise CheckpointError(
            f"{partial} is in the way: another process is writing it, or was killed as it did",
            mend="Wait for it, or remove that folder",
        ) from None


@contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """A full disk, or a folder that may not be written, as CheckpointError."""
    try:
        yield
    except OSError as error:
        mend = _WAYS_OUT.get(error.errno or 0, "")
        raise CheckpointError(f"{folder} cannot be written: {error.strerror or error}", mend=mend) from None


_OTHER_FOLDER = f"Name a folder that you may write; for the cache, set {CACHE_VARIABLE}"
_WAYS_OUT = {
    errno.ENOSPC: f"Free some space there, or name a folder on another disk; for the cache, set {CACHE_VARIABLE}",
    errno.EACCES: _OTHER_FOLDER,
    errno.EPERM: _OTHER_FOLDER,
    errno.EROFS: _OTHER_FOLDER,
}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with its holder, however that ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _from_hub(family: str) -> Path:
    """The hub's files: from its cache when they are all there, so that every process of a run has the same."""
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, patterns = files_of(family).repository, list(files_of(family).names)
    try:
        folder = Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=True))
        files.check(folder, family)
        return folder
    except (LocalEntryNotFoundError, CheckpointError):
        pass
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HTTPError, OSError) as error:
        raise CheckpointError(
            f"{repository} is not in the hub's cache, and cannot be fetched: {first_line(error)}",
            mend=f"Where there is a network: hf download {repository} {' '.join(patterns)}",
        ) from None


@contextmanager
def _nothing_fetched(folder: Path) -> Iterator[None]:
    """Upstream's tokenizers ask the hub even for a local folder; here they get that folder's files or none."""
    from chatterbox.models.tokenizers import tokenizer
    from huggingface_hub import constants

    from ttsbench.instruments.swapping import swapped

    def find(*, filename: str, **_: Any) -> str:
        return str(folder / filename)

    with swapped(constants, "HF_HUB_OFFLINE", True), swapped(tokenizer, "hf_hub_download", find):
        yield


def _from_local(kind: Any, folder: Path, device: str) -> Any:
    from pickle import UnpicklingError

    from safetensors import SafetensorError

    try:
        with redirect_stdout(sys.stderr):
            return kind.from_local(folder, device)
    except (UnpicklingError, SafetensorError, AssertionError, KeyError, TypeError, ValueError, EOFError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {type(error).__name__}: {_first_lines(error)}") from error
    except RuntimeError as error:
        # Only what speaks of the file: the device's own errors, out of memory above all, are not the checkpoint's.
        if not str(error).startswith(("Error(s) in loading state_dict", "PytorchStreamReader", "Invalid magic number")):
            raise
        raise CheckpointError(f"{folder} does not fit upstream's {kind.__name__}: {_first_lines(error)}") from error


def _first_lines(error: Exception) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    shown = [line if len(line) <= 300 else f"{line[:300]} …" for line in lines[:_KEYS_NAMED]]
    rest = len(lines) - len(shown)
    return "; ".join(shown) + (f"; and {rest} more" if rest else "")


def _refuse_unset_weights(model: Any, folder: Path, family: str) -> None:
    """Upstream loads Chatterbox's S3Gen leniently: a key that the file lacks would stay random without a word."""
    path = folder / files_of(family).s3gen
    if path.suffix != ".safetensors":
        return
    stored = files.safetensors_header(path)
    unset = sorted(set(model.s3gen.state_dict()) - set(stored) - set(model.s3gen.ignore_state_dict_missing))
    if unset:
        named = ", ".join(unset[:_KEYS_NAMED])
        rest = f" and {len(unset) - _KEYS_NAMED} more" if len(unset) > _KEYS_NAMED else ""
        raise CheckpointError(f"{path} lacks {named}{rest}")


def _restore_dtypes(model: Any, t3: Any, estimator: Any) -> None:
    """Upstream copies every checkpoint into fp32 modules.

    Of S3Gen only the estimator goes back: its forward casts the reference, token ids included, to the dtype of the
    rest, which would garble 46 % of the ids in fp16 and 87 % in bf16. Buffers stay: a rotary frequency in half
    precision would shift every position.
    """
    for module, dtype in ((model.t3, t3), (model.s3gen.flow.decoder.estimator, estimator)):
        for parameter in module.parameters():
            parameter.data = parameter.data.to(dtype)
    fit_conditionals(model)


def _stored_dtypes(folder: Path, family: str, manifest: files.Manifest | None) -> tuple[Any, Any]:
    """T3's and the estimator's: as the manifest says, since asking a .pt file takes 0.4 s, else as the files say."""
    from ttsbench.model.synthetic import TORCH_DTYPES

    if manifest is not None:
        return TORCH_DTYPES[manifest.dtype], TORCH_DTYPES[manifest.dtype]
    t3, s3gen = folder / files_of(family).t3, folder / files_of(family).s3gen
    return (
        _stored_dtype(t3, "speech_head.weight"),
        _stored_dtype(s3gen, "flow.decoder.estimator.final_proj.weight"),
    )


def _stored_dtype(path: Path, name: str) -> Any:
    import torch

    if path.suffix == ".safetensors":
        code = files.safetensors_header(path)[name]["dtype"]
        return {"F16": torch.float16, "BF16": torch.bfloat16}.get(code, torch.float32)
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)[name].dtype
