"""One utterance of a stream as a drawing: tokens, chunks, playback."""

from __future__ import annotations

import html

from ttsbench.records.measurements import Chunk, Streamed, Utterance
from ttsbench.records.runs import Run
from ttsbench.reports import continuity
from ttsbench.reports.continuity import Playback, Underrun

WIDTH, LEFT, LANE, GAP = 760, 70, 22, 10
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
AXIS_MARKS = 6
LANES = ("tokens", "S3Gen", "playback")
COLOURS = {"tokens": "#4c78a8", "S3Gen": "#f58518", "arrived": "#333333", "playback": "#54a24b", "underrun": "#e45756"}


def drawings(run: Run) -> dict[str, str]:
    """By file name below the run's folder: the first timed utterance of each text, of every stack at every point."""
    found = {}
    for number, cell in enumerate(c for c in run.cells if c.ok and c.process == 0):
        for utterance in cell.utterances:
            title = f"{cell.key}, text {utterance.text_index}"
            if utterance.repeat == 0 and (drawn := timeline_svg(utterance, title)):
                found[f"streams/{number}.{utterance.text_index}.svg"] = drawn
    return found


def timeline_svg(utterance: Utterance, title: str) -> str:
    """One utterance over time: tokens as they were drawn, S3Gen's work on each chunk, playback and its silences.

    A whole SVG element without scripts, styles or links, so that a page may hold it as it is. Empty without a stream.
    """
    stream, playback = utterance.stream, continuity.played(utterance)
    if stream is None or playback is None:
        return ""
    scale = (WIDTH - LEFT - GAP) / max(playback.ends, utterance.wall_seconds)
    height = LANE * (len(LANES) + 2) + GAP * (len(LANES) + 1)
    shapes = [
        *_token_shapes(stream, scale),
        *(_bar("S3Gen", c.began_seconds, c.arrived_seconds, scale, _chunk_told(c)) for c in stream.chunks),
        *_playback_shapes(stream, playback, scale),
        *(_moment(seconds, scale, name) for name, seconds in _moments(utterance)),
        *_axis(max(playback.ends, utterance.wall_seconds), scale),
    ]
    labels = [_text(0, _top(lane) + LANE * 0.7, lane) for lane in LANES]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{html.escape(title)}</title>'
        + _text(LEFT, LANE * 0.6, title)
        + "".join([*labels, *shapes])
        + "</svg>"
    )


def _chunk_told(chunk: Chunk) -> str:
    frames = f"{chunk.flow_frames} frames in the flow, {chunk.vocoder_frames} in the vocoder"
    return f"{chunk.tokens} tokens, {frames}, held at {chunk.arrived_seconds * 1e3:.0f} ms"


def _token_shapes(stream: Streamed, scale: float) -> list[str]:
    """The time of decoding, with a mark where T3 handed tokens over."""
    told = f"T3 decodes until {stream.decode_ended_seconds * 1e3:.0f} ms"
    marks = [_line(seconds, "tokens", scale, COLOURS["arrived"], 0.5) for seconds in stream.token_seconds]
    return [_bar("tokens", stream.decode_began_seconds, stream.decode_ended_seconds, scale, told), *marks]


def _playback_shapes(stream: Streamed, playback: Playback, scale: float) -> list[str]:
    underruns = [
        _bar("playback", s.began, s.began + s.seconds, scale, _underrun_text(s), "underrun") for s in playback.underruns
    ]
    arrivals = [_line(chunk.arrived_seconds, "playback", scale, COLOURS["arrived"], 1.0) for chunk in stream.chunks]
    return [_bar("playback", playback.begins, playback.ends, scale, "playback"), *underruns, *arrivals]


def _underrun_text(underrun: Underrun) -> str:
    return f"silence of {underrun.seconds * 1e3:.0f} ms"


def _moments(utterance: Utterance) -> list[tuple[str, float]]:
    return [("first playable", utterance.first_playable_seconds), ("all made", utterance.wall_seconds)]


def _top(lane: str) -> float:
    return LANE + GAP + LANES.index(lane) * (LANE + GAP)


def _x(seconds: float, scale: float) -> float:
    return LEFT + seconds * scale


def _bar(lane: str, start: float, end: float, scale: float, told: str, colour: str = "") -> str:
    return (
        f'<rect x="{_x(start, scale):.1f}" y="{_top(lane):.1f}" width="{max(0.5, (end - start) * scale):.1f}" '
        f'height="{LANE}" fill="{COLOURS[colour or lane]}" stroke="#ffffff" stroke-width="0.5">'
        f"<title>{html.escape(told)}</title></rect>"
    )


def _line(seconds: float, lane: str, scale: float, colour: str, width: float) -> str:
    x, top = _x(seconds, scale), _top(lane)
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{top + LANE:.1f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def _moment(seconds: float, scale: float, told: str) -> str:
    x, end = _x(seconds, scale), _top(LANES[-1]) + LANE + GAP
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_top(LANES[0]):.1f}" y2="{end:.1f}" stroke="#888888" '
        f'stroke-dasharray="3 2"><title>{told}: {seconds * 1e3:.0f} ms</title></line>'
    )


def _axis(seconds: float, scale: float) -> list[str]:
    """Six marks or fewer, at round numbers."""
    step = next((s for s in STEPS if seconds / s <= AXIS_MARKS), seconds)
    y = _top(LANES[-1]) + LANE + GAP + LANE * 0.6
    return [_text(_x(mark * step, scale), y, f"{mark * step:g} s") for mark in range(int(seconds / step) + 1)]


def _text(x: float, y: float, told: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{html.escape(told)}</text>'
