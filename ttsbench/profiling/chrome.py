"""The Chrome trace as a file: gzip'd, no larger than allowed, whole or not there."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ttsbench.records import files

BYTES_MAX = 50_000_000
# Cut a little shorter than the size asks for: compression differs along the trace.
CAUTION = 0.9
LEVEL = 6


def write(chrome: Mapping[str, Any], path: Path, bytes_max: int = BYTES_MAX) -> str:
    """Writes it; returns what there is to note. Raises `OSError` and leaves nothing where there is no room."""
    events = chrome.get("traceEvents", [])
    kept, note = events, ""
    while True:
        packed = _packed({**chrome, "traceName": path.name, "traceEvents": kept})
        if len(packed) <= bytes_max or not kept:
            break
        kept = cut(kept, CAUTION * bytes_max / len(packed))
        note = (
            f"{path.name} was cut to {bytes_max / 1e6:g} MB: it ends early, with {len(kept)} of {len(events)} events; "
            "the tables count all"
        )
    files.write_below(path.parent, path.name, packed)
    return note


def cut(events: Sequence[Mapping[str, Any]], share: float) -> list[Mapping[str, Any]]:
    """The first part of the time, with about this share of the events; what runs across the end is shortened."""
    starts = sorted(event["ts"] for event in events if event.get("ph") == "X")
    if not starts:
        return []
    end = starts[min(int(len(starts) * share), len(starts) - 1)]
    timeless = (event for event in events if event.get("ph") == "M")
    timed = (event for event in events if event.get("ph") != "M" and event.get("ts", end) < end)
    return [*timeless, *(_ended(event, end) for event in timed)]


def _ended(event: Mapping[str, Any], end: float) -> Mapping[str, Any]:
    return {**event, "dur": end - event["ts"]} if event["ts"] + event.get("dur", 0.0) > end else event


def _packed(chrome: Mapping[str, Any]) -> bytes:
    return gzip.compress(json.dumps(chrome, separators=(",", ":")).encode(), LEVEL)
