from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy
import pytest
import soundfile

from ttsbench.errors import UsageError
from ttsbench.scenarios import files


def wav(data: bytes, *, claimed: int | None = None, extra: bytes = b"", bytes_per_second: int = 32_000) -> bytes:
    """A mono 16-bit 16 kHz wav, with another chunk before the data where `extra` is given."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, bytes_per_second, 2, 16)
    chunk = struct.pack("<4sI", b"data", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", 4 + len(form + extra + chunk)) + b"WAVE" + form + extra + chunk


@pytest.mark.parametrize(
    ("content", "seconds"),
    [
        (wav(bytes(32_000)), 1.0),
        (wav(bytes(16_000), extra=b"LIST\x04\0\0\0abcd"), 0.5),
        (wav(bytes(16_000), claimed=0xFFFFFFFF), 0.5),  # as written by a program that pipes
    ],
)
def test_wav_seconds(tmp_path: Path, content: bytes, seconds: float) -> None:
    path = tmp_path / "voice"
    path.write_bytes(content)
    assert files.sound_seconds(path) == seconds


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_seconds_of_other_sound(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "voice"
    soundfile.write(path, numpy.zeros(24_000, "float32"), 24_000, format=kind)
    assert files.sound_seconds(path) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a sound file"),
        (b"root:x:0:0:secret:/root:/bin/sh", "is not a sound file"),
        (b"fLaC" + bytes(50), "is not a sound file"),
        (b"RIFF", "is not a sound file"),
        (wav(bytes(100))[:30], "is not a sound file"),
        (b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 5000, "is not a sound file"),
        (wav(b""), "is a sound file without sound in it"),
    ],
)
def test_what_is_no_sound(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "v.wav"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        files.sound_seconds(path)
    assert str(caught.value).startswith(f"{path} {problem}")
    assert "secret" not in str(caught.value)


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
