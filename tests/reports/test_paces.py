"""Utterances are laid beside those that were spoken at the same pace of the device, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from ttsbench.records.measurements import Memory
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison, paces
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.exact_counts import CountVerdict
from ttsbench.reports.decide.pairing import Pair, Pairing, pair_of, pair_up
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.tables import run_tables
from ttsbench.reports.tables.tradeoffs import costs

SLOW, FAST = 1056.0, 880.0
S, F, SF, FS = (SLOW, SLOW), (FAST, FAST), (SLOW, FAST), (FAST, SLOW)
MakeCell = Callable[..., Cell]
Paces = tuple[float | None, float | None]


@pytest.fixture
def spoken(make_cell: MakeCell) -> Callable[..., Cell]:
    """A process by its utterances: the pace before and the pace after, with the seconds; and, if wanted, whose text."""

    def make(*output: tuple[Paces, float], texts: tuple[int, ...] = (), **fields: object) -> Cell:
        cell = make_cell(**fields)
        [first, *_] = cell.utterances
        utterances = tuple(
            replace(
                first,
                repeat=number,
                text_index=texts[number] if texts else 0,
                pace_before_ns=before,
                pace_ns=after,
                wall_seconds=seconds,
                audio_seconds=1.0,
            )
            for number, ((before, after), seconds) in enumerate(output)
        )
        return replace(cell, utterances=utterances)

    return make


def seconds(cells: tuple[Cell, ...]) -> list[float]:
    return [u.wall_seconds for cell in cells for u in cell.utterances]


def ratio(pair: Pair) -> float:
    return math.exp(pair.difference(metrics.RTF))


def test_a_change_of_pace_within_a_process_is_a_warning_of_its_row(
    spoken: Callable[..., Cell], make_run: Callable[..., Run]
) -> None:
    """Two speeds of the device, 10 % apart; what the clock's resolution makes of one speed is none."""
    restless = spoken(((1400.0, 1420.0), 1.0), ((1420.0, 1090.0), 1.0))
    quiet = spoken(((1400.0, 1420.0), 1.0), ((1420.0, 1390.0), 1.0))
    unknown = spoken(((None, None), 1.0))
    note = f"{restless.stack}: the device changed its own pace: the same kernel took 1090 to 1420 ns"
    assert run_tables.warnings(make_run(cells=(restless, quiet, unknown))) == [note]
    kept_in_the_row = replace(restless, warnings=(note.partition(": ")[2],))
    assert run_tables.warnings(make_run(cells=(kept_in_the_row,))) == [note], "as rows were once written"


def test_a_restless_device_is_compared_at_the_pace_that_both_sides_had_most(spoken: Callable[..., Cell]) -> None:
    baseline = spoken((S, 0.41), (F, 0.37), (F, 0.371), (F, 0.372))
    candidate = spoken((S, 0.43), (S, 0.431), (F, 0.39), (F, 0.391))
    pair = pair_of(candidate, baseline)
    assert not pair.void
    # The same repeats, and so the same seeds, where both have them.
    assert seconds(pair.at_one_pace.baseline) == [0.371, 0.372]
    assert seconds(pair.at_one_pace.candidate) == [0.39, 0.391]
    assert Pairing((pair,)).left_out == (4, 8)
    assert ratio(pair) == pytest.approx(0.3905 / 0.3715)


def test_an_utterance_in_which_the_device_changed_its_pace_is_at_none(spoken: Callable[..., Cell]) -> None:
    baseline = spoken((SF, 0.40), (F, 0.37), (F, 0.371))
    candidate = spoken((F, 0.39), (F, 0.391), (FS, 0.42))
    result = pair_of(candidate, baseline).at_one_pace
    assert (seconds(result.baseline), seconds(result.candidate)) == ([0.37, 0.371], [0.39, 0.391])
    changing = spoken((SF, 0.40), (FS, 0.41))
    [output] = pair_of(changing, baseline).void
    assert output.startswith("the device was at two paces: a kernel took 880 to 1056 ns")


def test_one_utterance_a_side_is_too_little(spoken: Callable[..., Cell]) -> None:
    baseline, candidate = spoken((S, 0.41), (F, 0.37)), spoken((F, 0.39), (F, 0.39))
    assert pair_of(candidate, baseline).void
    # Where there is only one, all counts.
    assert not pair_of(spoken((S, 0.43)), spoken((S, 0.41), (F, 0.37))).void


def test_paces_are_not_chained_into_one_speed(spoken: Callable[..., Cell]) -> None:
    """One reading in between would otherwise lay what was spoken at 900 ns beside what was at 1040."""
    baseline = spoken(*[((900.0, 905.0), 0.37)] * 7, ((905.0, 970.0), 0.39))
    assert pair_of(spoken(*[((1040.0, 1040.0), 0.41)] * 8), baseline).void


def test_each_text_is_as_often_on_one_side_as_on_the_other(spoken: Callable[..., Cell]) -> None:
    """A long text against a short one would be a difference of nothing but texts."""
    texts = (0, 1, 0, 1, 0, 1)
    baseline = spoken((S, 0.2), (S, 0.9), (F, 0.18), (S, 0.9), (S, 0.2), (S, 0.9), texts=texts)
    candidate = spoken((S, 0.2), (S, 0.9), (S, 0.2), (F, 0.8), (F, 0.18), (F, 0.8), texts=texts)
    result = pair_of(candidate, baseline).at_one_pace
    spoken_texts = [
        [u.text_index for cell in side for u in cell.utterances] for side in (result.baseline, result.candidate)
    ]
    assert [sorted(side) for side in spoken_texts] == [[0, 0, 1], [0, 0, 1]]


def test_a_text_without_utterances_at_one_pace_is_not_left_out_in_silence(spoken: Callable[..., Cell]) -> None:
    """The long one is likelier to see a change: without it, nobody would hear that it had become slower."""
    texts = (0, 1) * 4
    baseline = spoken(*[(S, 0.2), (FS, 0.9)] * 4, texts=texts)
    candidate = spoken(*[(S, 0.2), (FS, 1.2)] * 4, texts=texts)
    assert pair_of(candidate, baseline).void


@pytest.mark.parametrize("unknown", [(None, None), (0.0, None)])
def test_where_a_side_knows_no_pace_or_there_is_one_all_counts(spoken: Callable[..., Cell], unknown: Paces) -> None:
    known = spoken((S, 0.41), (F, 0.37))
    for candidate, baseline in ((spoken((unknown, 0.4), (unknown, 0.4)), known), (known, spoken((unknown, 0.4)))):
        assert paces.alike((candidate,), (baseline,)) == ((candidate,), (baseline,))
    # The chain of kernels differs by up to 6 % between processes at one speed.
    item, other = spoken(((1021.0, 1023.0), 0.41)), spoken(((1068.0, 1070.0), 0.40), ((1066.0, 1067.0), 0.40))
    assert paces.alike((item,), (other,)) == ((item,), (other,))


def test_a_call_without_a_time_is_not_hidden_by_its_pace(spoken: Callable[..., Cell]) -> None:
    broken = spoken((S, math.nan), (F, 0.37))
    assert math.isnan(pair_of(spoken((F, 0.37)), broken).difference(metrics.RTF))


def test_of_whole_series_processes_at_another_pace_are_left_out(spoken: Callable[..., Cell]) -> None:
    slow, fast = spoken((S, 0.41), (S, 0.41)), spoken((F, 0.37), (F, 0.37))
    assert paces.alike((slow, fast), (fast, fast)) == ((fast,), (fast,))


def test_the_same_record_is_the_same_whatever_the_device_did(spoken: Callable[..., Cell]) -> None:
    changing = [spoken((SF, 0.41), (FS, 0.40), process=n) for n in range(2)]
    result = comparison.judge_recorded(pair_up(changing, changing))
    assert result.judgements["rtf"].verdict is Verdict.SAME


def test_counts_and_memory_are_of_all_whatever_the_pace(spoken: Callable[..., Cell]) -> None:
    """Half of the utterances have half of the tokens, and what was spoken at another pace took memory too."""
    calm = [
        spoken(*[(F, 0.37)] * 4, process=n, memory=Memory(weights_bytes=1, host_peak_bytes=2**30)) for n in range(5)
    ]
    paced = [(S, 0.41), (S, 0.41), (F, 0.37), (F, 0.37)]
    restless = [spoken(*paced, process=n, memory=Memory(weights_bytes=1, host_peak_bytes=2**31)) for n in range(2, 5)]
    pairing = pair_up([*calm[:2], *restless], calm)
    result = comparison.judge_recorded(pairing)
    assert pairing.left_out == (12, 40)
    assert result.judgements["rtf"].verdict is Verdict.SAME
    assert result.judgements["rtf"].ratio == 1.0
    assert result.judgements["peak_memory_bytes"].ratio == pytest.approx(2 ** (3 / 5))
    [tokens] = [change for change in result.counts if change.count.name == "tokens"]
    assert (tokens.verdict, tokens.reason) == (CountVerdict.EQUAL, "")
    table = costs([Match("lean", "lean", "", pairing)])
    assert table is not None
    assert [row[1:] for row in table.texts] == [("0.370", "1.00"), ("0.370", "2.00")]


def test_a_side_that_makes_the_device_slow_is_not_called_the_same(spoken: Callable[..., Cell]) -> None:
    calm = [spoken(*[(F, 0.37)] * 8, process=n) for n in range(6)]
    slowed = [spoken(*[((SLOW + n, SLOW + n), 0.41)] * 6, *[(F, 0.37)] * 2, process=n) for n in range(6)]
    result = comparison.judge_recorded(pair_up(slowed, calm)).judgements["rtf"]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "the device itself was slower for the candidate, 1.20× on average"
    mirrored = comparison.judge_recorded(pair_up(calm, slowed)).judgements["rtf"]
    assert mirrored.reason == "the device itself was slower for the baseline, 1.20× on average"


def test_a_pair_of_which_little_is_left_does_not_hide_that_a_side_is_not_steady(spoken: Callable[..., Cell]) -> None:
    leaking = [spoken(*[(F, 0.37 * (1.03 + n / 1e4) ** call) for call in range(8)], process=n) for n in range(6)]
    calm = [spoken(*[(F, 0.37)] * 8, process=n) for n in range(5)]
    thin = spoken(*[(S, 0.41)] * 5, *[(F, 0.37)] * 3, process=5)
    result = comparison.judge_recorded(pair_up(leaking, [*calm, thin])).judgements["rtf"]
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "the candidate is not steady" in result.reason


def test_another_pace_beside_another_stack_is_no_objection(spoken: Callable[..., Cell]) -> None:
    """The chain of kernels takes longer beside some stacks, which says nothing of the device."""
    baseline = [spoken(*[((847.0 + n, 848.0 + n), 0.37 + n / 1e4)] * 4, process=n) for n in range(6)]
    candidate = [spoken(*[((964.0, 965.0 + n), 0.30)] * 4, process=n, stack="int4") for n in range(6)]
    assert comparison.judge_recorded(pair_up(candidate, baseline)).judgements["rtf"].verdict is Verdict.FASTER
