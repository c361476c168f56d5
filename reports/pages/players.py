"""The kept waves of a run, to be heard on its page: within it as long as they fit, beside it otherwise."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ttsbench.records.measurements import Audio
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.tables.run_tables import point_name

# As data in the page. The rest is linked, and is heard only where audio/ lies beside the page.
EMBEDDED_BYTES_MAX = 5_000_000
FOLDER = "audio"
PLAYERS_MAX = 200


@dataclass(frozen=True)
class AudioPlayer:
    """One wave: what it is and where it comes from."""

    stack: str
    text: str
    source: str
    embedded: bool
    properties: str


def players(run: Run, folder: Path, page_folder: Path) -> list[AudioPlayer]:
    """A player per stack, point and text: the first text of all stacks comes first into the page."""
    by_text = sorted(_kept(run), key=lambda kept: kept[1].text_index)
    room, players = EMBEDDED_BYTES_MAX, {}
    for cell, audio in by_text[:PLAYERS_MAX]:
        file = _safe(folder, audio)
        if file is None:
            continue
        size = -(-file.stat().st_size // 3) * 4
        embedded = size <= room
        room -= size if embedded else 0
        source = _embedded(file) if embedded else _linked(file, page_folder)
        players[cell.job_id, audio.text_index] = AudioPlayer(
            _label(cell), _text(run, audio), source, embedded, _properties(audio)
        )
    return [players[key] for cell, audio in _kept(run) if (key := (cell.job_id, audio.text_index)) in players]


def _kept(run: Run) -> Iterator[tuple[Cell, Audio]]:
    """Of each cell's first process that kept any."""
    seen = set()
    for cell in run.cells:
        if cell.audio and cell.key not in seen:
            seen.add(cell.key)
            yield from ((cell, audio) for audio in cell.audio)


def _safe(folder: Path, audio: Audio) -> Path | None:
    """The file, if it is one of those that a run keeps: a record must not put other files into a page."""
    file = folder / FOLDER / Path(audio.path).name
    if audio.path != f"{FOLDER}/{file.name}" or file.suffix != ".wav":
        return None
    try:
        regular = stat.S_ISREG(file.lstat().st_mode) and not (folder / FOLDER).is_symlink()
        with file.open("rb") as wave:
            return file if regular and wave.read(4) == b"RIFF" else None
    except (OSError, ValueError):
        return None


def _embedded(file: Path) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(file.read_bytes()).decode()}"


def _linked(file: Path, page_folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(file, page_folder)))


def _label(cell: Cell) -> str:
    point = point_name(cell.point)
    return f"{cell.stack} ({point})" if point else cell.stack


def _text(run: Run, audio: Audio) -> str:
    workload = run.scenario_understood.get("workload")
    texts = workload.get("texts") if isinstance(workload, dict) else None
    if isinstance(texts, list) and 0 <= audio.text_index < len(texts):
        return str(texts[audio.text_index])
    return f"text {audio.text_index + 1}"


def _properties(audio: Audio) -> str:
    words = [f"{audio.seconds:.2f} s", f"peak {audio.peak:.2f}", f"silent {audio.silent_share:.0%}"]
    words += [f"clipped {audio.clipped_share:.1%}"] if audio.clipped_share > 0 else []
    return ", ".join([*words, *([] if audio.finite else ["values that are no numbers"])])
