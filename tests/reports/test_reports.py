from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from ttsbench.records import measurements
from ttsbench.records.measurements import StageTime, Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics, readings
from ttsbench.reports.decide import statistics
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import report_markdown
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.table import Table

Make = Callable[..., Any]


@pytest.fixture
def compared(make_run: Make, make_cell: Make, make_utterance: Make) -> Run:
    """upstream at RTF 0.5, 0.4 and 0.6 in three processes; lean at half of that, without a watermark."""

    def cell(stack: str, wall_seconds: float, process: int) -> Cell:
        marks = ("the audio carries no watermark",) if stack == "lean" else ()
        utterances = tuple(make_utterance(wall_seconds=wall_seconds * f) for f in (1.0, 0.9, 1.1))
        made: Cell = make_cell(
            key=stack, stack=stack, process=process, order=process, utterances=utterances, changes_output=marks
        )
        return made

    cells = [cell("lean", w / 2, p) for p, w in enumerate((0.5, 0.4, 0.6))]
    cells += [cell("upstream", w, p) for p, w in enumerate((0.5, 0.4, 0.6))]
    run: Run = make_run(cells=tuple(cells))
    return run


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.header, row, strict=True)) for row in table.texts]


def test_the_baseline_comes_first_and_ratios_are_against_it(compared: Run) -> None:
    first, second = rows(run_tables.overview(compared)[0])
    assert (first["stack"], first["RTF"], first["speed-up"]) == ("upstream", "0.500", "baseline")
    assert (second["stack"], second["RTF"], second["speed-up"]) == ("lean *", "0.250", "2.00×")


def test_the_spread_is_half_the_range_of_the_processes(compared: Run) -> None:
    assert rows(run_tables.overview(compared)[0])[0]["±"] == "20.0%"


def test_a_mark_names_what_changes_the_output(compared: Run) -> None:
    assert "* lean changes the output: the audio carries no watermark" in run_tables.overview(compared)[0].notes


def test_the_unit_is_the_process(make_cell: Make, make_utterance: Make, make_run: Make) -> None:
    """One process with a hundred slow utterances weighs as much as one with a single quick one."""
    slow = make_cell(process=0, utterances=tuple(make_utterance(wall_seconds=3.0) for _ in range(100)))
    quick = [make_cell(process=p, utterances=(make_utterance(wall_seconds=1.0),)) for p in (1, 2)]
    assert rows(run_tables.overview(make_run(cells=(slow, *quick)))[0])[0]["RTF"] == "1.000"


def test_cells_without_figures_are_listed_with_their_reason(make_run: Make, make_cell: Make) -> None:
    broken = make_cell(stack="lean", key="lean", status="oom", reason="the GPU has no memory left", utterances=())
    run = make_run(cells=(make_cell(), broken, broken))
    assert run_tables.failures(run) == [("lean", "oom", "the GPU has no memory left")]
    assert [row["stack"] for row in rows(run_tables.overview(run)[0])] == ["upstream"]


def test_a_failed_baseline_leaves_the_others_without_a_ratio(make_run: Make, make_cell: Make) -> None:
    run = make_run(cells=(make_cell(status="crashed", utterances=()), make_cell(stack="lean", key="lean")))
    [table] = run_tables.overview(run)
    assert rows(table)[0]["speed-up"] == "–"
    assert "the baseline has no figures here, so there is nothing to compare with" in table.notes


def test_a_baseline_with_figures_needs_no_word(compared: Run) -> None:
    assert not [note for note in run_tables.overview(compared)[0].notes if "no figures" in note]


def test_a_run_in_which_nothing_ran_still_reports(make_run: Make, make_cell: Make) -> None:
    run = make_run(cells=(make_cell(status="crashed", reason="why", utterances=()),))
    assert run_tables.overview(run) == []
    assert "**crashed**, why" in report_markdown.report(run)


def test_points_of_the_matrix_are_tables_of_their_own(make_run: Make, make_cell: Make) -> None:
    run = make_run(cells=tuple(make_cell(point={"workload.seed": seed}, order=seed) for seed in (1, 2)))
    assert [table.title for table in run_tables.overview(run)] == ["workload.seed=1", "workload.seed=2"]


def test_stages_and_residual_add_up(make_utterance: Make, make_cell: Make, make_run: Make) -> None:
    stages = {name: StageTime(0.05, 0.04) for name in metrics.STAGES}
    run = make_run(cells=(make_cell(utterances=(make_utterance(wall_seconds=0.5, stages=stages),)),))
    by_stage = {row["stage"]: row for row in rows(run_tables.stages(run)[0])}
    assert list(by_stage) == [*metrics.STAGES, "sum", "wall"]
    assert (by_stage["sum"]["upstream\nhost"], by_stage["wall"]["upstream\nhost"]) == ("500.0", "500.0")
    assert by_stage["sum"]["upstream\ndevice"] == "400.0"


def test_a_stack_without_device_times_has_no_column_for_them(compared: Run) -> None:
    assert run_tables.stages(compared)[0].header == ("stage", "upstream\nhost", "lean *\nhost")


def test_nothing_a_user_typed_becomes_markup(make_run: Make, make_cell: Make) -> None:
    name = "<script>alert(1)</script>|`x`"
    text = report_markdown.report(make_run(scenario=name, cells=(make_cell(stack=name, key=name),)))
    assert "<script>" not in text
    assert "\\<script\\>" in text
    row = next(line for line in text.splitlines() if line.startswith("| \\<script"))
    assert row.replace("\\|", "").count("|") == len(run_tables.overview(make_run())[0].columns) + 1


def test_the_ladder_shows_every_rung(make_run: Make, make_cell: Make) -> None:
    cold = make_cell(kind="cold", utterances=(), ladder={"import": 12.0, "first_call": 3.5, "steady": 0.5})
    row = rows(run_tables.ladder(make_run(cells=(make_cell(), cold)))[0])[0]
    assert (row["import"], row["first call"], row["steady"], row["voice"]) == ("12.00", "3.50", "0.50", "–")


def test_a_second_cold_start_has_a_row_of_its_own(make_run: Make, make_cell: Make) -> None:
    start = {"interpreter": 0.1, "import": 5.0, "load": 6.0, "first_call": 4.0, "steady": 3.0}
    cells = [make_cell(kind="cold", stack="upstream", utterances=(), ladder=start)]
    for process, first_call in enumerate((34.0, 9.0)):
        ladder = {**start, "first_call": first_call, "steady": 1.0}
        cells.append(make_cell(kind="cold", stack="fast", process=process, utterances=(), ladder=ladder))
    result = rows(run_tables.ladder(make_run(cells=tuple(cells), baseline="upstream"))[0])
    assert [row["stack"] for row in result] == ["upstream", "fast", "fast (compiled before)"]
    assert [row["pays after"] for row in result] == ["–", "16", "4"]


def test_a_stack_that_saves_nothing_never_pays() -> None:
    baseline = {"first_call": 4.0, "steady": 3.0}
    assert run_tables.pays_after({"first_call": 9.0, "steady": 3.0}, baseline) == "never"
    assert run_tables.pays_after({"first_call": 4.0, "steady": 2.0}, baseline) == 1
    assert run_tables.pays_after({"first_call": 4.0}, baseline) is None


def test_samples_hold_every_utterance(compared: Run) -> None:
    result = list(csv.DictReader(io.StringIO(samples.samples(compared))))
    assert len(result) == sum(len(cell.utterances) for cell in compared.cells)
    lean = [float(row["rtf"]) for row in result if row["stack"] == "lean" and row["process"] == "0"]
    assert lean == pytest.approx([0.25, 0.225, 0.275])


def test_warnings_are_told_once(make_run: Make, make_cell: Make) -> None:
    run = make_run(cells=(make_cell(warnings=("hooks grew",)),) * 3)
    assert run_tables.warnings(run) == ["upstream: hooks grew"]


def test_percentile_agrees_with_numpy() -> None:
    import numpy as np

    values = [random.Random(0).random() for _ in range(37)]
    assert statistics.percentile(values, 0.95) == pytest.approx(np.percentile(values, 95))


@pytest.mark.parametrize("values", [[], [None], [math.nan]])
def test_no_figure_is_made_of_nothing(values: list[float | None]) -> None:
    assert statistics.estimate(values) is None
    assert statistics.median(values) is None


def test_a_percentile_of_a_handful_is_not_given(make_utterance: Make, make_cell: Make) -> None:
    utterances = [make_utterance(wall_seconds=0.01 * n) for n in range(1, 21)]
    assert readings.rtf_p95(make_cell(utterances=tuple(utterances[:19]))) is None
    assert readings.rtf_p95(make_cell(utterances=tuple(utterances))) == pytest.approx(0.1905)


def test_the_report_says_what_ran(make_run: Make, make_cell: Make) -> None:
    understood = {"name": "s", "model": {"family": "turbo", "size": "tiny"}, "measure": {"repeats": 2}}
    run = make_run(cells=(make_cell(),), scenario_understood=understood, overrides=("measure.repeats=2",))
    text = report_markdown.report(run)
    for line in (
        "model.family: turbo",
        "model.size: tiny",
        "measure.repeats: 2",
        "changed by --set: measure.repeats=2",
    ):
        assert f"- {line}" in text


def test_one_process_has_no_spread() -> None:
    result = statistics.estimate([1.0])
    assert result is not None
    assert math.isnan(result.spread)


def test_rtf_without_audio_is_no_number(make_utterance: Callable[..., Utterance]) -> None:
    assert math.isnan(make_utterance(audio_seconds=0.0).rtf)


def test_s3gen_prefers_the_device(make_utterance: Make, make_cell: Make) -> None:
    stages = {name: StageTime(0.1, 0.2) for name in metrics.S3GEN_STAGES}
    assert metrics.S3GEN.read(make_cell(utterances=(make_utterance(stages=stages),))) == pytest.approx(0.6)
    host_only = {name: StageTime(0.1) for name in metrics.S3GEN_STAGES}
    assert metrics.S3GEN.read(make_cell(utterances=(make_utterance(stages=host_only),))) == pytest.approx(0.3)


def test_energy_is_net_of_idle(make_cell: Make) -> None:
    energy = measurements.Energy(joules=1000.0, idle_watts=100.0, seconds=4.0, audio_seconds=6.0)
    assert metrics.ENERGY.read(make_cell(energy=energy)) == pytest.approx(100.0)
