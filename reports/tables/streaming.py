"""Streams as tables: what a listener heard, what it took, and what seams do to the sound."""

from __future__ import annotations

from collections.abc import Sequence

from ttsbench.records.measurements import Seams, Utterance, VoicePreparation
from ttsbench.records.runs import Run
from ttsbench.reports import continuity, metrics
from ttsbench.reports.decide import statistics
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.run_tables import StackResult, metric_columns, stack_table
from ttsbench.reports.tables.table import Column, Table

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
    return [
        _stream_table("Streams, as heard", stacks, metrics.LISTENER, (*LISTENER_NOTES, *_fakes(stacks)))
        for stacks in _with_streams(run)
    ]


def engine(run: Run) -> list[Table]:
    return [
        _stream_table("Streams, the work", stacks, metrics.STREAM_WORK, ENGINE_NOTES) for stacks in _with_streams(run)
    ]


def _stream_table(title: str, stacks: Sequence[StackResult], table: str, notes: Sequence[str]) -> Table:
    streamed = [stack for stack in stacks if _has_streams(stack)]
    return stack_table(run_tables.titled(title, stacks), streamed, metric_columns(metrics.shown_in(table)), notes)


SEAM_COLUMNS = (
    Column("seams", lambda stack: _worst_seams(stack).seams, "count"),
    Column("at seams", lambda stack: _worst_seams(stack).at_seams, "distance"),
    Column("beside", lambda stack: _worst_seams(stack).beside, "distance"),
    Column("ratio", lambda stack: _worst_seams(stack).seam_ratio, "s"),
    Column("elsewhere", lambda stack: _worst_seams(stack).away, "distance"),
    Column("wave SNR dB", lambda stack: _worst_seams(stack).wave_snr_db, "per step"),
)


def seams(run: Run) -> list[Table]:
    """How much seams stand out; of several texts the worst."""
    judged = ([stack for stack in stacks if _seams(stack)] for stacks in run_tables.results(run))
    return [
        stack_table(run_tables.titled("Seams", stacks), stacks, SEAM_COLUMNS, SEAMS_NOTES)
        for stacks in judged
        if stacks
    ]


def _seams(stack: StackResult) -> list[Seams]:
    return [text for cell in stack.timed for text in cell.seams]


def _worst_seams(stack: StackResult) -> Seams:
    return max(_seams(stack), key=lambda text: text.seam_ratio)


VOICE_COLUMNS = (
    Column("reference s", lambda stack: _voices(stack)[0].reference_seconds, "per step"),
    Column("prepared ms", lambda stack: _median_voice_seconds(stack, "prepare_seconds"), "ms1"),
    Column("from the cache ms", lambda stack: _median_voice_seconds(stack, "cached_seconds"), "ms1"),
    Column("clipped", lambda stack: "yes" if _voices(stack)[0].clipped else "no"),
)


def voices(run: Run) -> list[Table]:
    """What a voice takes, apart from any utterance."""
    measured = ([stack for stack in stacks if _voices(stack)] for stacks in run_tables.results(run))
    notes = ("warm; the cache knows a voice by its content",)
    return [
        stack_table(run_tables.titled("Voice", stacks), stacks, VOICE_COLUMNS, notes) for stacks in measured if stacks
    ]


def _voices(stack: StackResult) -> list[VoicePreparation]:
    return [cell.voice for cell in stack.timed if cell.voice is not None]


def _median_voice_seconds(stack: StackResult, field: str) -> float | None:
    return statistics.median(statistics.median(getattr(voice, field)) for voice in _voices(stack))


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
