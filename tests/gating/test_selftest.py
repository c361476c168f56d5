from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ttsbench.cli.selftest import selftest as command
from ttsbench.errors import ExitCode
from ttsbench.gating import selftest
from ttsbench.gating.selftest import SETTINGS, Outcome
from ttsbench.records.jobs import Fake
from ttsbench.reports.decide import comparison, decision
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.running import fake_engine

QUIET = SETTINGS[0]


def test_the_documentation_keeps_a_whole_table_that_is_as_promised() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text().splitlines()
    for setting in SETTINGS:
        for effect in selftest.EFFECTS:
            [row] = [line for line in lines if line.startswith(f"{setting.name:<9} {selftest.truth(effect):>5} ")]
            assert row.endswith("yes")
    assert any(line.startswith(f"{selftest.COMPARISONS:,} simulated comparisons") for line in lines)


def outcome(effect: float, **verdicts: int) -> Outcome:
    return Outcome(QUIET, effect, Counter({Verdict(name): count for name, count in verdicts.items()}), 5.0)


@pytest.mark.parametrize(
    ("result", "complaint"),
    [
        (outcome(0.0, same=990, slower=10), ""),
        (outcome(0.0, same=989, slower=6, faster=5), "wrong 1.1%"),
        (outcome(0.0, inconclusive=1000), ""),
        (outcome(0.05, slower=750, inconclusive=250), ""),
        (outcome(0.05, slower=749, inconclusive=251), "found 74.9%"),
        (outcome(0.05, slower=980, same=20), "wrong 2.0%"),
        (outcome(0.08, slower=989, inconclusive=11), "promised 99%"),
        (outcome(0.03, same=500, slower=500), ""),
        (outcome(0.03, faster=1000), "wrong 100.0%"),
        # Of a hundred, as far as chance goes.
        (outcome(0.0, same=96, slower=4), ""),
        (outcome(0.0, same=95, slower=5), "wrong 5.0%"),
        (outcome(0.05, slower=66, inconclusive=34), ""),
        (outcome(0.05, slower=60, inconclusive=40), "found 60.0%"),
        (outcome(0.08, slower=96, inconclusive=4), ""),
        (outcome(0.08, slower=95, inconclusive=5), "promised 99%"),
    ],
)
def test_what_is_promised(result: Outcome, complaint: str) -> None:
    assert complaint in "; ".join(result.complaints)
    assert bool(result.complaints) == bool(complaint)


def test_a_series_is_the_same_each_time_and_alternates() -> None:
    source = selftest.alternating_pairs(QUIET, 0.05, 7)
    pairs = [next(source) for _ in range(4)]
    again = selftest.alternating_pairs(QUIET, 0.05, 7)
    assert [next(again) for _ in range(4)] == pairs
    orders = [(pair.baseline[0].order, pair.candidate[0].order) for pair in pairs]
    assert orders == [(0, 1), (3, 2), (4, 5), (7, 6)]


def test_a_throttled_machine_is_tried_again_and_then_given_up() -> None:
    often = replace(QUIET, fake_engine=Fake(throttled=0.3))
    result = selftest.compare(often, 0.0, 1)
    assert result.pairing.void
    always = selftest.compare(replace(QUIET, fake_engine=Fake(throttled=1.0)), 0.0, 1)
    assert len(always.pairing.pairs) == 3
    assert always.verdict is Verdict.INCONCLUSIVE
    assert "pair 1 was void 3 times" in always.judgements["rtf"].reason


def test_what_was_spoken_at_another_pace_does_not_count_and_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    [two_paced] = [setting for setting in selftest.SETTINGS if setting.name == "two-paced"]

    def share(effect: float, verdict: Verdict) -> float:
        return selftest.outcome(two_paced, effect, 60).share(verdict)

    same, slower = share(0.0, Verdict.SAME), share(0.05, Verdict.SLOWER)
    monkeypatch.setattr("ttsbench.reports.decide.paces.alike", lambda candidate, baseline: (candidate, baseline))
    assert same > share(0.0, Verdict.SAME) + 0.15
    assert slower > share(0.05, Verdict.SLOWER) + 0.15


def test_a_devices_pace_lasts_for_some_calls_and_processes() -> None:
    processes = [fake_engine.MachineState.at(Fake(seed=7, hurried=0.25), order, 5).hurried for order in range(200)]
    paces = [hurried for process in processes for hurried in process]
    assert len(paces) == 200 * (5 + 1)
    assert 0.15 < sum(paces) / len(paces) < 0.35
    within = [before != after for process in processes for before, after in pairwise(process)]
    between = [item[-1] != other[0] for item, other in pairwise(processes)]
    assert 0.06 < sum(within) / len(within) < 0.18
    assert 0.1 < sum(between) / len(between) < 0.3
    assert fake_engine.MachineState.at(Fake(seed=7, hurried=0.25), 7, 5).hurried == processes[7]


def test_it_meets_what_is_promised_in_short() -> None:
    for effect in (0.0, 0.05, 0.08):
        assert not selftest.outcome(QUIET, effect, 60).complaints


def test_a_rule_that_is_too_eager_is_caught(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def by_the_mean(differences: list[float], limit: float = 0.03) -> Judgement:
        mean = sum(differences) / max(len(differences), 1)
        return Judgement(Verdict.SLOWER if mean > 0 else Verdict.FASTER, len(differences), limit)

    monkeypatch.setattr(decision, "judge", by_the_mean)
    monkeypatch.setattr(comparison, "_objection", lambda *_: "")
    monkeypatch.setattr(decision, "_chance", lambda *_: 0.0)
    monkeypatch.setattr(selftest, "QUICK_COMPARISONS", 5)
    assert command(quick=True) is ExitCode.QUALITY
    assert "not as promised: quiet, A/A: wrong" in capsys.readouterr().out
