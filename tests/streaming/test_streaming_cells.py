"""Cells of stacks that stream, through the real worker in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from ttsbench.errors import CellError
from ttsbench.records import measurements, runs
from ttsbench.records.chunk_schedule import Streaming
from ttsbench.records.jobs import REFERENCE, Job
from ttsbench.streaming import seams

MakeJob = Callable[..., Job]
RunCell = Callable[[Job], runs.Cell]


def test_a_cell_holds_its_stream_its_seams_and_its_voice(make_job: MakeJob, run_cell: RunCell, tmp_path: Path) -> None:
    job = make_job(
        slots={"stream": "windowed"}, fixed_tokens=30, streaming=Streaming(), voice_seconds=2.0, repeats=1,
        passes=("time", "memory", "quality"), reference="reference/r.safetensors",
    )  # fmt: skip
    run_cell(replace(job, kind=REFERENCE, slots={}))
    cell = run_cell(job)
    assert (cell.status, cell.reason) == ("ok", "")
    assert cell.streams
    (utterance,) = cell.utterances
    assert utterance.stream is not None
    assert [chunk.tokens for chunk in utterance.stream.chunks] == [4, 8, 18]
    assert utterance.first_playable_seconds < 0.9 * utterance.wall_seconds
    assert cell.voice is not None
    assert cell.voice.reference_seconds == pytest.approx(2.0)
    (judged,) = cell.seams
    assert judged.seams == 2
    assert cell.evidence["stream"]["together"].startswith("in turn, since on a CPU")
    (kept,) = cell.audio
    assert soundfile.info(tmp_path / kept.path).frames == 30 * 960


def test_where_streams_are_asked_for_one_shot_is_told_as_one_chunk(make_job: MakeJob, run_cell: RunCell) -> None:
    cell = run_cell(make_job(streaming=Streaming(), repeats=1))
    assert not cell.streams
    stream = cell.utterances[0].stream
    assert stream is not None
    assert (stream.design, len(stream.chunks)) == ("oneshot", 1)
    assert stream.chunks[0].flow_frames == 2 * (50 + 6)
    assert stream.chunks[0].arrived_seconds == cell.utterances[0].wall_seconds
    assert 0 < stream.decode_ended_seconds < stream.chunks[0].arrived_seconds
    assert run_cell(make_job(repeats=1)).utterances[0].stream is None


@pytest.mark.parametrize("family", ["chatterbox", "turbo"])
def test_a_text_that_is_too_long_for_the_model_is_one_clear_line(
    make_job: MakeJob, run_cell: RunCell, family: str
) -> None:
    words = "Word after word goes by. " * 800
    cell = run_cell(make_job(family=family, slots={"stream": "windowed"}, texts=("Short.", words)))
    assert cell.status not in ("ok", "crashed")
    assert cell.reason.startswith("text 2 has 20,000 characters, which are ")
    assert "this model reads at most" in cell.reason
    assert "\n" not in cell.reason


def test_seams_beyond_the_limit_are_a_fault() -> None:
    bad, good = measurements.Seams(0, 4, 0.3, 0.2, 0.1, 9.0), measurements.Seams(1, 4, 0.2, 0.2, 0.1, 9.0)
    limits: dict[str, Any] = {"seam_ratio_max": 1.2}
    (fault,) = seams.faults((bad, good), limits)
    assert fault.startswith("text 0: at its seams the mel is 1.50 times as far off")
    assert seams.faults((bad,), {}) == ()
    assert seams.faults((replace(bad, seams=3),), limits) == ()
    inaudible = measurements.Seams(0, 4, 0.003, 0.001, 0.001, 60.0)
    assert seams.faults((inaudible,), limits) == ()


def test_a_profile_is_of_a_whole_utterance(make_job: MakeJob, tmp_path: Path) -> None:
    from ttsbench.records.jobs import ProfileJob
    from ttsbench.running.cells import profile

    job = make_job(slots={"stream": "windowed"}, window=ProfileJob(scenario="s", steps=4))
    with pytest.raises(CellError, match="stream: oneshot in its place"):
        profile.measure(job, tmp_path, lambda stage: None, {})
