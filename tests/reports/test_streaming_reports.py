"""What is made of streams in a record: playback, tables, drawings, samples, and records of older versions."""

from __future__ import annotations

import csv
import io
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttsbench.records import runs
from ttsbench.records.measurements import Chunk, Seams, Streamed, Utterance, VoicePreparation
from ttsbench.records.runs import Cell
from ttsbench.reports import continuity, metrics
from ttsbench.reports.continuity import Playback
from ttsbench.reports.decide import sides
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import report_markdown, report_page, stream_plot
from ttsbench.reports.tables import streaming
from ttsbench.reports.tables.table import Table

Make = Callable[..., Any]
RATE_HZ = 24_000


def stream(*chunks: tuple[float, float], at_once: bool = True, decode: tuple[float, float] = (0.1, 0.6)) -> Streamed:
    """Chunks as (seconds of audio, when it was held); work on each began 50 ms before."""
    return Streamed(
        design="windowed", sample_rate_hz=RATE_HZ, at_once=at_once, decode_began_seconds=decode[0],
        decode_ended_seconds=decode[1], consumer_seconds=0.0, voice_seconds=0.004,
        chunks=tuple(
            Chunk(tokens=round(25 * audio), samples=round(RATE_HZ * audio), flow_frames=300, vocoder_frames=60,
                  began_seconds=held - 0.05, arrived_seconds=held)
            for audio, held in chunks
        ),
        token_seconds=(0.2, 0.4, 0.6), token_counts=(5, 15, 25),
    )  # fmt: skip


@pytest.fixture
def make_heard(make_utterance: Make) -> Make:
    def make(*chunks: tuple[float, float], **changes: Any) -> Utterance:
        output = stream(*chunks, **changes)
        wall = output.chunks[-1].arrived_seconds
        heard: Utterance = make_utterance(
            wall_seconds=wall, audio_seconds=sum(audio for audio, _ in chunks), stream=output,
            first_sample_seconds=chunks[0][1], first_playable_seconds=chunks[0][1],
            first_audible_seconds=chunks[0][1],
        )  # fmt: skip
        return heard

    return make


def played(utterance: Utterance) -> Playback:
    playback = continuity.played(utterance)
    assert playback is not None
    return playback


def test_chunks_in_time_leave_no_silence(make_heard: Make) -> None:
    playback = played(make_heard((0.2, 0.1), (0.4, 0.25), (0.4, 0.65)))
    assert playback.underruns == ()
    assert (playback.underrun_seconds, playback.late_chunks, playback.prebuffer_seconds) == (0, 0, 0)
    assert playback.ends == pytest.approx(1.1)


def test_a_late_chunk_is_waited_for(make_heard: Make) -> None:
    playback = played(make_heard((0.2, 0.1), (0.4, 0.5), (0.4, 1.0)))
    # The second is due at 0.3 and comes at 0.5; by then everything is 0.2 later, so the third is 0.1 late.
    assert [s.began for s in playback.underruns] == pytest.approx([0.3, 0.9])
    assert [s.seconds for s in playback.underruns] == pytest.approx([0.2, 0.1])
    assert playback.underrun_seconds == pytest.approx(0.3)
    assert playback.late_chunks == 2
    assert playback.prebuffer_seconds == pytest.approx(0.3)


@given(st.lists(st.tuples(st.floats(0.04, 3), st.floats(0.001, 2)), min_size=1, max_size=12))
def test_with_the_pre_buffer_nothing_is_late_and_with_less_something_is(parts: list[tuple[float, float]]) -> None:
    held, chunks = 0.0, list[tuple[float, float]]()
    for audio, gap in parts:
        held += gap
        chunks.append((audio, held))
    output = stream(*chunks)
    utterance = Utterance(
        0, 0, 0, held, 1.0, 25, "0" * 64, chunks[0][1], chunks[0][1], chunks[0][1], {}, stream=output
    )  # fmt: skip
    playback = played(utterance)
    assert playback.underrun_seconds == pytest.approx(playback.prebuffer_seconds, abs=1e-6)
    later = replace(utterance, first_playable_seconds=chunks[0][1] + playback.prebuffer_seconds + 1e-6)
    assert played(later).underrun_seconds == 0


def test_overlap_is_the_share_of_s3gens_work_in_which_t3_decoded(make_heard: Make) -> None:
    # Work from 0.25 to 0.3 and from 0.575 to 0.625, of which T3 decodes during 0.05 and 0.025.
    output = make_heard((0.2, 0.3), (0.4, 0.625)).stream
    assert continuity.overlap_share(output) == pytest.approx(0.75)
    resting = replace(output, rest_began_seconds=0.24, rest_ended_seconds=0.28)  # for the first chunk
    assert continuity.overlap_share(resting) == pytest.approx(0.45)
    assert continuity.overlap_share(replace(output, at_once=False)) == 0
    assert continuity.overlap_share(None) is None


def test_the_waste_is_frames_a_second_of_audio(make_heard: Make) -> None:
    output = make_heard((0.5, 0.3), (0.5, 0.6)).stream
    assert continuity.flow_frames_per_second(output) == pytest.approx(600)
    assert continuity.vocoder_frames_per_second(output) == pytest.approx(120)
    assert metrics.VOCODER_CALLS.read(Cell("k", "timed", "s", {}, {}, 0, 0, "ok")) is None


@pytest.fixture
def make_streams(make_run: Make, make_cell: Make, make_heard: Make, make_utterance: Make) -> Make:
    """upstream, which does not stream, and a stack that does."""

    def make(*chunks: tuple[float, float], **changes: Any) -> runs.Run:
        cells = (
            make_cell(),
            make_cell(
                key="w", stack="windowed", streams=True, slots={"stream": "windowed"},
                utterances=(make_heard(*chunks),) * 3, seams=(Seams(0, 4, 0.12, 0.1, 0.08, 17.0),),
                voice=VoicePreparation("0" * 64, 17.1, True, (0.083, 0.08), (0.0005, 0.0006)), **changes,
            ),
        )  # fmt: skip
        run: runs.Run = make_run(cells=cells)
        return run

    return make


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.texts]


def test_the_tables_tell_what_was_heard_and_what_it_took(make_streams: Make) -> None:
    run = make_streams((0.2, 0.1), (0.4, 0.5))
    (heard,) = rows(streaming.listener(run)[0])
    assert (heard["stack"], heard["TTFA ms"], heard["underrun ms"], heard["late chunks"]) == (
        "windowed", "100", "200", "1",
    )  # fmt: skip
    (work,) = rows(streaming.engine(run)[0])
    assert (work["calls"], work["flow frames/s"], work["overlap %"]) == ("2", "1,000", "50")
    (seams,) = rows(streaming.seams(run)[0])
    assert (seams["ratio"], seams["elsewhere"]) == ("1.20", "0.080")
    (voice,) = rows(streaming.voices(run)[0])
    assert (voice["reference s"], voice["prepared ms"], voice["clipped"]) == ("17.1", "81.5", "yes")
    text = report_markdown.report(run)
    assert "Streams, as heard" in text
    assert "streams/1.0.svg" in text


def test_a_stack_that_claims_to_stream_and_does_not_is_named(make_streams: Make) -> None:
    sliced = make_streams((0.2, 0.98), (0.4, 0.99), (0.4, 1.0))
    assert any("windowed claims to stream" in note for note in streaming.warnings(sliced))
    assert "it is no stream" in report_markdown.report(sliced)
    assert not streaming.warnings(make_streams((0.2, 0.1), (0.4, 1.0)))
    assert not streaming.warnings(make_streams((0.6, 1.0)))


def test_the_page_has_timelines_and_tables_of_streams(make_streams: Make, tmp_path: Path) -> None:
    text = report_page.page(make_streams((0.2, 0.1), (0.4, 0.5)), tmp_path)
    assert '<section id="streams">' in text
    assert 'class="lane-playback"' in text


def test_runs_without_streams_have_none_of_it(make_run: Make) -> None:
    run = make_run()
    assert [*streaming.listener(run), *streaming.engine(run), *streaming.seams(run), *streaming.voices(run)] == []
    assert stream_plot.plots(run) == []
    assert "design" not in samples.samples(run).splitlines()[0]


def test_samples_hold_every_arrival(make_streams: Make) -> None:
    result = list(csv.DictReader(io.StringIO(samples.samples(make_streams((0.2, 0.1), (0.4, 0.5))))))
    assert [row["design"] for row in result] == ["", "", "", "windowed", "windowed", "windowed"]
    assert result[-1]["chunk_arrivals_seconds"] == "0.100000;0.500000"
    assert float(result[-1]["underrun_seconds"]) == pytest.approx(0.2)
    assert result[0]["underrun_seconds"] == ""


def test_the_drawing_is_sound_and_tells_everything(make_heard: Make) -> None:
    drawn = stream_plot.timeline(make_heard((0.2, 0.1), (0.4, 0.5)), 'a <stack> & "text"')
    root = ElementTree.fromstring(drawn)
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert root.attrib["aria-label"] == 'a <stack> & "text"'
    assert any(title == "underrun of 200 ms" for title in titles)
    assert sum("frames in the flow" in title for title in titles) == 2
    width = float(root.attrib["viewBox"].split()[2])
    places = [
        float(shape.attrib["x"]) + float(shape.attrib["width"])
        for shape in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert max(places) <= width
    assert not any(word in drawn for word in ("<script", "href", "style="))


def test_one_utterance_of_each_text_is_drawn(make_streams: Make) -> None:
    [plot] = stream_plot.plots(make_streams((0.2, 0.1), (0.4, 0.5)))
    assert plot.file == "streams/1.0.svg"


def test_what_has_no_stream_is_not_drawn(make_utterance: Make) -> None:
    assert stream_plot.timeline(make_utterance(), "t") == ""


def test_a_stream_survives_its_record(tmp_path: Any, make_streams: Make) -> None:
    run = make_streams((0.2, 0.1), (0.4, 0.5))
    runs.write_run(tmp_path, run)
    assert runs.read_run(tmp_path) == run


def test_a_record_of_the_version_before_streams_still_reads(tmp_path: Any, make_run: Make) -> None:
    data = runs.to_json(make_run(scenario_understood={"workload": {"set": "10s"}}))
    for cell in data["cells"]:
        for field in ("seams", "voice"):
            del cell[field]
        for utterance in cell["utterances"]:
            del utterance["stream"]
    (tmp_path / "run.json").write_text(runs.dump(data | {"schema_version": 2}))
    read = runs.read_run(tmp_path)
    assert read.schema_version == runs.SCHEMA_VERSION
    assert read.cells == make_run().cells
    # Work of which nothing was said is compared with work that says it has no streams and clips no reference.
    now = make_run(scenario_understood={"workload": {"set": "10s", "streaming": None, "clip_voice": False}})
    assert sides.mismatches([read, now]) == []
    assert continuity.played(read.cells[0].utterances[0]) is None


def test_seams_of_one_chunk_stand_out_from_nothing() -> None:
    assert Seams(0, 0, 0.0, 0.0, 0.1, 20.0).seam_ratio == 1.0
    assert math.isclose(Seams(0, 2, 0.3, 0.2, 0.1, 20.0).seam_ratio, 1.5)
