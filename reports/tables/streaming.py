"""Streams as tables: what a listener heard, what it took, and what seams do to the sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ttsbench.records.measurements import Seams, Streamed, Utterance
from ttsbench.records.runs import Run
from ttsbench.reports import continuity, metrics
from ttsbench.reports.continuity import Playback
from ttsbench.reports.decide import statistics
from ttsbench.reports.metrics import Metric, OverUtterances
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult, Table

Of = Callable[[Streamed], float | None]


def _of_stream(of: Of) -> Callable[[Utterance], float | None]:
    return lambda utterance: None if utterance.stream is None else of(utterance.stream)


def _of_playback(of: Callable[[Playback], float]) -> Callable[[Utterance], float | None]:
    def figure(utterance: Utterance) -> float | None:
        found = continuity.played(utterance)
        return None if found is None else of(found)

    return figure


LISTENER = (
    Metric("first_sample_seconds", "first sample ms", OverUtterances(lambda u: u.first_sample_seconds), 1e3, 0),
    Metric("first_playable_seconds", "playable ms", OverUtterances(lambda u: u.first_playable_seconds), 1e3, 0),
    Metric("first_audible_seconds", "audible ms", OverUtterances(lambda u: u.first_audible_seconds), 1e3, 0),
    Metric("underrun_seconds", "underrun ms", OverUtterances(_of_playback(lambda p: p.underrun_seconds)), 1e3, 0),
    Metric("prebuffer_seconds", "pre-buffer ms", OverUtterances(_of_playback(lambda p: p.prebuffer_seconds)), 1e3, 0),
    Metric("late_chunks", "late chunks", OverUtterances(_of_playback(lambda p: p.late_chunks)), 1.0, 0),
    replace(metrics.RTF, label="RTF"),
)
ENGINE = (
    metrics.VOCODER_CALLS,
    Metric("flow_frames", "flow frames/s", OverUtterances(lambda u: continuity.flow_frames_per_second(u.stream)), 1, 0),
    Metric(
        "vocoder_frames",
        "vocoder frames/s",
        OverUtterances(lambda u: continuity.vocoder_frames_per_second(u.stream)),
        1,
        0,
    ),
    Metric("overlap", "overlap %", OverUtterances(lambda u: continuity.overlap_share(u.stream)), 100, 0),
    Metric("voice_seconds", "voice ms", OverUtterances(_of_stream(lambda s: s.voice_seconds)), 1e3, 1),
)
LISTENER_NOTES = (
    "underrun: silence while the next chunk was not there, playback beginning when 80 ms were",
    "pre-buffer: how much later playback would have to begin for no chunk to be late",
    "RTF: until the last chunk was held, what the listener did itself left out",
)
ENGINE_NOTES = (
    "calls: of S3Gen, flow and vocoder; frames: worked through for each second of audio, of which 50 are heard",
    "overlap: of the time that S3Gen worked, the share in which T3 decoded on",
)

SEAMS_NOTES = (
    "distance of log mels from the same tokens, voice and noise made at once, unmarked; the worst of several texts",
    "beside: in the two chunks that meet at a seam; elsewhere: in all of the utterance but its seams",
)


def listener(run: Run) -> list[Table]:
    """What was heard, and when."""
    return [
        Table(
            run_tables.titled("Streams, as heard", stacks),
            ("stack", *(m.label for m in LISTENER)),
            tuple((stack.marked, *(stack.text(m) for m in LISTENER)) for stack in stacks if _has_streams(stack)),
            (*LISTENER_NOTES, *_fakes(stacks)),
        )
        for stacks in _with_streams(run)
    ]


def engine(run: Run) -> list[Table]:
    """What it took."""
    return [
        Table(
            run_tables.titled("Streams, the work", stacks),
            ("stack", *(m.label for m in ENGINE)),
            tuple((stack.marked, *(stack.text(m) for m in ENGINE)) for stack in stacks if _has_streams(stack)),
            ENGINE_NOTES,
        )
        for stacks in _with_streams(run)
    ]


def seams(run: Run) -> list[Table]:
    """How much seams stand out; of several texts the worst."""
    return [
        Table(
            run_tables.titled("Seams", stacks),
            ("stack", "seams", "at seams", "beside", "ratio", "elsewhere", "wave SNR dB"),
            tuple(_seams_row(stack) for stack in stacks if _judged(stack)),
            SEAMS_NOTES,
        )
        for stacks in run_tables.results(run)
        if any(_judged(stack) for stack in stacks)
    ]


def voices(run: Run) -> list[Table]:
    """What a voice takes, apart from any utterance."""
    return [
        Table(
            run_tables.titled("Voice", stacks),
            ("stack", "reference s", "prepared ms", "from the cache ms", "clipped"),
            tuple(row for stack in stacks for row in _voice_rows(stack)),
            ("warm; the cache knows a voice by its content",),
        )
        for stacks in run_tables.results(run)
        if any(_voice_rows(stack) for stack in stacks)
    ]


def warnings(run: Run) -> list[str]:
    """Stacks that claim to stream and do not."""
    return [note for stacks in _with_streams(run) for note in _fakes(stacks)]


def _with_streams(run: Run) -> list[list[StackResult]]:
    return [stacks for stacks in run_tables.results(run) if any(_has_streams(stack) for stack in stacks)]


def _has_streams(stack: StackResult) -> bool:
    return any(utterance.stream is not None for cell in stack.timed for utterance in cell.utterances)


def _fakes(stacks: Sequence[StackResult]) -> tuple[str, ...]:
    return tuple(
        f"{stack.label} claims to stream, and its first sound comes when nearly all is made: it is no stream"
        for stack in stacks
        if _never_early([u for cell in stack.timed if cell.streams for u in cell.utterances])
    )


def _never_early(utterances: Sequence[Utterance]) -> bool:
    return bool(utterances) and all(continuity.waits_for_the_whole(utterance) for utterance in utterances)


def _judged(stack: StackResult) -> list[Seams]:
    return [text for cell in stack.timed for text in cell.seams]


def _seams_row(stack: StackResult) -> tuple[str, ...]:
    worst = max(_judged(stack), key=lambda text: text.seam_ratio)
    return (
        stack.marked,
        str(worst.seams),
        f"{worst.at_seams:.3f}",
        f"{worst.beside:.3f}",
        f"{worst.seam_ratio:.2f}",
        f"{worst.away:.3f}",
        f"{worst.wave_snr_db:.1f}",
    )


def _voice_rows(stack: StackResult) -> tuple[tuple[str, ...], ...]:
    found = [cell.voice for cell in stack.timed if cell.voice is not None]
    if not found:
        return ()
    prepared, cached = (
        statistics.median(statistics.median(getattr(voice, field)) for voice in found)
        for field in ("prepare_seconds", "cached_seconds")
    )
    figures = (f"{found[0].reference_seconds:.1f}", *(f"{1e3 * (s or 0.0):.1f}" for s in (prepared, cached)))
    return ((stack.marked, *figures, "yes" if found[0].clipped else "no"),)
