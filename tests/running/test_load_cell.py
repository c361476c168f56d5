"""Load without a model: an engine of known service time on a clock of its own, so that theory says what must come."""

from __future__ import annotations

import dataclasses
import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.errors import ScenarioError
from ttsbench.records import measurements, playback, runs
from ttsbench.records.jobs import PLAYED, Fake, Job, LoadJob
from ttsbench.reports import load_figures, metrics
from ttsbench.reports.decide import comparison
from ttsbench.reports.formats import samples
from ttsbench.reports.load_figures import LevelFigures
from ttsbench.reports.pages import load_plot, report_markdown, report_page
from ttsbench.reports.tables import loads, run_tables
from ttsbench.running.cells import load
from ttsbench.scenarios.schema import parse
from ttsbench.serving.calls import Call
from ttsbench.serving.load import CLOSED, OPEN, level
from ttsbench.serving.simulated import SimulatedEngine

SERVICE, AUDIO = 1.0, 2.0
PLAN = LoadJob(listeners=(1,), rates=(), ttfa_seconds=3.0, underrun_seconds=0.0, requests=100)


def simulated(service: Callable[[Call], float] = lambda call: SERVICE) -> SimulatedEngine:
    return SimulatedEngine(lambda call: (service(call), AUDIO))


def at(kind: str, size: float, engine: SimulatedEngine | None = None, **changes: Any) -> LevelFigures:
    plan = dataclasses.replace(PLAN, **changes)
    return LevelFigures(
        measurements.LoadResult(plan.ttfa_seconds, plan.underrun_seconds, ()),
        level(engine or simulated(), plan, kind, size, 0, lambda call: None),
    )


class TestQueueing:
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
    def test_one_server_of_constant_service_keeps_them_waiting_as_long_as_theory_says(self, share: float) -> None:
        """M/D/1: the mean wait is the service time times share / (2 * (1 - share))."""
        result = at(OPEN, share / SERVICE, requests=40_000, patience_seconds=1e9)
        waits = [(c.started_seconds or 0.0) - c.scheduled_seconds for c in result.calls]
        # 40,000 requests that depend on each other are worth some 2,000 that do not.
        assert sum(waits) / len(waits) == pytest.approx(SERVICE * share / (2 * (1 - share)), rel=0.05)

    def test_as_many_are_there_as_littles_law_says(self) -> None:
        """The number in the system, seen at moments of its own, against the rate times the time that each is there."""
        rate = 0.6
        result = at(OPEN, rate, requests=20_000, patience_seconds=1e9)
        calls = result.calls
        first, last = calls[0].scheduled_seconds, calls[-1].scheduled_seconds
        moments = [first + (last - first) * (n + 0.5) / 20_000 for n in range(20_000)]
        events = sorted([*((c.scheduled_seconds, 1) for c in calls), *((c.finished_seconds or 0.0, -1) for c in calls)])
        there, seen, at_event = 0, 0, 0
        for moment in moments:
            while at_event < len(events) and events[at_event][0] <= moment:
                there += events[at_event][1]
                at_event += 1
            seen += there
        sojourn = sum((c.finished_seconds or 0.0) - c.scheduled_seconds for c in calls) / len(calls)
        assert seen / len(moments) == pytest.approx(rate * sojourn, rel=0.03)

    @pytest.mark.parametrize("listeners", [1, 3, 8])
    def test_listeners_in_a_closed_loop_share_what_there_is(self, listeners: int) -> None:
        result = at(CLOSED, listeners)
        assert result.throughput == pytest.approx(AUDIO / SERVICE, rel=0.02)
        assert result.over_calls(load_figures.ttfa, 0.5) == pytest.approx(listeners * SERVICE)
        under_way = [(c.scheduled_seconds, c.finished_seconds or math.inf) for c in result.level.calls]
        for moment in (10.5, 33.3, 77.7):
            assert sum(begins <= moment < ends for begins, ends in under_way) == listeners

    def test_who_listens_first_asks_later(self) -> None:
        result = at(CLOSED, 1, next_request=PLAYED)
        assert result.throughput == pytest.approx(AUDIO / (SERVICE + AUDIO), rel=0.02)
        assert result.over_calls(load_figures.ttfa, 0.99) == pytest.approx(SERVICE)

    def test_listeners_who_come_one_by_one_do_not_wait_for_each_other(self) -> None:
        """Each asks when the last has been served; at once, the second one's request would stand behind the first's."""
        at_once, one_by_one = (
            at(CLOSED, 2, next_request=PLAYED, ramp_seconds=ramp).level.calls[:2] for ramp in (0.0, 2.2 * SERVICE)
        )
        assert [call.scheduled_seconds for call in at_once] == [0.0, 0.0]
        assert [call.scheduled_seconds for call in one_by_one] == pytest.approx([0.0, 1.1 * SERVICE])
        assert load_figures.ttfa(at_once[1]) == pytest.approx(2 * SERVICE)
        assert load_figures.ttfa(one_by_one[1]) == pytest.approx(SERVICE)

    def test_a_load_counts_when_all_listeners_have_come(self) -> None:
        result = at(CLOSED, 2, requests=None, duration_seconds=20.0, warmup=0.5, ramp_seconds=8.0)
        assert min(call.scheduled_seconds for call in result.calls) == pytest.approx(18.0, abs=2 * SERVICE)
        result = at(CLOSED, 8, requests=20, ramp_seconds=60.0)
        assert min(call.scheduled_seconds for call in result.calls) >= 60.0
        assert len(result.calls) == 20

    def test_the_memory_of_many_is_that_of_all_at_once(self) -> None:
        once = load.all_at_once(LoadJob((8,), (), 1.0, 0.0, duration_seconds=9.0, ramp_seconds=60.0), 8)
        calls = level(simulated(), once, CLOSED, 8, 0, lambda call: None).calls
        assert [call.scheduled_seconds for call in calls[:8]] == [0.0] * 8


class TestCoordinatedOmission:
    """Once a server stands still for 20 s. Who asks at a rate goes on being due; who asks in a loop does not."""

    @staticmethod
    def stalling(call: Call) -> float:
        return 20.0 if call.number == 300 else 0.1

    def test_a_stall_shows_in_the_tail_of_all_who_were_due_in_it(self) -> None:
        result = at(OPEN, 5.0, simulated(self.stalling), requests=1000)
        late = [call for call in result.calls if load_figures.ttfa(call) > 1.0]
        assert len(late) > 100  # all who were due in 20 s, and who stood behind them
        p99 = result.over_calls(load_figures.ttfa, 0.99)
        assert p99 is not None
        assert p99 > 15.0

    def test_when_requests_are_due_does_not_depend_on_the_server(self) -> None:
        calm = at(OPEN, 5.0, simulated(lambda call: 0.1), requests=1000)
        stalled = at(OPEN, 5.0, simulated(self.stalling), requests=1000)
        due = [[call.scheduled_seconds for call in result.calls] for result in (calm, stalled)]
        assert due[0] == due[1]
        gaps = [after - before for before, after in zip(due[0], due[0][1:], strict=False)]
        assert sum(gaps) / len(gaps) == pytest.approx(1 / 5.0, rel=0.1)
        spread = math.sqrt(sum((gap - 0.2) ** 2 for gap in gaps) / len(gaps))
        assert spread == pytest.approx(0.2, rel=0.15)  # as of exponential gaps

    def test_a_closed_loop_sees_it_once(self) -> None:
        result = at(CLOSED, 1, simulated(self.stalling), requests=1000)
        assert sum(load_figures.ttfa(call) > 1.0 for call in result.calls) == 1
        assert result.over_calls(load_figures.ttfa, 0.99) == pytest.approx(0.1)


class TestWhatCounts:
    def test_the_warm_up_does_not(self) -> None:
        result = at(CLOSED, 4, requests=10, warmup=0.2)
        assert [call.number for call in result.calls] == list(range(4, 14))  # each listener's first one at least
        result = at(OPEN, 0.5, requests=10, warmup=0.5)
        assert [call.number for call in result.calls] == list(range(5, 15))

    def test_seconds_may_be_given_in_the_place_of_requests(self) -> None:
        result = at(OPEN, 2.0, simulated(lambda call: 0.1), requests=None, duration_seconds=50.0, warmup=0.2)
        assert all(10.0 <= call.scheduled_seconds < 60.0 for call in result.calls)
        assert len(result.calls) == pytest.approx(100, rel=0.3)

    def test_the_load_stays_on_until_the_last_that_counts_is_answered(self) -> None:
        result = at(CLOSED, 4, requests=10)
        last = max(call.finished_seconds or math.inf for call in result.calls)
        assert max(call.scheduled_seconds for call in result.level.calls) >= last - SERVICE

    def test_who_is_never_answered_is_late_and_not_left_out(self) -> None:
        result = at(OPEN, 3.0, requests=200, patience_seconds=5.0)
        unanswered = [call for call in result.calls if call.finished_seconds is None]
        assert len(result.calls) == 200
        assert len(unanswered) > 50
        assert result.over_calls(load_figures.ttfa, 0.99) == math.inf
        goodput = result.goodput
        assert goodput is not None
        assert goodput < 0.5

    def test_more_listeners_than_slots_is_a_level_that_says_so(self) -> None:
        engine = simulated()
        engine.slots = 3
        result = at(CLOSED, 4, engine)
        assert result.level.reason == "4 listeners need as many slots for keys and values, and memory holds 3"
        assert result.calls == []
        assert result.throughput is None
        assert not at(OPEN, 0.5, engine).level.reason  # who comes at a rate may wait for a slot

    def test_goodput_asks_for_both(self) -> None:
        engine = SimulatedEngine(lambda call: (SERVICE, AUDIO))
        result = at(CLOSED, 1, engine, ttfa_seconds=0.99)
        assert result.goodput == 0.0
        pieces = Call(0, 0.0, started=0.0, finished=3.0)
        for arrived, seconds in ((0.5, 1.0), (3.0, 1.0)):
            pieces.hold(arrived, seconds)
        call = pieces.record()
        assert load_figures.ttfa(call) == 0.5
        assert load_figures.underrun(call) == 1.5
        assert not result.met(call)
        assert dataclasses.replace(result, load=measurements.LoadResult(1.0, 1.5, ())).met(call)


class TestPlayback:
    def test_it_begins_when_80_ms_are_there(self) -> None:
        assert playback.begins([(0.1, 0.05), (0.2, 0.02), (0.4, 0.01), (0.9, 1.0)]) == 0.4
        assert playback.begins([(0.3, 0.04)]) == 0.3
        assert playback.begins([]) is None


def fake_job(make_job: Callable[..., Job], **changes: Any) -> Job:
    plan = LoadJob((1, 2, 4), (0.2, 1.5), ttfa_seconds=3.0, underrun_seconds=0.0, requests=120, patience_seconds=10.0)
    values: dict[str, Any] = {
        "key": "upstream", "stack": "upstream", "slots": {}, "load": plan, "fixed_tokens": 250,
        "fake": Fake(rtf=0.1), "passes": ("time", "memory"), "texts": ("One.", "Two."),
    }  # fmt: skip
    return make_job(**{**values, **changes})


@pytest.fixture
def run(
    make_job: Callable[..., Job], run_cell: Callable[[Job], runs.Cell], make_run: Callable[..., runs.Run]
) -> runs.Run:
    """Two processes of two stacks of the fake engine, the second three times slower."""
    jobs = [
        fake_job(make_job, key=stack, stack=stack, process=process, fake=Fake(rtf=rtf))
        for stack, rtf in (("upstream", 0.1), ("slow", 0.3))
        for process in range(2)
    ]
    cells = [run_cell(job) for job in jobs]
    assert [cell.reason for cell in cells] == [""] * 4
    return make_run(cells=tuple(cells))


class TestReport:
    def test_its_page_has_the_curve_and_the_levels_and_no_empty_plot(self, run: runs.Run, tmp_path: Path) -> None:
        text = report_page.page(run, tmp_path)
        assert '<section id="load">' in text
        assert 'aria-label="Time to first audio by load"' in text
        assert '<section id="every-sample">' not in text

    def test_the_record_comes_back_as_it_was(self, run: runs.Run, tmp_path: Path) -> None:
        runs.write_run(tmp_path, run)
        assert runs.read_run(tmp_path) == run

    def test_a_record_from_before_loads_is_read(self, run: runs.Run, tmp_path: Path) -> None:
        data = runs.to_json(run)
        for cell in data["cells"]:
            del cell["load"]
        (tmp_path / "run.json").write_text(json.dumps({**data, "schema_version": 3}))
        assert all(cell.load is None for cell in runs.read_run(tmp_path).cells)

    def test_every_level_has_a_row_and_every_stack_its_reach(self, run: runs.Run) -> None:
        levels, reach = loads.overview(run)
        assert [row[:3] for row in levels.texts[:5]] == [
            ("upstream", "1 listening", "240/240"),
            ("upstream", "2 listening", "240/240"),
            ("upstream", "4 listening", "240/240"),
            ("upstream", "0.2/s", "240/240"),
            ("upstream", "1.5/s", levels.texts[4][2]),
        ]
        assert levels.header[6:9] == ("TTFA ms p50", "p95", "p99")
        assert float(levels.texts[1][6].replace(",", "")) == pytest.approx(2000, rel=0.1)
        assert levels.texts[4][7] == "never"
        assert reach.texts[0][0] == "upstream"
        assert reach.texts[0][2:] == ("1.0×", "2", "0.2")
        assert reach.texts[1][3] == "0"  # 3 s each: a target of 3 s is met by half of them at best
        assert float(reach.texts[1][1]) == pytest.approx(10 / 3, rel=0.1)

    def test_requests_draw_the_same_tokens_at_every_level_or_the_report_says_so(self, run: runs.Run) -> None:
        output = [note for note in loads.overview(run)[0].notes if "same tokens" in note]
        assert output[0].startswith("upstream: ")
        same, _, of = output[0].split()[1:4]
        assert same == of
        [first, *others] = run.cells
        assert first.load is not None
        broken = dataclasses.replace(first.load.levels[0].calls[7], tokens_sha256="other")
        level0 = dataclasses.replace(first.load.levels[0], calls=(*first.load.levels[0].calls[:7], broken))
        load0 = dataclasses.replace(first.load, levels=(level0, *first.load.levels[1:]))
        changed = dataclasses.replace(run, cells=(dataclasses.replace(first, load=load0), *others))
        output = [note for note in loads.overview(changed)[0].notes if "same tokens" in note]
        same, _, of = output[0].split()[1:4]
        assert int(same) == int(of) - 1

    def test_it_stands_in_the_document_and_the_samples(self, run: runs.Run) -> None:
        document = report_markdown.report(run)
        assert "## Load" in document
        assert "![Load against latency](load.svg)" in document
        assert run_tables.overview(run) == []
        header, *rows = samples.samples(run).splitlines()
        calls = sum(len(level.calls) for cell in run.cells if cell.load for level in cell.load.levels)
        assert len(rows) == calls
        assert "scheduled_seconds" in header

    def test_the_curve_is_drawn(self, run: runs.Run) -> None:
        [plot] = load_plot.plots(run)
        assert plot.file == "load.svg"
        assert ElementTree.fromstring(plot.document).tag.endswith("svg")
        assert load_plot.plots(run) == [plot]

    def test_two_stacks_are_compared_by_what_a_second_of_sound_takes(self, run: runs.Run) -> None:
        slow, fast = ([cell for cell in run.cells if cell.stack == stack] for stack in ("slow", "upstream"))
        assert comparison.gating_metrics(run.cells)[:2] == (metrics.BUSIEST, metrics.LIGHTEST)
        for metric in (metrics.BUSIEST, metrics.LIGHTEST):
            ratio = (metric.read(slow[0]) or 0.0) / (metric.read(fast[0]) or math.nan)
            assert ratio == pytest.approx(3.0, rel=0.1)

    def test_a_level_at_which_nobody_counts_says_so(self, run: runs.Run) -> None:
        """All were due at once, in the warm-up, and none was answered before the level ended."""
        [first, *others] = run.cells
        assert first.load is not None
        waiting = tuple(
            dataclasses.replace(call, counted=False, finished_seconds=None) for call in first.load.levels[0].calls[:3]
        )
        level0 = measurements.Level(CLOSED, 64.0, waiting, ended_seconds=9.6)
        load0 = dataclasses.replace(first.load, levels=(*first.load.levels, level0))
        changed = dataclasses.replace(run, cells=(dataclasses.replace(first, load=load0), *others))
        [note] = [note for note in loads.overview(changed)[0].notes if "shows nothing" in note]
        assert note == (
            "upstream at 64 listening shows nothing: no request counted within 10 s; give duration_seconds more"
        )

    def test_a_level_that_did_not_run_says_why(self, run: runs.Run) -> None:
        [first, *others] = run.cells
        assert first.load is not None
        refused = measurements.Level(CLOSED, 512.0, reason="512 listeners need as many slots, and memory holds 40")
        load0 = dataclasses.replace(first.load, levels=(*first.load.levels, refused))
        changed = dataclasses.replace(run, cells=(dataclasses.replace(first, load=load0), *others))
        table = loads.overview(changed)[0]
        row = next(row for row in table.texts if row[1] == "512 listening")
        assert set(row[2:]) == {"–"}
        assert any("512 listening did not run" in note and "memory holds 40" in note for note in table.notes)


SCENARIO = """name: a
stacks: {upstream: {}}
fake: {}
measure: {passes: [time, memory]}
workload:
  load: {LOAD}
"""
TARGETS = "targets: {ttfa_seconds: 1}"
MISTAKES = {
    f"listeners: [0], requests: 5, {TARGETS}": "workload.load.listeners[0]: must be at least 1, not 0",
    f"rates: [0], requests: 5, {TARGETS}": "workload.load.rates[0]: must be more than 0, not 0",
    f"rates: [-1.5], requests: 5, {TARGETS}": "workload.load.rates[0]: must be more than 0, not -1.5",
    f"rates: [1], duration_seconds: 0, {TARGETS}": "workload.load.duration_seconds: must be more than 0, not 0",
    f"rates: [1], requests: 0, {TARGETS}": "workload.load.requests: must be at least 1, not 0",
    "rates: [1], requests: 5": "workload.load.targets: is missing",
    "rates: [1], requests: 5, targets: {}": "workload.load.targets.ttfa_seconds: is missing",
    f"requests: 5, {TARGETS}": "workload.load: has no level",
    f"rates: [1], {TARGETS}": "workload.load: a level is as long as requests or duration_seconds says; neither",
    f"rates: [1], requests: 5, duration_seconds: 5, {TARGETS}": "says; both are given",
    f"listeners: [2, 2], requests: 5, {TARGETS}": "listeners holds a level twice",
    f"listeners: [1], requests: 5, again: later, {TARGETS}": "'later' is not allowed here",
    f"listeners: [1], requests: 5, ramp_seconds: -1, {TARGETS}": "load.ramp_seconds: must be at least 0, not -1",
    f"rates: [1], requests: 5, ramp_seconds: 1, {TARGETS}": "ramp_seconds says how listeners come, and there are none",
}


@pytest.mark.parametrize(
    ("ramp", "output"), [("", {}), (", ramp_seconds: 0", {}), (", ramp_seconds: 5", {"ramp_seconds": 5.0})]
)
def test_a_load_without_a_ramp_is_understood_as_before_there_were_any(
    tmp_path: Path, ramp: str, output: dict[str, float]
) -> None:
    text = SCENARIO.replace("LOAD", f"listeners: [1], requests: 5{ramp}, {TARGETS}")
    understood = parse(text, "my.yaml", tmp_path).understood()["workload"]["load"]
    assert {name: value for name, value in understood.items() if name == "ramp_seconds"} == output


@pytest.mark.parametrize(("value", "output"), MISTAKES.items())
def test_bad_input_is_told_in_one_line(tmp_path: Path, value: str, output: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(SCENARIO.replace("LOAD", value), "my.yaml", tmp_path)
    [line] = str(caught.value).splitlines()
    assert output in line


def test_what_is_measured_of_single_utterances_has_no_part_in_a_load(tmp_path: Path) -> None:
    text = SCENARIO.replace("LOAD", f"listeners: [1], requests: 5, {TARGETS}").replace("time, memory", "time, energy")
    with pytest.raises(ScenarioError, match="a load has no energy pass"):
        parse(text, "my.yaml", tmp_path)
    text = SCENARIO.replace("LOAD", f"listeners: [1], requests: 5, {TARGETS}").replace("fake: {}\n", "")
    with pytest.raises(ScenarioError, match=r"has no part in workload\.forward"):
        parse(text.replace("  load:", "  forward: {}\n  load:"), "my.yaml", tmp_path)


def test_levels_go_from_the_lightest_to_the_heaviest(tmp_path: Path) -> None:
    text = SCENARIO.replace("LOAD", f"listeners: [8, 1], rates: [2, 0.5], requests: 5, {TARGETS}")
    [cell] = parse(text, "my.yaml", tmp_path).cells()
    assert cell.workload.load is not None
    result = list(load.sizes(cell.workload.load.to_job()))
    assert result == [(CLOSED, 1.0), (CLOSED, 8.0), (OPEN, 0.5), (OPEN, 2.0)]
