"""A metric that another distribution declares appears in every report, and is judged as ours are."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ttsbench.cli import run_printing
from ttsbench.records import plugins
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import history, metrics
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.formats import registry
from ttsbench.reports.history import Stamp
from ttsbench.reports.metrics import HIGHER, Metric, Unit
from ttsbench.reports.pages import history_page, report_markdown, report_page
from ttsbench.reports.tables import words
from ttsbench.reports.tables.verdicts import CandidateReport, Report

WORDS = Metric(
    "words_per_second", Unit("1/s", "words/s", digits=1), HIGHER, "throughput", True,
    lambda cell: cell.evidence.get("words_per_second"), label="words/s",
)  # fmt: skip
LUCK = (0.995, 1.0, 1.004, 0.998, 1.002, 1.001)


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Metric:
    """As a distribution has it: by an entry point of our group."""
    entry = EntryPoint("words", f"{__name__}:WORDS", metrics.ENTRY_POINTS)
    monkeypatch.setattr(metrics, "BY_NAME", dict(metrics.BY_NAME))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == metrics.ENTRY_POINTS else [])
    plugins.declare_installed(metrics.ENTRY_POINTS, Metric, metrics.declare)
    return metrics.BY_NAME[WORDS.name]


@pytest.fixture
def run(make_run: Callable[..., Run], make_cell: Callable[..., Cell], declared: Metric) -> Run:
    """The candidate says a fifth less in a second, and all else is the same."""
    assert declared is WORDS
    cells = [
        make_cell(stack=stack, key=stack, process=n, evidence={"words_per_second": rate * luck})
        for stack, rate, lucks in (("upstream", 10.0, LUCK), ("lean", 8.0, reversed(LUCK)))
        for n, luck in enumerate(lucks)
    ]
    return make_run(cells=tuple(cells))


def test_it_is_a_column_on_the_console_in_the_document_and_on_the_page(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_printing.show_run(run)
    for text in (capsys.readouterr().out, report_markdown.report(run), report_page.page(run, tmp_path)):
        assert "words/s" in text
        assert "10.0" in text


def test_it_is_a_row_of_the_exported_figures(run: Run) -> None:
    [text] = registry.of_run(run, "csv").values()
    [line] = [line for line in text.decode().splitlines() if line.startswith("lean,,words_per_second,1/s,")]
    assert "7.99" in line or "8.00" in line


def test_compare_judges_it_and_knows_that_more_is_better(run: Run) -> None:
    [match] = sides.within(run)
    decided = comparison.judge_recorded(match.pairing)
    judgement = decided.judgements[WORDS.name]
    assert decided.verdict is judgement.verdict is Verdict.SLOWER
    assert judgement.low < 0.8 < judgement.high
    assert words.phrase(WORDS, judgement).startswith("throughput 20.0% less (")
    for name in ("html", "markdown", "json", "csv", "junit", "github", "bencher"):
        files = registry.of_comparison(Report((CandidateReport(match, decided),)), name, ["slower"])
        text = b"".join(files.values()).decode()
        assert any(form in text for form in ("words/s", "words_per_second", "words-per-second")), name


def test_a_gate_decides_it_at_the_first_look(run: Run) -> None:
    [match] = sides.within(run)
    decided = comparison.judge_series(match.pairing.pairs[:5])
    assert decided.slower == (WORDS,)
    assert decided.needed.count == 0


def test_history_follows_it(run: Run) -> None:
    stamps = [Stamp(f"run-{number:02}", 1, 1) for number in range(12)]
    entries = [entry for stamp in stamps for entry in history.entries(run, stamp)]
    [followed] = [s for s in history.series(entries) if s.metric is WORDS and s.entries[0].stack == "lean"]
    assert len(followed.entries) == 12
    assert "words/s" in history_page.document([followed], {}, [])


@pytest.mark.parametrize("value", ["nowhere:METRIC", f"{__name__}:LUCK", "ttsbench.reports.metrics:RTF"])
def test_one_that_cannot_be_used_is_named_and_the_others_remain(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    broken = EntryPoint("broken", value, metrics.ENTRY_POINTS)
    fine = EntryPoint("words", f"{__name__}:WORDS", metrics.ENTRY_POINTS)
    monkeypatch.setattr(metrics, "BY_NAME", {"rtf": metrics.WALL})
    monkeypatch.setattr(plugins, "entry_points", lambda group: [broken, fine])
    with pytest.warns(UserWarning, match="the metric broken"):
        plugins.declare_installed(metrics.ENTRY_POINTS, Metric, metrics.declare)
    assert metrics.BY_NAME["words_per_second"] is WORDS
