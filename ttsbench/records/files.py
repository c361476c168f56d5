"""Files that are written and read back: whole writes, bounded reads, and no link followed within a folder of ours.

A path that the user typed is written through: a link, a pipe or a terminal stays what it is. Names that we choose below
a folder are another matter: whoever made the folder may have put a link to any file of this machine there.
"""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

from ttsbench.errors import NoRecordError, RecordError, UsageError

# An utterance takes 1 to 2 kB. What is larger is refused unread: parsed, it would take ten times as much memory.
RECORD_BYTES_MAX = 64 * 1024 * 1024
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a disk",
    stat.S_IFSOCK: "a socket",
}
WRITTEN_THROUGH = (stat.S_IFIFO, stat.S_IFCHR)


def write(path: Path, content: str | bytes) -> Path:
    """A file that the user named: links are followed, pipes and devices written to, a file replaced whole or not."""
    kind = stat.S_IFMT(path.stat().st_mode) if path.exists() else stat.S_IFREG
    if kind in WRITTEN_THROUGH:
        path.write_bytes(_as_bytes(content))
    elif kind == stat.S_IFREG:
        _replace(path.resolve(), [_as_bytes(content)])
    else:
        raise UsageError(f"{path} is {KINDS[kind]}, not a file to write", mend="Name another file")
    return path


def write_below(folder: Path, name: str, content: str | bytes | Iterable[bytes]) -> Path:
    """A file that we named, below a folder: replaced whole or not at all."""
    parts = [_as_bytes(content)] if isinstance(content, str | bytes) else content
    return _replace(place_below(folder, name), parts)


def open_below(folder: Path, name: str, flags: int) -> int:
    """The descriptor of such a file."""
    return os.open(place_below(folder, name), flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def place_below(folder: Path, name: str) -> Path:
    """Where it lies, its folders made; refused where anything but a file is in its place, or a link on the way."""
    path = folder_below(folder, str(PurePath(name).parent)) / PurePath(name).name
    with suppress(FileNotFoundError):
        _refuse_other_than(stat.S_IFREG, path)
    return path


def folder_below(folder: Path, name: str) -> Path:
    """The folder of that name, made where it is not there; the folder above all has to be."""
    for part in PurePath(name).parts:
        folder /= part
        with suppress(FileExistsError):
            folder.mkdir()
        _refuse_other_than(stat.S_IFDIR, folder)
    return folder


def _refuse_other_than(kind: int, path: Path) -> None:
    if (there := stat.S_IFMT(path.lstat().st_mode)) != kind:
        held = KINDS.get(there, "a file")
        raise UsageError(f"{path} is {held}, and nothing is written there", mend="Remove it, or name another folder")


def _as_bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _replace(path: Path, parts: Iterable[bytes]) -> Path:
    """A reader sees the old file or the new one, never half of one; a full disk leaves the old one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)  # still there only if it did not get that far
    return path


def json_line(record: Any) -> bytes:
    """Plain data, or records within it, as compact JSON: NaN and infinities become null."""
    from pydantic_core import to_json  # ten times as fast as json over `asdict`

    return to_json(record, inf_nan_mode="null")


def read_bytes(path: Path) -> bytes:
    """The whole of a file that we wrote: refused unread where it is too large, or is a device or a pipe."""
    if (size := _file_size(path)) > RECORD_BYTES_MAX:
        raise RecordError(f"{path} has {size / 1e6:.0f} MB; a record has at most {RECORD_BYTES_MAX / 1e6:.0f} MB")
    return path.read_bytes()


def lines(path: Path) -> Iterator[bytes]:
    """Each whole line of a file that we wrote, however long the file is; what a kill left of the last is left out."""
    _file_size(path)
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(RECORD_BYTES_MAX + 1)
            if line.endswith(b"\n"):
                yield line
            elif len(line) <= RECORD_BYTES_MAX:
                return
            else:
                raise RecordError(f"{path}:{number} is longer than the {RECORD_BYTES_MAX / 1e6:.0f} MB of a record")


def _file_size(path: Path) -> int:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise RecordError(f"{path} is no file of ours but {KINDS[stat.S_IFMT(state.st_mode)]}")
    return state.st_size


def read_json(path: Path, name: str = "", *, mend: str = "") -> dict[str, Any]:
    """The JSON object of a file that we wrote, or of the file of that name in a folder."""
    file = locate(path, name, mend=mend)
    with errors_of(file):
        return parse_json(read_bytes(file), str(file), mend=mend)


def locate(path: Path, name: str, *, mend: str = "") -> Path:
    """The file that a user means by its own path or by that of its folder."""
    with errors_of(path):
        file = path / name if path.is_dir() else path
        if not file.exists():
            raise NoRecordError(f"{path} holds no {name}" if path.is_dir() else f"there is no {path}", mend=mend)
        return file


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """What keeps a record from being read, in words."""
    try:
        yield
    except OSError as error:
        raise RecordError(f"{str(path)[:200]} cannot be read: {error.strerror}") from None


def parse_json(content: bytes, where: str, *, mend: str = "") -> dict[str, Any]:
    """The object that such JSON holds; whatever else it is is refused in words."""
    from pydantic_core import from_json  # three times as fast as json, which is most of reading a record

    try:
        data = from_json(content, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:  # a number may have too many digits to be read
        raise RecordError(f"{where} is not JSON: {error!s:.100}", mend=mend) from None
    if not isinstance(data, dict):
        raise RecordError(f"{where} is no record but a {type(data).__name__}", mend=mend)
    return data
