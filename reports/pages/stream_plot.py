"""One utterance of a stream over time: T3's tokens, S3Gen's work on each chunk, playback and where it ran dry."""

from __future__ import annotations

from itertools import islice

from ttsbench.records.measurements import Chunk, Streamed, Utterance
from ttsbench.records.runs import Run
from ttsbench.reports import continuity
from ttsbench.reports.continuity import Playback
from ttsbench.reports.pages import svg
from ttsbench.reports.pages.svg import Frame, Plot

# Each takes up to 100 kB.
PLOTS_MAX = 100
LANES = ("tokens", "S3Gen", "playback")
LANE, GAP = 22.0, 10.0
FRAME = Frame(80, svg.WIDTH - 14, 26, 26 + len(LANES) * (LANE + GAP))


def plots(run: Run) -> list[Plot]:
    """The first timed utterance of each text, of every stack at every point."""
    firsts = {
        f"streams/{number}.{utterance.text_index}.svg": (f"{cell.key}, text {utterance.text_index}", utterance)
        for number, cell in enumerate(cell for cell in run.cells if cell.ok and cell.process == 0)
        for utterance in cell.utterances
        if utterance.repeat == 0 and utterance.stream is not None
    }
    drawn = (
        Plot(file, "A stream over time", timeline(utterance, title), title)
        for file, (title, utterance) in islice(firsts.items(), PLOTS_MAX)
    )
    return [plot for plot in drawn if plot.svg]


def timeline(utterance: Utterance, title: str) -> str:
    """Empty without a stream."""
    stream, playback = utterance.stream, continuity.played(utterance)
    if stream is None or playback is None:
        return ""
    ends = max(playback.ends, utterance.wall_seconds)
    scale = svg.linear((0, ends), (FRAME.left, FRAME.right))
    values = svg.ticks((0, ends), 9)
    shapes = [
        FRAME.bottom_axis(scale, values, "s after the call", svg.tick_text(values)),
        *(svg.text(0, _top(lane) + LANE * 0.7, lane, class_="name") for lane in LANES),
        *_tokens(stream, scale),
        *(_bar("S3Gen", c.began_seconds, c.arrived_seconds, scale, _chunk_hint(c)) for c in stream.chunks),
        *_playback(stream, playback, scale),
        _moment("first playable", utterance.first_playable_seconds, scale),
        _moment("all made", utterance.wall_seconds, scale),
    ]  # fmt: skip
    return svg.drawing(FRAME.bottom + 46, title, *shapes)


def _chunk_hint(chunk: Chunk) -> str:
    frames = f"{chunk.flow_frames} frames in the flow, {chunk.vocoder_frames} in the vocoder"
    return f"{chunk.tokens} tokens, {frames}, held at {chunk.arrived_seconds * 1e3:.0f} ms"


def _tokens(stream: Streamed, scale: svg.Scale) -> list[str]:
    """The time of decoding, with a mark where T3 handed tokens over."""
    hint = f"T3 decodes until {stream.decode_ended_seconds * 1e3:.0f} ms"
    marks = [_tick("tokens", seconds, scale) for seconds in stream.token_seconds]
    return [_bar("tokens", stream.decode_began_seconds, stream.decode_ended_seconds, scale, hint), *marks]


def _playback(stream: Streamed, playback: Playback, scale: svg.Scale) -> list[str]:
    underruns = [
        _bar("playback", u.began, u.began + u.seconds, scale, f"underrun of {u.seconds * 1e3:.0f} ms", "underrun")
        for u in playback.underruns
    ]
    arrivals = [_tick("playback", chunk.arrived_seconds, scale) for chunk in stream.chunks]
    return [_bar("playback", playback.begins, playback.ends, scale, "playback"), *underruns, *arrivals]


def _top(lane: str) -> float:
    return FRAME.top + GAP / 2 + LANES.index(lane) * (LANE + GAP)


def _bar(lane: str, start: float, end: float, scale: svg.Scale, hint: str, kind: str = "") -> str:
    class_ = f"lane-{(kind or lane).lower()}"
    return svg.rect(scale(start), _top(lane), scale(end) - scale(start), LANE, hint=hint, class_=class_)


def _tick(lane: str, seconds: float, scale: svg.Scale) -> str:
    return svg.line(scale(seconds), _top(lane), scale(seconds), _top(lane) + LANE, class_="arrival")


def _moment(name: str, seconds: float, scale: svg.Scale) -> str:
    hint = f"{name}: {seconds * 1e3:.0f} ms"
    return svg.line(scale(seconds), FRAME.top - 8, scale(seconds), FRAME.bottom + 4, hint=hint, class_="moment")
