"""The files that a scenario names, read with bounds; whatever is wrong with one is a `UsageError`."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ttsbench.errors import UsageError

TEXT_BYTES_MAX = 1024 * 1024
REPLAY_BYTES_MAX = 16 * 1024 * 1024
TEXT_CHARACTERS_MAX = 20_000
# T3 has learned positions for 4096 speech tokens; the rest is left to start, stop and warm-up.
TOKENS_MAX = 4_000
SPEECH_TOKEN_MAX = 6_560


def read_text(path: Path, bytes_max: int = TEXT_BYTES_MAX) -> str:
    """The UTF-8 text of a regular file of bounded size."""
    with opened(path) as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise UsageError(f"{path} is larger than {bytes_max // 1024**2} MiB, which is the most that is read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path} is not UTF-8: line {line} holds the byte 0x{content[error.start]:02x}") from None


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file for reading; a folder, a pipe or nothing at all is refused in words."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no regular file'}, not a file to read")
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)[:200]} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_utterances(path: Path) -> tuple[str, ...]:
    """One text a line; blank lines part paragraphs and are not spoken."""
    lines = enumerate(re.split(r"\r\n|\n|\r", read_text(path)), start=1)
    texts = tuple((number, line.strip()) for number, line in lines if line.strip())
    if not texts:
        raise UsageError(f"{path} is empty; it should hold one text a line")
    for number, text in texts:
        if not any(character.isalnum() for character in text):
            raise UsageError(f"{path}, line {number}: {text!r:.40} has no letter and no digit; nothing to say")
        if len(text) > TEXT_CHARACTERS_MAX:
            raise UsageError(f"{path}, line {number}: {len(text):,} characters; at most {TEXT_CHARACTERS_MAX:,}")
    return tuple(text for _, text in texts)


def read_replay(path: Path) -> tuple[tuple[int, ...], ...]:
    """The speech tokens to be forced, one list for each text."""
    try:
        lists = json.loads(read_text(path, REPLAY_BYTES_MAX))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error!s:.100}") from None
    if not isinstance(lists, list) or not lists or not all(isinstance(tokens, list) for tokens in lists):
        raise UsageError(f"{path} should hold a JSON list of lists of speech tokens, one list for each text")
    for number, tokens in enumerate(lists, start=1):
        _check_tokens(tokens, f"{path}, list {number}")
    return tuple(tuple(tokens) for tokens in lists)


def _check_tokens(tokens: list[Any], where: str) -> None:
    if not 1 <= len(tokens) <= TOKENS_MAX:
        raise UsageError(f"{where}: {len(tokens):,} tokens; 1 to {TOKENS_MAX:,} are allowed")
    for number, token in enumerate(tokens, start=1):
        if type(token) is not int or not 0 <= token <= SPEECH_TOKEN_MAX:
            shown = f"{token!r:.40}" if isinstance(token, str | int | float) else f"a {type(token).__name__}"
            raise UsageError(f"{where}, item {number}: {shown} is no speech token; they are 0 to {SPEECH_TOKEN_MAX}")


def sound_seconds(path: Path) -> float:
    """How long a recording is: WAV, FLAC, Ogg or MP3. Nothing of another file's content gets into the message."""
    import soundfile  # takes 0.1 s, and only a scenario with a recording needs it

    with opened(path) as file:
        try:
            seconds = float(soundfile.info(file).duration)
        except (soundfile.LibsndfileError, TypeError):
            raise UsageError(f"{path} is not a sound file: WAV, FLAC, Ogg and MP3 can be read") from None
    if not seconds:
        raise UsageError(f"{path} is a sound file without sound in it")
    return seconds


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; a path that no file system takes is none."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False
