"""Claims beside our figures: what is said of them in a scenario, and the verdict from a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli import run_printing
from ttsbench.errors import ScenarioError, UsageError
from ttsbench.records import runs
from ttsbench.records.measurements import Chunk, ForwardQuality, Streamed, TimedForward
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.formats import samples
from ttsbench.reports.pages import report_markdown
from ttsbench.reports.tables import claims, forwards, run_tables
from ttsbench.running import plan
from ttsbench.running.host import Machine
from ttsbench.scenarios import ablation, expectations, schema

Make = Callable[..., Any]
SPEEDUP = {"id": "c", "says": "s", "stack": "flash", "metric": "forward_seconds", "kind": "speedup", "low": 1.25}
SAVING = {**SPEEDUP, "metric": "forward_peak_bytes", "kind": "saving", "low": 0.1, "high": 0.2}
DIFFERENCE = {**SPEEDUP, "kind": "difference", "low": 0.1}
VALUE = {**SPEEDUP, "kind": "value", "low": None, "high": 0.7}

CPU_ONLY = Machine(cpu_count=2, memory_bytes=8 * 2**30)
OLD_GPU = Machine(cpu_count=2, memory_bytes=8 * 2**30, cuda_problem="", gpu_count=1, compute_capability=(7, 5))


@pytest.fixture
def measured(make_run: Make, make_cell: Make) -> Make:
    """A run of forwards: seconds of each process of the baseline and of `flash`."""

    def run(
        claim: dict[str, Any],
        flash: tuple[float, ...] = (0.5, 0.5, 0.5),
        upstream: tuple[float, ...] = (1.0, 1.0, 1.0),
        peaks: tuple[int | None, int | None] = (1000, 1000),
        **changes: Any,
    ) -> Run:
        def cell(stack: str, seconds: float, process: int, peak: int | None) -> Cell:
            forward = TimedForward(1, 512, 0, 0, seconds, seconds / 2, seconds, peak)
            value = {"utterances": (), "forwards": (forward,) * 3, "slots": {}}
            made: Cell = make_cell(**{**value, **(changes if stack == "flash" else {})}, stack=stack, key=stack,
                                   process=process, order=process)  # fmt: skip
            return made

        cells = [cell("upstream", s, p, peaks[0]) for p, s in enumerate(upstream)]
        cells += [cell("flash", s, p, peaks[1]) for p, s in enumerate(flash)]
        made: Run = make_run(cells=tuple(cells), scenario_understood={"claims": [claim]})
        return made

    return run


def only(run: Run) -> claims.ClaimResult:
    [result] = claims.results(run)
    return result


@pytest.mark.parametrize(
    ("claim", "flash", "ours", "verdict"),
    [
        (SPEEDUP, (0.5, 0.5, 0.5), "2.00×", "holds"),
        (SPEEDUP, (0.8, 0.8, 0.8), "1.25×", "holds"),
        (SPEEDUP, (0.9, 0.9, 0.9), "1.11×", "does not hold"),
        (SPEEDUP, (1.5, 1.5, 1.5), "0.67×", "does not hold"),
        (SPEEDUP, (0.5, 0.5, 1.2), "2.00×", "not shown"),
        (SPEEDUP, (0.9, 0.9, 0.6), "1.11×", "not shown"),
        (SPEEDUP, (0.5,), "2.00×", "not shown"),
        (DIFFERENCE, (0.8, 0.8, 0.8), "200.00 ms less", "holds"),
        (DIFFERENCE, (0.99, 0.99, 0.99), "10.00 ms less", "does not hold"),
        (VALUE, (0.6, 0.6, 0.6), "600.00 ms", "holds"),
        (VALUE, (0.8, 0.8, 0.8), "800.00 ms", "does not hold"),
        (VALUE, (0.6, 0.6, 0.8), "600.00 ms", "not shown"),
    ],
)
def test_the_verdict_is_that_of_the_middle_unless_the_spread_hides_it(
    measured: Make, claim: dict[str, Any], flash: tuple[float, ...], ours: str, verdict: str
) -> None:
    result = only(measured(claim, flash))
    assert (result.ours, result.verdict) == (ours, verdict)
    assert result.sentence.startswith(f"c: {verdict}: ours is {ours}")


def test_memory_saved_is_a_share_of_the_baseline(measured: Make) -> None:
    result = only(measured(SAVING, peaks=(1000, 850)))
    assert (result.claimed, result.ours, result.verdict) == ("10.0% less to 20.0% less", "15.0% less", "holds")
    assert only(measured(SAVING, peaks=(1000, 950))).verdict == "does not hold"


def test_a_device_that_tells_no_peak_makes_it_not_measurable(measured: Make) -> None:
    result = only(measured(SAVING, peaks=(None, None)))
    assert result.verdict == "not measurable here"
    assert "flash has no forward_peak_bytes" in result.sentence


def test_a_row_that_did_not_run_gives_its_reason(measured: Make) -> None:
    result = only(measured(SPEEDUP, status="skipped", reason="needs an NVIDIA GPU", forwards=()))
    assert result.sentence == "c: not measurable here: flash has no figures: skipped: needs an NVIDIA GPU"


def test_a_row_that_fell_back_is_not_what_the_claim_is_about(measured: Make) -> None:
    result = only(measured(SPEEDUP, fell_back=("fell back from attention: x to sdpa, because it needs y",)))
    assert result.verdict == "not measurable here"
    assert "fell back from attention" in result.sentence


def test_a_baseline_without_figures_leaves_a_ratio_open_and_a_value_not(measured: Make) -> None:
    for claim, verdict in ((SPEEDUP, "not measurable here"), (VALUE, "holds")):
        assert only(measured(claim, upstream=())).verdict == verdict


def test_faster_but_wrong_does_not_hold(measured: Make) -> None:
    result = only(measured(SPEEDUP, faults=("hidden_relative_error is 1",)))
    assert (result.verdict, result.sentence) == (
        "does not hold",
        "c: does not hold: its quality failed: hidden_relative_error is 1",
    )


def test_what_a_stack_changes_is_said_of_the_stack_and_not_of_the_claim_again(measured: Make) -> None:
    run = measured(SPEEDUP, changes_output=("no watermark",))
    assert only(run).verdict == "holds"
    assert "no watermark" not in only(run).sentence


@pytest.mark.parametrize(("chunks", "verdict"), [(14, "holds"), (17, "does not hold")])
def test_a_count_is_exact_so_that_one_process_decides(
    make_run: Make, make_cell: Make, make_utterance: Make, chunks: int, verdict: str
) -> None:
    chunk = Chunk(1, 960, 50, 50, 0.0, 0.1)
    stream = Streamed("revocode", 24000, False, 0.0, 0.1, 0.0, 0.0, (chunk,) * chunks)
    cell = make_cell(key="revocode", stack="revocode", streams=True, utterances=(make_utterance(stream=stream),) * 3)
    claim = {"id": "c", "says": "s", "stack": "revocode", "metric": "vocoder_calls", "kind": "value", "high": 16}
    result = only(make_run(cells=(cell,), scenario_understood={"claims": [claim]}))
    assert (result.ours, result.verdict) == (f"{chunks} calls", verdict)
    timed = only(make_run(cells=(cell,), scenario_understood={"claims": [{**claim, "metric": "rtf"}]}))
    assert timed.verdict == "not shown"


def test_a_claim_is_judged_at_every_point_that_it_is_about(measured: Make, make_run: Make) -> None:
    run = measured(SPEEDUP)
    points: list[dict[str, Any]] = [{"a": a, "b": b} for a in (1, 2) for b in (1, 2)]
    cells = [runs.from_json(Cell, {**runs.to_json(c), "point": p}) for p in points for c in run.cells]
    for at, expected in ((None, 4), ({"a": 1}, 2), ({"a": 1, "b": 2}, 1)):
        run = make_run(cells=tuple(cells), scenario_understood={"claims": [{**SPEEDUP, "at": at}]})
        assert [f.verdict for f in claims.results(run)] == ["holds"] * expected


def test_report_and_console_show_claims_and_forwards(measured: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = measured(SPEEDUP)
    text = report_markdown.report(run)
    assert "| c | 1.25× | 2.00× | holds |" in text
    assert "c: holds: ours is 2.00×, claimed is 1.25×" in text
    run_printing.show_run(run)
    output = capsys.readouterr().out
    assert "holds" in output
    assert "500.00 ± 0.00" in output


def test_without_claims_there_is_no_table(make_run: Make) -> None:
    assert claims.overview(make_run()) == []


def test_forwards_have_a_table_of_their_own(measured: Make) -> None:
    evidence = {"activity": {"per_call": {"device_busy_ms": 250.0}}}
    quality = ForwardQuality(0.01, 0.1, finite=True)
    run = measured(SPEEDUP, peaks=(2**30, 2**29), evidence=evidence, forward_quality=quality)
    assert run_tables.overview(run) == run_tables.stages(run) == []
    [table] = forwards.overview(run)
    upstream, flash = (dict(zip(table.header, row, strict=True)) for row in table.texts)
    assert upstream["speed-up"] == "baseline"
    assert flash == {
        "stack": "flash", "ms": "500.00", "±": "0.0%", "mean ± sd": "500.00 ± 0.00", "speed-up": "2.00×",
        "peak MiB": "512", "memory": "−50.0%", "tokens/s": "1,024", "host ms": "250.00", "kernels ms": "250.00",
        "busy %": "50", "error": "0.01000",
    }  # fmt: skip
    assert "flash is bound by the host: its kernels take 50% of the time, in the rest the device waits" in table.notes


def test_samples_hold_every_forward(measured: Make) -> None:
    rows = list(csv.DictReader(io.StringIO(samples.samples(measured(SPEEDUP)))))
    assert len(rows) == 18
    assert rows[-1]["stack"] == "flash"
    assert (rows[-1]["positions"], rows[-1]["wall_seconds"], rows[-1]["tokens_per_second"]) == ("512", "0.5", "1024.0")


def test_every_metric_that_a_claim_may_name_can_be_read() -> None:
    assert {*expectations.UTTERANCE_METRICS, *expectations.FORWARD_METRICS} <= metrics.BY_NAME.keys()
    assert set(claims._KINDS) == set(expectations.CLAIM_KINDS)


HEAD = (
    "name: s\nworkload: {forward: {}}\nstacks: {upstream: {}, flash: {dtype: bf16}}\n"
    "matrix: {workload.forward.positions: [8, 16]}\nmeasure: {passes: [time]}\n"
)
GOOD = "{id: c, says: s, stack: flash, metric: forward_seconds, kind: speedup, low: 1.2}"


def mistakes(text: str, tmp_path: Path) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        schema.parse(text, "s.yaml", tmp_path)
    return [str(mistake) for mistake in refused.value.mistakes]


@pytest.mark.parametrize(
    ("claim", "output"),
    [
        (GOOD.replace("flash", "flush"), "claims[0].stack: 'flush' is no stack; did you mean 'flash'?"),
        (GOOD.replace("forward_seconds", "forward_second"), "claims[0].metric: 'forward_second' is not allowed here"),
        (GOOD.replace("forward_seconds", "rtf"), "claims[0].metric: rtf is no figure of forwards; "),
        (GOOD.replace("speedup", "speed-up"), "kind: 'speed-up' is not allowed here; did you mean 'speedup'?"),
        (GOOD.replace(", low: 1.2", ""), "claims[0]: a claim of the kind speedup needs low"),
        (GOOD.replace("speedup", "value"), "claims[0]: a claim of the kind value needs high"),
        (GOOD.replace("low: 1.2", "low: 2, high: 1"), "claims[0]: low is 2 and high is 1"),
        (GOOD.replace("says", "sais"), "claims[0].sais: unknown key; did you mean 'says'?"),
        (GOOD.replace("low", "at: {workload.forward.positions: 9}, low"),
         "claims[0].at.workload.forward.positions: 9 is not one of its values: 8, 16"),
        (GOOD.replace("low", "at: {workload.forward.position: 8}, low"),
         "claims[0].at.workload.forward.position: no axis of the matrix that makes points; did you mean"),
        (f"{GOOD}, {GOOD}", "claims[1].id: 'c' names another claim already"),
    ],
)  # fmt: skip
def test_a_claim_about_what_is_not_there_is_a_mistake(claim: str, output: str, tmp_path: Path) -> None:
    result = mistakes(f"{HEAD}claims: [{claim}]\n", tmp_path)
    assert any(output in mistake for mistake in result), result


def test_a_point_that_is_left_out_is_none(tmp_path: Path) -> None:
    claim = GOOD.replace("low", "at: {workload.forward.positions: 8}, low")
    text = f"{HEAD}exclude: [{{workload.forward.positions: 8}}]\nclaims: [{claim}]\n"
    assert any("8 is not one of its values: 16" in mistake for mistake in mistakes(text, tmp_path))


def test_where_nothing_runs_only_that_is_told(tmp_path: Path) -> None:
    text = f"{HEAD}exclude: [{{workload.forward.positions: 8}}, {{workload.forward.positions: 16}}]\nclaims: [{GOOD}]\n"
    assert [output.partition(": ")[2] for output in mistakes(text, tmp_path)] == ["exclude: leaves nothing to run"]


def test_claims_read_back_from_what_was_understood(tmp_path: Path) -> None:
    scenario = schema.parse(f"{HEAD}claims: [{GOOD}]\n", "s.yaml", tmp_path)
    understood = scenario.understood()
    assert understood["claims"][0]["low"] == 1.2
    import yaml

    again = schema.parse(yaml.safe_dump(understood), "s.yaml", tmp_path)
    assert again.claims == scenario.claims
    assert again.cells() == scenario.cells()


@pytest.mark.parametrize(
    ("change", "output"),
    [
        (("workload: {forward: {}}", "workload: {forward: {}, texts: [a]}"), "workload.texts: has no part in"),
        (("workload: {forward: {}}", "workload: {forward: {}, voice: {synthetic: 6}}"), "workload.voice: has no part"),
        (("workload: {forward: {}}", "workload: {forward: {}, length: {fixed: 6}}"), "workload.length: has no part"),
        (("workload: {forward: {}}", "workload: {forward: {row: 1}}"), "workload.forward.row: unknown key; did you"),
        (("workload: {forward: {}}", "workload: {set: 5s}"), "varies a forward, and there is none"),
        (("[time]", "[time, energy]"), "measure.passes: a forward has no energy pass; give those it has: time, memory"),
        (("name: s", "name: s\nmodel: {family: spark-tts, weights: hub}"), "model.weights: of spark-tts there are"),
        (("measure: {passes: [time]}", ""), "a forward has no energy pass"),
    ],
)  # fmt: skip
def test_what_a_forward_cannot_have_is_a_mistake(change: tuple[str, str], output: str, tmp_path: Path) -> None:
    result = mistakes(HEAD.replace(*change), tmp_path)
    assert any(output in mistake for mistake in result), result


def test_a_backbone_cannot_speak(tmp_path: Path) -> None:
    text = "name: s\nmodel: {family: spark-tts}\nstacks: {upstream: {}}\n"
    [output] = mistakes(text, tmp_path)
    assert output == "line 2: model.family: spark-tts is a backbone without the rest; it needs workload.forward"


def planned(rule: str, machine: Machine, tmp_path: Path, attention: str = "flash_attention_2") -> plan.Plan:
    flash = f"{{dtype: bf16, attention: {attention}, on_missing: {rule}}}"
    text = (
        f"name: s\nmodel: {{size: tiny}}\nworkload: {{length: {{fixed: 25}}}}\nstacks: {{upstream: {{}}, f: {flash}}}"
    )
    return plan.make(schema.parse(text, "s.yaml", tmp_path), machine)


def test_a_missing_option_is_a_row_that_says_why(tmp_path: Path) -> None:
    result = planned("skip", CPU_ONLY, tmp_path)
    assert {job.stack for job in result.jobs} == {"upstream"}
    [cell] = result.refused
    assert "needs an NVIDIA GPU" in cell.reason


def test_a_missing_option_falls_back_and_the_row_says_so(tmp_path: Path) -> None:
    result = planned("fallback", CPU_ONLY, tmp_path)
    assert not result.refused
    job = next(job for job in result.jobs if job.stack == "f")
    assert job.slots["attention"] == "sdpa"
    assert job.slots["dtype"] == "bf16"
    assert job.fell_back[0].startswith(
        "fell back from attention: flash_attention_2 to sdpa, because it needs an NVIDIA"
    )


def test_a_missing_option_can_refuse_the_whole_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"f cannot run here, and says on_missing: fail; attention: flash_attention_2"):
        planned("fail", CPU_ONLY, tmp_path)


@pytest.mark.parametrize("rule", ["skip", "fallback", "fail"])
def test_what_can_run_runs_whatever_the_rule(rule: str, tmp_path: Path) -> None:
    result = planned(rule, CPU_ONLY, tmp_path, attention="eager")
    assert not result.refused
    assert all(job.slots["attention"] == "eager" and not job.fell_back for job in result.jobs if job.stack == "f")


def test_a_fallback_that_makes_no_sense_with_the_rest_is_refused(tmp_path: Path) -> None:
    text = (
        "name: s\nmodel: {size: tiny}\nstacks: {upstream: {}, "
        "g: {decode: cuda_graph, cache: static, sampler: lean, on_missing: fallback}}\n"
    )
    [cell] = plan.make(schema.parse(text, "s.yaml", tmp_path), CPU_ONLY).refused
    assert cell.reason.startswith("cache: static needs decode: lean")


def test_flash_attn_needs_compute_capability_8(tmp_path: Path) -> None:
    [cell] = planned("skip", OLD_GPU, tmp_path).refused
    assert "needs a GPU of compute capability 8.0, and this one has 7.5" in cell.reason


def test_a_plan_of_forwards_has_shapes_and_its_own_limits(tmp_path: Path) -> None:
    result = plan.make(schema.parse(HEAD, "s.yaml", tmp_path, ["measure.passes=[time, quality]"]), CPU_ONLY)
    assert {job.forward.positions for job in result.jobs if job.forward} == {8, 16}
    assert all(job.texts == () and not job.keep_audio for job in result.jobs)
    assert {tuple(job.limits) for job in result.jobs} == {("hidden_relative_error_max",)}
    assert result.estimated_seconds > 0


def test_an_ablation_takes_no_rule_apart_and_judges_no_claim(tmp_path: Path) -> None:
    flash = "{dtype: bf16, attention: sdpa_flash, on_missing: fail}"
    text = f"name: s\nstacks: {{upstream: {{}}, flash: {flash}}}\nclaims: [{GOOD.replace('forward_seconds', 'rtf')}]\n"
    ablated = ablation.ablate(schema.parse(text, "s.yaml", tmp_path), "flash")
    assert not [name for name in ablated.stacks if "on_missing" in name]
    assert {slots.get("on_missing") for name, slots in ablated.stacks.items() if name != "upstream"} == {"fail"}
    assert ablated.claims == ()
