from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from ttsbench.errors import UsageError
from ttsbench.scenarios import files


def wav(data: bytes, *, claimed: int | None = None, extra: bytes = b"", bytes_per_second: int = 32_000) -> bytes:
    """A mono 16-bit 16 kHz wav, with another chunk before the data where `extra` is given."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, bytes_per_second, 2, 16)
    held = struct.pack("<4sI", b"data", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", 4 + len(form + extra + held)) + b"WAVE" + form + extra + held


@pytest.mark.parametrize(
    ("held", "seconds"),
    [
        (wav(bytes(32_000)), 1.0),
        (wav(bytes(16_000), extra=b"LIST\x03\0\0\0abc\0"), 0.5),
        (wav(bytes(16_000), claimed=0xFFFFFFFF), 0.5),  # as written by a program that pipes
        (b"fLaC" + bytes(50), None),
        (b"OggS" + bytes(50), None),
        (b"ID3" + bytes(50), None),
    ],
)
def test_sounds(tmp_path: Path, held: bytes, seconds: float | None) -> None:
    path = tmp_path / "voice"
    path.write_bytes(held)
    assert files.sound_seconds(path) == seconds


@pytest.mark.parametrize(
    ("name", "held", "told"),
    [
        ("v.wav", b"", "is empty"),
        ("v.wav", b"fLaC" + bytes(50), "is not a WAV file: it begins with b'fLaC"),
        ("v.mp3", b"hello hello hello", "is not a WAV file, nor FLAC, MP3, Ogg: it begins with b'hello hello "),
        ("v.wav", b"RIFF", "is not a WAV file"),
        ("v.wav", wav(b""), "is a WAV file without sound in it"),
        ("v.wav", wav(bytes(100))[:44], "is a WAV file without sound in it"),
        ("v.wav", wav(bytes(100))[:30], "is a WAV file without sound in it"),
        ("v.wav", wav(bytes(100), bytes_per_second=0), "is a WAV file without sound in it"),
        ("v.wav", b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, "is a WAV file without sound in it"),
    ],
)
def test_what_is_no_sound(tmp_path: Path, name: str, held: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(held)
    with pytest.raises(UsageError) as caught:
        files.sound_seconds(path)
    assert str(caught.value).startswith(f"{path} {told}")


def test_texts_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("Short.\n" + "a" * (files.TEXT_CHARACTERS_MAX + 1))
    with pytest.raises(UsageError, match=r"line 2: 20,001 characters; at most 20,000"):
        files.read_utterances(path)


def test_replay_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_text(f"[[1], {[1] * (files.TOKENS_MAX + 1)}]")
    with pytest.raises(UsageError, match=r"list 2: 4,001 tokens; 1 to 4,000 are allowed"):
        files.read_replay(path)


@pytest.mark.parametrize(
    "held", ["[" * 100_000, "[[" + "9" * 10_000 + "]]", "[[true]]", "[[null]]", '[["1"]]', "[[-1]]", "{}"]
)
def test_replay_that_is_none(tmp_path: Path, held: str) -> None:
    path = tmp_path / "r"
    path.write_text(held)
    with pytest.raises(UsageError, match=str(path)):
        files.read_replay(path)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="is no regular file"):
        files.read_text(pipe)
    with pytest.raises(UsageError, match="is a folder"):
        files.read_text(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        files.read_text(tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="cannot be read: File name too long"):
        files.read_text(tmp_path / ("x" * 5000))
    assert not files.is_folder(tmp_path / ("x" * 5000))
    assert not files.is_folder(Path("\0"))
    assert files.is_folder(tmp_path)
