"""Utterances are laid beside those that were spoken at the same pace of the device, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from ttsbench.records import Cell
from ttsbench.reports import comparison, metrics, paces
from ttsbench.reports.decision import Verdict
from ttsbench.reports.exact import Change
from ttsbench.reports.pairing import Pairing, beside, pair_up

SLOW, FAST = 1056.0, 880.0
MakeCell = Callable[..., Cell]
Told = tuple[float | None, float | None, float]


@pytest.fixture
def spoken(make_cell: MakeCell) -> Callable[..., Cell]:
    """A process by its utterances: the pace before, the pace after, the seconds; and, if wanted, whose text."""

    def make(*told: Told, texts: tuple[int, ...] = (), **fields: object) -> Cell:
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
            for number, (before, after, seconds) in enumerate(told)
        )
        return replace(cell, utterances=utterances)

    return make


def seconds(cells: tuple[Cell, ...]) -> list[float]:
    return [u.wall_seconds for cell in cells for u in cell.utterances]


def test_a_restless_device_is_compared_at_the_pace_that_both_sides_had_most(spoken: Callable[..., Cell]) -> None:
    baseline = spoken((SLOW, SLOW, 0.41), (FAST, FAST, 0.37), (FAST, FAST, 0.371), (FAST, FAST, 0.372))
    candidate = spoken((SLOW, SLOW, 0.43), (SLOW, SLOW, 0.431), (FAST, FAST, 0.39), (FAST, FAST, 0.391))
    pair = beside(candidate, baseline)
    assert not pair.void
    assert seconds(pair.at_one_pace.baseline) == [0.37, 0.371]
    assert seconds(pair.at_one_pace.candidate) == [0.39, 0.391]
    pairing = Pairing((pair,))
    assert pairing.left_out == (4, 8)
    assert math.exp(pair.difference(metrics.RTF)) == pytest.approx(0.3905 / 0.3705)


def test_an_utterance_in_which_the_device_changed_its_pace_is_at_none(spoken: Callable[..., Cell]) -> None:
    baseline = spoken((SLOW, FAST, 0.40), (FAST, FAST, 0.37))
    candidate = spoken((FAST, FAST, 0.39), (FAST, SLOW, 0.42))
    found = beside(candidate, baseline).at_one_pace
    assert (seconds(found.baseline), seconds(found.candidate)) == ([0.37], [0.39])
    changing = spoken((SLOW, FAST, 0.40), (FAST, SLOW, 0.41))
    [told] = beside(changing, baseline).void
    assert told.startswith("the device was at two paces")


def test_each_text_is_as_often_on_one_side_as_on_the_other(spoken: Callable[..., Cell]) -> None:
    """A long text against a short one would be a difference of nothing but texts."""
    baseline = spoken((SLOW, SLOW, 0.2), (SLOW, SLOW, 0.9), (SLOW, SLOW, 0.21), (FAST, FAST, 0.8), texts=(0, 1, 0, 1))
    candidate = spoken((SLOW, SLOW, 0.22), (FAST, FAST, 0.8), (SLOW, SLOW, 0.2), (FAST, FAST, 0.8), texts=(0, 1, 0, 1))
    found = beside(candidate, baseline).at_one_pace
    assert [u.text_index for cell in found.baseline for u in cell.utterances] == [0, 0]
    assert [u.text_index for cell in found.candidate for u in cell.utterances] == [0, 0]
    other_text = spoken((SLOW, SLOW, 0.9), (FAST, FAST, 0.2), texts=(1, 0))
    one_text = spoken((SLOW, SLOW, 0.2), (FAST, FAST, 0.8), texts=(0, 1))
    assert beside(other_text, one_text).void


@pytest.mark.parametrize("unknown", [(None, None, 0.4), (None, None, 0.3)])
def test_where_a_side_knows_no_pace_or_there_is_one_all_counts(spoken: Callable[..., Cell], unknown: Told) -> None:
    known = spoken((SLOW, SLOW, 0.41), (FAST, FAST, 0.37))
    for candidate, baseline in ((spoken(unknown, unknown), known), (known, spoken(unknown))):
        assert paces.alike((candidate,), (baseline,)) == ((candidate,), (baseline,))
    # The chain of kernels differs by up to 6 % between processes at one speed.
    one, other = spoken((1021.0, 1023.0, 0.41)), spoken((1068.0, 1070.0, 0.40), (1066.0, 1067.0, 0.40))
    assert paces.alike((one,), (other,)) == ((one,), (other,))


def test_a_call_without_a_time_is_not_hidden_by_its_pace(spoken: Callable[..., Cell]) -> None:
    broken = spoken((SLOW, SLOW, math.nan), (FAST, FAST, 0.37))
    pair = beside(spoken((FAST, FAST, 0.37)), broken)
    assert math.isnan(pair.at_one_pace.difference(metrics.RTF))


def test_of_whole_series_processes_at_another_pace_are_left_out(spoken: Callable[..., Cell]) -> None:
    slow, fast = spoken((SLOW, SLOW, 0.41)), spoken((FAST, FAST, 0.37))
    candidate, baseline = paces.alike((slow, fast), (fast, fast))
    assert (candidate, baseline) == ((fast,), (fast,))


def test_pairs_of_the_same_speeds_stay_as_they_are(spoken: Callable[..., Cell]) -> None:
    restless = [spoken((SLOW, SLOW, 0.41), (SLOW, FAST, 0.40), (FAST, FAST, 0.37), process=n) for n in range(3)]
    pairing = pair_up(restless, restless)
    assert len(pairing.valid) == 3
    assert pairing.left_out == (12, 18)
    assert all(pair.difference(metrics.RTF) == 0 for pair in pairing.valid)


def test_what_is_counted_is_counted_over_all_utterances(spoken: Callable[..., Cell]) -> None:
    """Half of the utterances have half of the tokens, which is no change of the code."""
    calm = [spoken((FAST, FAST, 0.37), (FAST, FAST, 0.37), process=n) for n in range(5)]
    restless = [*calm[:2], *(spoken((SLOW, SLOW, 0.41), (FAST, FAST, 0.37), process=n) for n in range(2, 5))]
    found = comparison.whole(pair_up(restless, calm))
    assert found.judgements["rtf"].verdict is Verdict.SAME
    [tokens] = [change for change in found.counts if change.count.name == "tokens"]
    assert (tokens.change, tokens.reason) == (Change.EQUAL, "")
