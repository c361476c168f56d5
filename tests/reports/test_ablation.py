"""Which stacks an ablation makes, and what its report concludes from their figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ttsbench.errors import UsageError
from ttsbench.optimizations import rules
from ttsbench.optimizations.stacks import complete
from ttsbench.records import files
from ttsbench.records.measurements import TimedForward
from ttsbench.records.runs import Run
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.pages import ablation_plot, report_markdown, report_page
from ttsbench.reports.tables import ablation as reports
from ttsbench.scenarios import ablation, schema

if TYPE_CHECKING:
    from browser import Browser

TEXT = """
name: a
model: {size: tiny}
stacks:
  upstream: {}
  fast: {decode: cuda_graph, cache: static, sampler: lean, dtype: bf16, watermark: "off"}
"""
Make = Callable[..., Any]


def taken_apart(text: str = TEXT, stack: str = "fast") -> schema.Scenario:
    return ablation.ablate(schema.parse(text, "a.yaml", Path()), stack)


def test_each_slot_stands_alone_with_the_fewest_companions() -> None:
    stacks = taken_apart().stacks
    assert stacks["only-dtype"] == {"dtype": "bf16"}
    assert stacks["only-watermark"] == {"watermark": "off"}
    assert stacks["only-decode+cache+sampler"] == {"decode": "cuda_graph", "cache": "static", "sampler": "lean"}


def test_what_is_taken_back_takes_along_what_cannot_stay() -> None:
    stacks = taken_apart().stacks
    assert stacks["without-dtype"] == {
        "decode": "cuda_graph", "cache": "static", "sampler": "lean", "watermark": "off",
    }  # fmt: skip
    gone = [name for name in stacks if name.startswith("without-decode")]
    assert gone == ["without-decode+cache+sampler"]


def test_every_stack_that_is_made_can_run_and_none_is_made_twice() -> None:
    stacks = taken_apart().stacks
    for slots in stacks.values():
        assert rules.conflict(slots, family="chatterbox", cfg_weight=None) == ""
    completed = [tuple(complete(slots).items()) for slots in stacks.values()]
    assert len(set(completed)) == len(completed)
    assert list(stacks)[:2] == ["upstream", "fast"]


def test_a_slot_that_only_the_baseline_sets_is_taken_apart_too() -> None:
    text = "name: a\nmodel: {size: tiny}\nstacks: {slow: {attention: eager}, fast: {decode: lean, dtype: bf16}}\n"
    scenario = ablation.ablate(schema.parse(text, "a.yaml", Path()), "fast")
    assert complete(scenario.stacks["fast"])["attention"] == "sdpa"
    assert scenario.stacks["only-attention"] == {"attention": "sdpa"}
    assert scenario.stacks["without-attention"]["attention"] == "eager"


def test_a_matrix_is_not_dropped_in_silence() -> None:
    with pytest.raises(UsageError, match="without a matrix"):
        taken_apart(TEXT + "matrix: {workload.seed: [0, 1]}\n")


@pytest.mark.parametrize(
    ("stack", "output"), [("fsat", "did you mean 'fast'"), ("upstream", "differs in no slot from the baseline")]
)
def test_what_cannot_be_taken_apart_is_refused(stack: str, output: str) -> None:
    with pytest.raises(UsageError, match=output):
        taken_apart(stack=stack)


@pytest.fixture
def ablated(make_run: Make, make_cell: Make, make_utterance: Make) -> Run:
    def cell(stack: str, wall_seconds: float, process: int) -> Any:
        utterance = make_utterance(wall_seconds=wall_seconds * (1 + 0.01 * process))
        return make_cell(key=stack, stack=stack, process=process, utterances=(utterance,))

    figures = {
        "upstream": 1.0, "fast": 0.2,
        "only-dtype": 1.05, "without-dtype": 0.3,
        "only-decode+cache": 0.5, "without-cache+decode": 0.9, "only-cache": 0.9,
        "only-watermark": 1.0, "without-watermark": 0.2,
        "only-mlp": 1.1, "without-mlp": 0.19,
    }  # fmt: skip
    run: Run = make_run(
        cells=tuple(cell(*item, process) for item in figures.items() for process in range(2)),
        baseline="upstream",
        ablated="fast",
    )
    return run


def test_the_page_shows_the_waterfall(ablated: Run, browser: Browser, tmp_path: Path) -> None:
    page = report_page.page(ablated, tmp_path)
    browser.open(files.write(tmp_path / "r.html", page))
    assert browser.how_many("#ablation .plot rect") == 7
    assert browser.how_many("#table-ablation-0 tbody tr") == 5
    assert browser.messages == []


def test_the_report_tells_what_pays_and_what_needs_company(ablated: Run) -> None:
    result = reports.ablation(ablated)
    assert result is not None
    output = {row[0]: row[1:] for row in reports.table(result).texts}
    assert output["dtype"] == ("0.95×", "–", "1.50×", "–", "pays only with others")
    assert output["decode"] == ("2.00×", "cache", "4.50×", "cache", "pays only with others")
    assert output["cache"] == ("1.11×", "–", "4.50×", "decode", "pays")
    assert output["watermark"][-1] == "not shown"
    assert output["mlp"][-1] == "costs"
    assert "5.00× as fast" in reports.table(result).notes[0]


def test_processes_that_lie_apart_or_a_single_one_show_nothing() -> None:
    near, far = Estimate(1.0, 0.99, 1.01, 3), Estimate(0.8, 0.7, 1.0, 3)
    assert reports._effect(near, far) == 0
    assert reports._effect(near, Estimate(0.8, 0.79, 0.81, 3)) == 1
    assert reports._effect(Estimate(0.8, 0.79, 0.81, 3), near) == -1
    assert reports._effect(near, Estimate(0.5, 0.5, 0.5, 1)) == 0


def test_the_waterfall_ends_at_the_full_stack(ablated: Run) -> None:
    result = reports.ablation(ablated)
    assert result is not None
    steps = reports.steps(result)
    assert [label for label, _, _ in steps] == [
        "baseline", "dtype", "cache, decode", "watermark", "mlp", "only together", "full",
    ]  # fmt: skip
    for (_, _, end), (_, start, _) in itertools.pairwise(steps[:-1]):
        assert start == pytest.approx(end)
    assert steps[-2][2] == result.full.median
    assert ablation_plot.waterfall(result).startswith("<svg")


def test_the_report_shows_table_and_plot(ablated: Run) -> None:
    text = report_markdown.report(ablated)
    assert "## Ablation" in text
    assert "(ablation.svg)" in text


def test_forwards_are_taken_apart_by_their_own_time(make_run: Make, make_cell: Make) -> None:
    def cell(stack: str, seconds: float) -> Any:
        forward = TimedForward(rows=1, positions=8, steps=0, repeat=0, wall_seconds=seconds, host_seconds=seconds)
        return make_cell(key=stack, stack=stack, utterances=(), forwards=(forward,))

    figures = {"upstream": 0.04, "fast": 0.01, "only-mlp": 0.02, "without-mlp": 0.03}
    result = reports.ablation(
        make_run(cells=tuple(cell(*item) for item in figures.items()), baseline="upstream", ablated="fast")
    )
    assert result is not None
    [row] = reports.table(result).texts
    assert row[1:3] == ("2.00×", "3.00×")
    assert "ms (lower is better)" in ablation_plot.waterfall(result)


def test_a_run_that_is_none_shows_none(make_run: Make, make_cell: Make) -> None:
    assert reports.ablation(make_run(cells=(make_cell(),))) is None
