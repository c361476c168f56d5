from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ttsbench.records.measurements import Guard, Memory, StageTime, Utterance
from ttsbench.records.runs import Cell
from ttsbench.reports import metrics, readings
from ttsbench.reports.decide import comparison, decision, exact_counts
from ttsbench.reports.decide.decision import Verdict
from ttsbench.reports.decide.pairing import Pair, Pairing, pair_of, pair_up, pairs_needed
from ttsbench.reports.decide.steadiness import speed_trends
from ttsbench.reports.tables import words

MakeCell = Callable[..., Cell]
MakeCells = Callable[..., tuple[Cell, ...]]
Walls = Callable[..., tuple[float, ...]]

shifts = st.floats(-0.5, 0.5)
noises = st.lists(st.floats(-0.1, 0.1), min_size=0, max_size=20)
figures = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.none(), st.floats(0.1, 10.0))
STEADY = (0.0, 0.004, -0.003, 0.002, -0.004, 0.001, 0.003)
# How long examples take to be drawn depends on other work on the machine.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def mirrored(verdict: Verdict) -> Verdict:
    """As it is with the sides in each other's place."""
    return {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}.get(verdict, verdict)


def ln(ratio: float, noise: Sequence[float] = STEADY) -> list[float]:
    return [math.log(ratio) + d for d in noise]


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.0, Verdict.SAME),
        (1.01, Verdict.SAME),
        (0.99, Verdict.SAME),
        (1.06, Verdict.SLOWER),
        (0.94, Verdict.FASTER),
        (1.03, Verdict.INCONCLUSIVE),
    ],
)
def test_a_clear_difference_has_its_verdict(ratio: float, verdict: Verdict) -> None:
    result = decision.judge(ln(ratio))
    assert result.verdict is verdict
    assert result.low < result.ratio < result.high
    assert result.ratio == pytest.approx(ratio, rel=2e-3)


def test_the_interval_is_students() -> None:
    from scipy import stats

    noise = [0.01, -0.02, 0.03, 0.0, 0.015]
    low, high = stats.t.interval(0.95, 4, loc=sum(noise) / 5, scale=stats.sem(noise))
    result = decision.judge(noise)
    assert (math.log(result.low), math.log(result.high)) == pytest.approx((low, high))


def test_noise_makes_it_inconclusive_and_the_report_says_what_could_have_been_seen() -> None:
    result = decision.judge(ln(1.05, [0.1, -0.1, 0.12, -0.08, 0.02]))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.mde > 0.1
    assert "crosses a limit" in result.reason


def test_what_the_mde_names_is_found_about_four_times_of_five() -> None:
    import random

    draw = random.Random(1)
    noise = [[draw.gauss(0, 0.02) for _ in range(9)] for _ in range(800)]
    mde = sum(decision.judge(values).mde for values in noise) / len(noise)
    result = sum(decision.judge(ln(1 + mde, values)).verdict is Verdict.SLOWER for values in noise)
    assert 0.7 < result / len(noise) < 0.9


@relaxed
@given(noises)
def test_fewer_than_five_pairs_say_nothing(noise: list[float]) -> None:
    assert decision.judge(noise[:4]).verdict is Verdict.INCONCLUSIVE


@relaxed
@given(st.integers(5, 20), shifts.filter(lambda shift: shift != 0))
def test_pairs_that_all_differ_by_the_same_are_no_measurement(pairs: int, shift: float) -> None:
    assert decision.judge([shift] * pairs).verdict is Verdict.INCONCLUSIVE


@relaxed
@given(st.integers(5, 20))
def test_pairs_that_do_not_differ_are_the_same(pairs: int) -> None:
    assert decision.judge([0.0] * pairs).verdict is Verdict.SAME


@relaxed
@given(st.lists(figures, min_size=5, max_size=15), st.data())
def test_a_figure_that_is_missing_or_no_number_prevents_a_verdict(baseline: list[Any], data: st.DataObject) -> None:
    candidate = [data.draw(figures) for _ in baseline]
    differences = [decision.log_ratio(c, b) for c, b in zip(candidate, baseline, strict=True)]
    result = decision.judge(differences)
    if not all(map(math.isfinite, differences)):
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "no figure" in result.reason


@relaxed
@given(noises, shifts, st.floats(0, 0.2))
def test_swapped_sides_have_the_mirrored_verdict(noise: list[float], shift: float, floor: float) -> None:
    there = {"a": [shift + d for d in noise], "b": noise}
    back = {name: [-d for d in values] for name, values in there.items()}
    limits = dict.fromkeys(there, decision.threshold(floor))
    for decide in (decision.look, decision.decide):
        item, other = decide(there, limits), decide(back, limits)
        assert {n: j.verdict for n, j in item.items()} == {n: mirrored(j.verdict) for n, j in other.items()}


@relaxed
@given(noises, shifts, shifts)
def test_the_verdict_follows_the_size_of_the_change(noise: list[float], item: float, other: float) -> None:
    order = [Verdict.FASTER, Verdict.SAME, Verdict.SLOWER]
    low, high = (decision.judge([shift + d for d in noise]).verdict for shift in sorted((item, other)))
    if Verdict.INCONCLUSIVE not in (low, high):
        assert order.index(low) <= order.index(high)


def test_a_floor_above_three_per_cent_widens_what_counts_as_same() -> None:
    assert decision.judge(ln(1.06), decision.threshold(0.1)).verdict is Verdict.SAME
    assert decision.threshold(0.01) == decision.THRESHOLD_MIN
    for nonsense in (math.nan, -0.1, math.inf):
        with pytest.raises(ValueError, match="a floor is"):
            decision.threshold(nonsense)


def test_looks_come_at_five_seven_and_so_on_and_the_first_verdict_stands() -> None:
    assert decision.looks(3) == [3]
    assert decision.looks(8) == [5, 7]
    assert decision.looks(40)[-1] == 15
    clear_at_first = [0.08, 0.081, 0.079, 0.08, 0.082, 0.0, 0.0, 0.0, 0.0]
    result = decision.decide({"rtf": clear_at_first})["rtf"]
    assert (result.verdict, result.pairs) == (Verdict.SLOWER, 5)
    assert decision.look({"rtf": clear_at_first})["rtf"].verdict is Verdict.INCONCLUSIVE


def test_of_many_figures_one_that_is_hardly_beyond_the_limit_does_not_count() -> None:
    hardly = ln(1.035, [0.003, -0.003, 0.004, -0.004, 0.0])
    assert decision.look({"a": hardly})["a"].verdict is Verdict.SLOWER
    crowd = {"a": hardly} | {name: ln(1.0, STEADY[:5]) for name in "bcdef"}
    result = decision.look(crowd)
    assert result["a"].verdict is Verdict.INCONCLUSIVE
    assert "Holm" in result["a"].reason
    assert result["b"].verdict is Verdict.SAME


def test_holm_gives_back_to_the_second_what_the_first_did_not_need() -> None:
    clear, hardly = ln(1.2, STEADY[:5]), ln(1.035, [0.003, -0.003, 0.004, -0.004, 0.0])
    with_clear = decision.look({"a": hardly, "b": clear})
    with_open = decision.look({"a": hardly, "b": ln(1.0, STEADY[:5])})
    assert with_clear["a"].verdict is Verdict.SLOWER
    assert with_open["a"].verdict is Verdict.INCONCLUSIVE


def test_a_pair_is_two_processes_of_one_number(make_cell: MakeCell, make_cells: MakeCells, walls: Walls) -> None:
    baseline = make_cells(walls())
    candidate = make_cells([s * 1.1 for s in reversed(walls())], "slow")
    result = pair_up(reversed(candidate), [*baseline, make_cell(kind="cold", process=9)])
    assert [(p.candidate[0].process, p.baseline[0].process) for p in result.pairs] == [(n, n) for n in range(6)]
    assert comparison.judge_recorded(result).judgements["rtf"].verdict is Verdict.SLOWER


def test_processes_without_a_counterpart_prevent_a_verdict(make_cells: MakeCells, walls: Walls) -> None:
    baseline = make_cells(walls())
    candidate = make_cells([*(s * 1.5 for s in walls()), 0.7])
    result = comparison.judge_recorded(pair_up(candidate, baseline))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "1 processes of one side" in result.judgements["rtf"].reason


@pytest.mark.parametrize(
    ("changes", "output"),
    [
        ({"guard": Guard(throttle_reasons=("hot",))}, "throttled: hot"),
        ({"guard": Guard(sm_clock_mhz_min=1500, sm_clock_mhz_max=1980)}, "from 1500 to 1980"),
        ({"guard": Guard(foreign_processes=("python",))}, "another process"),
        ({"evidence": {"compiler": {"recompilations_while_timing": 2}}}, "compiler ran 2 times"),
        ({"status": "failed", "reason": "mlp: nothing was replaced"}, "nothing was replaced"),
    ],
)
def test_what_spoils_a_process_makes_its_pair_void(make_cell: MakeCell, changes: dict[str, Any], output: str) -> None:
    for pair in (pair_of(make_cell(**changes), make_cell()), pair_of(make_cell(), make_cell(**changes))):
        assert output in pair.void[0]
    assert not pair_of(make_cell(), make_cell(guard=Guard(sm_clock_mhz_min=1950, sm_clock_mhz_max=1980))).void


def at_pace(make_cell: MakeCell, *paces_ns: float | None) -> Cell:
    cell = make_cell()
    return replace(cell, utterances=tuple(replace(cell.utterances[0], pace_ns=pace) for pace in paces_ns))


def test_a_device_at_two_paces_makes_a_pair_void(make_cell: MakeCell) -> None:
    slow, fast = at_pace(make_cell, 1066.0, 1054.0, 1058.0), at_pace(make_cell, 880.0, 879.0, 879.0)
    output = "the device was at two paces: a kernel took 1054 to 1066 ns at the baseline, 879 to 880 at the candidate"
    assert pair_of(fast, slow).void == (output,)
    assert pair_of(slow, fast).void
    assert not pair_of(slow, slow).void
    assert not pair_of(fast, fast).void
    assert not replace(pair_of(fast, slow), one_device=False).void


def test_a_pace_of_another_stack_says_nothing(make_cell: MakeCell) -> None:
    """The chain takes 847 ns beside one stack and 965 beside another, whatever the device's speed."""
    here, there = at_pace(make_cell, 847.0, 849.0), at_pace(make_cell, 964.0, 965.0)
    assert pair_of(here, there).void
    assert not pair_of(here, replace(there, stack="int4")).void


@pytest.mark.parametrize(("item", "other"), [(1015.0, 1073.0), (839.0, 893.0)])
def test_a_pace_that_differs_as_from_process_to_process_makes_no_pair_void(
    make_cell: MakeCell, item: float, other: float
) -> None:
    assert not pair_of(at_pace(make_cell, item, item), at_pace(make_cell, other, other)).void


def test_the_nearest_that_two_paces_of_an_h200_came_makes_a_pair_void(make_cell: MakeCell) -> None:
    assert pair_of(at_pace(make_cell, 893.0, 893.0), at_pace(make_cell, 1015.0, 1015.0)).void


def test_a_pace_that_is_not_known_makes_no_pair_void(make_cell: MakeCell) -> None:
    slow = at_pace(make_cell, 1066.0, 1054.0, 1058.0)
    assert not pair_of(at_pace(make_cell, None, None), slow).void
    assert not pair_of(at_pace(make_cell, 0.0, -1.0), slow).void
    assert not pair_of(make_cell(utterances=()), slow).void


def test_a_void_pair_is_tried_twice_again_and_then_given_up(make_cell: MakeCell) -> None:
    good, void = pair_of(make_cell(), make_cell()), pair_of(make_cell(status="crashed", reason="killed"), make_cell())
    assert pairs_needed([], 5).count == 5
    assert pairs_needed([good, void, good], 5).count == 3
    assert pairs_needed([void, void, good, void, void], 5) == pairs_needed([good], 5)
    given_up = pairs_needed([good, void, void, void], 5)
    assert given_up.count == 0
    assert "pair 2 was void 3 times" in given_up.given_up


def test_a_series_grows_until_all_is_decided(make_cells: MakeCells) -> None:
    noisy = [0.5, 0.58, 0.43, 0.55, 0.47, 0.5, 0.6, 0.41, 0.5, 0.5, 0.55, 0.45, 0.52, 0.48, 0.5]
    baseline = make_cells([0.5 + 1e-4 * (n % 3) for n in range(15)])
    pairs = pair_up(make_cells(noisy), baseline).pairs
    assert comparison.judge_series(()).needed.count == 5
    assert comparison.judge_series(pairs[:5]).needed.count == 2
    assert comparison.judge_series(pairs).needed.count == 0
    assert comparison.judge_series(pairs).verdict is Verdict.INCONCLUSIVE
    clear = pair_up(make_cells([0.6] * 5), baseline[:5]).pairs
    assert comparison.judge_series(clear).needed.count == 0
    assert comparison.judge_series(clear).verdict is Verdict.SLOWER


def test_a_stack_that_slows_down_with_use_has_no_verdict_either_way(
    make_cell: MakeCell, make_utterance: Callable[..., Utterance], make_cells: MakeCells, walls: Walls
) -> None:
    def leaking(process: int) -> Cell:
        calls = (make_utterance(wall_seconds=0.5 * (1.03 + 1e-4 * process) ** n) for n in range(8))
        return make_cell(process=process, utterances=tuple(calls))

    leak, steady = [leaking(n) for n in range(6)], make_cells(walls())
    assert speed_trends(leak).unsteady
    assert speed_trends(steady).steady
    for pairing in (pair_up(leak, steady), pair_up(steady, leak)):
        assert comparison.judge_recorded(pairing).verdict is Verdict.INCONCLUSIVE


def test_counts_are_compared_to_the_last_one(make_cell: MakeCell) -> None:
    def counting(launches: float, allocated: int = 100, **changes: Any) -> Cell:
        evidence = {"activity": {"decode_per_step": {"launches": launches}}, "compiler": {"graph_breaks": 0}}
        return make_cell(evidence=evidence, memory=Memory(1, 1, allocated_peak_bytes=allocated), **changes)

    def changed(candidate: list[Cell], baseline: list[Cell]) -> dict[str, exact_counts.CountVerdict]:
        return {change.count.name: change.verdict for change in exact_counts.changes(candidate, baseline)}

    result = changed([counting(11, 99)] * 2, [counting(10)] * 2)
    assert result["decode_per_step.launches"] is exact_counts.CountVerdict.MORE
    assert result["allocated_peak_bytes"] is exact_counts.CountVerdict.FEWER
    assert result["graph_breaks"] is result["tokens"] is exact_counts.CountVerdict.EQUAL
    assert (
        changed([counting(10), counting(11)], [counting(10)])["decode_per_step.launches"]
        is exact_counts.CountVerdict.UNCLEAR
    )
    assert changed([make_cell()], [counting(10)])["decode_per_step.launches"] is exact_counts.CountVerdict.UNCLEAR
    assert "decode_per_step.launches" not in changed([make_cell()], [make_cell()])


@pytest.mark.parametrize(
    ("allocated", "processes", "uses_more"),
    [([1040] * 5, 5, True), ([1020] * 5, 5, False), ([900] * 5, 5, False), ([1040], 1, False),
     ([1040, 1041, 1040, 1040, 1040], 5, False)],
)  # fmt: skip
def test_more_memory_on_a_gpu_is_no_better_than_more_time(
    make_cells: MakeCells, walls: Walls, allocated: list[int], processes: int, uses_more: bool
) -> None:
    def side(peaks: list[int]) -> list[Cell]:
        cells = make_cells(walls()[: len(peaks)])
        return [replace(c, memory=Memory(1, 1, allocated_peak_bytes=p)) for c, p in zip(cells, peaks, strict=True)]

    result = comparison.judge_recorded(pair_up(side(allocated), side([1000] * processes)))
    assert (result.extra_memory is not None) is uses_more
    assert (result.verdict is Verdict.SLOWER) is uses_more
    assert ("allocated memory is 4.0% more" in words.figures(result)) is uses_more
    assert (
        not uses_more
        or comparison.judge_recorded(pair_up(side([1000] * processes), side(allocated))).extra_memory is None
    )


def test_the_whole_is_as_bad_as_its_worst_figure() -> None:
    def overall(*verdicts: Verdict) -> Verdict:
        judged = {str(n): decision.Judgement(v, 5, 0.03) for n, v in enumerate(verdicts)}
        return comparison.Comparison(judged, (), Pairing(()), {}).verdict

    assert overall(Verdict.FASTER, Verdict.INCONCLUSIVE, Verdict.SLOWER) is Verdict.SLOWER
    assert overall(Verdict.FASTER, Verdict.INCONCLUSIVE) is Verdict.INCONCLUSIVE
    assert overall(Verdict.FASTER, Verdict.SAME) is Verdict.FASTER
    assert overall() is Verdict.INCONCLUSIVE


def test_without_streams_the_time_to_first_audio_is_not_counted_twice(make_cell: MakeCell) -> None:
    assert metrics.TTFA not in comparison.gating_metrics([make_cell()])
    assert metrics.TTFA in comparison.gating_metrics([make_cell(streams=True)])
    assert metrics.ENERGY not in comparison.gating_metrics([make_cell()])
    assert metrics.PEAK_MEMORY in comparison.gating_metrics([make_cell(memory=Memory(1, 1))])
    assert metrics.PEAK_MEMORY not in comparison.gating_metrics(
        [make_cell(memory=Memory(1, 1, allocated_peak_bytes=1))]
    )


RESTLESS = [0.080, 0.100, 0.086, 0.110, 0.079, 0.104, 0.083, 0.111]
DILUTED = [1.67 + 2e-3 * (n * 5 % 3) for n in range(8)]


def test_a_part_that_is_slower_makes_it_slower_where_the_whole_takes_more_but_not_surely_enough(
    make_parts: Callable[..., tuple[Cell, ...]],
) -> None:
    decode, even = metrics.DECODE.name, sorted(RESTLESS)
    open_ = comparison.judge_recorded(
        pair_up(make_parts(0.347, even), make_parts(0.33, [s + n % 2 / 99 for n, s in enumerate(even)]))
    )
    assert open_.judgements["rtf"].verdict is Verdict.INCONCLUSIVE
    assert open_.judgements[decode].verdict is open_.verdict is Verdict.SLOWER
    assert open_.slower == (metrics.DECODE,)
    swapped = comparison.judge_recorded(Pairing(tuple(Pair(p.baseline, p.candidate) for p in open_.pairing.pairs)))
    assert swapped.judgements[decode].verdict is Verdict.FASTER
    assert swapped.verdict is Verdict.INCONCLUSIVE  # an open whole keeps it from being called faster
    assert "time per token 5.2% more" in words.figures(open_)
    diluted = comparison.judge_recorded(pair_up(make_parts(0.347, DILUTED), make_parts(0.33, DILUTED)))
    assert diluted.judgements["rtf"].verdict is Verdict.SAME
    assert diluted.verdict is Verdict.SLOWER
    back = comparison.judge_recorded(pair_up(make_parts(0.33, DILUTED), make_parts(0.347, DILUTED)))
    assert back.judgements[decode].verdict is back.verdict is Verdict.FASTER


@pytest.mark.parametrize(
    ("decode", "rest", "verdict"),
    [
        (
            0.347,
            [0.3 * s for s in (0.05, 0.06, 0.055, 0.07, 0.05, 0.06, 0.055, 0.07)],
            Verdict.FASTER,
        ),  # another part has paid
        (0.347, [1.653 + 1e-3 * (n % 3) for n in range(8)], Verdict.SAME),  # and here it comes to nothing
        (0.3301, [1.67 + 1e-3 * (n % 3) for n in range(8)], Verdict.SAME),
    ],
)
def test_of_a_part_nothing_is_told_where_the_whole_takes_no_more(
    make_parts: Callable[..., tuple[Cell, ...]], decode: float, rest: list[float], verdict: Verdict
) -> None:
    baseline = make_parts(0.33, [0.08] * 8 if verdict is Verdict.FASTER else [1.67 + 1e-3 * (n % 2) for n in range(8)])
    there, back = (
        comparison.judge_recorded(pair_up(*sides))
        for sides in ((make_parts(decode, rest), baseline), (baseline, make_parts(decode, rest)))
    )
    assert there.verdict is verdict
    assert back.verdict is mirrored(verdict)
    assert {*there.judgements, *back.judgements} == {"rtf"}


def test_an_open_part_leaves_nothing_open(make_parts: Callable[..., tuple[Cell, ...]]) -> None:
    decode = [0.33, 0.45, 0.27, 0.36, 0.25, 0.41, 0.3, 0.39]
    ours = [replace(make_parts(d, [2.0 - d])[0], process=n) for n, d in enumerate(decode)]
    result = comparison.judge_recorded(pair_up(ours, make_parts(0.33, [1.67] * 8)))
    assert result.verdict is Verdict.SAME
    assert {*result.judgements} == {"rtf"}


def test_in_streams_the_parts_go_on_at_once_and_are_not_judged(make_parts: Callable[..., tuple[Cell, ...]]) -> None:
    ours, theirs = ([replace(cell, streams=True) for cell in make_parts(decode, DILUTED)] for decode in (0.347, 0.33))
    assert metrics.DECODE.name not in comparison.judge_recorded(pair_up(ours, theirs)).judgements


def test_s3gen_is_judged_for_each_second_of_audio(make_utterance: Callable[..., Utterance]) -> None:
    stages = {name: StageTime(0.02, 0.03) for name in metrics.S3GEN_STAGES}
    assert readings.s3gen_rtf(make_utterance(stages=stages, audio_seconds=2.0)) == pytest.approx(0.045)
    assert readings.s3gen_rtf(make_utterance(stages=stages, audio_seconds=0.0)) is None


def test_a_series_ends_as_soon_as_something_is_slower(make_parts: Callable[..., tuple[Cell, ...]]) -> None:
    even = sorted(RESTLESS)
    pairs = pair_up(make_parts(0.347, even), make_parts(0.33, [s + n % 2 / 99 for n, s in enumerate(even)])).pairs[:5]
    result = comparison.judge_series(pairs)
    assert result.verdict is Verdict.SLOWER
    assert not result.judgements["rtf"].decided
    assert result.needed.count == 0
    request = comparison.judge_series(pairs, only=(metrics.RTF, metrics.DECODE))
    assert request.verdict is Verdict.SLOWER
    assert request.needed.count == 2


def test_a_part_is_slower_only_if_it_is_so_again(make_parts: Callable[..., tuple[Cell, ...]]) -> None:
    slow, same = (pair_up(make_parts(decode, DILUTED), make_parts(0.33, DILUTED[::-1])) for decode in (0.347, 0.3301))
    first = comparison.judge_recorded(slow)
    again, not_again = (comparison.judge_series(result.pairs, only=first.slower) for result in (slow, same))
    assert comparison.confirmed(first, again).verdict is Verdict.SLOWER
    assert not_again.verdict is Verdict.SAME
    assert comparison.confirmed(first, not_again).verdict is Verdict.INCONCLUSIVE
    paid = pair_up(make_parts(0.347, [s - 0.02 for s in DILUTED]), make_parts(0.33, DILUTED[::-1]))
    second = comparison.judge_series(paid.pairs, only=first.slower)
    assert "not shown to differ in that direction" in second.judgements[metrics.DECODE.name].reason
    assert comparison.confirmed(first, second).verdict is Verdict.INCONCLUSIVE


calls = st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.floats(0.1, 2.0), min_size=0, max_size=5)
processes = st.lists(calls, min_size=0, max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(processes, processes)
def test_any_records_are_judged_and_swapped_ones_mirrored(
    make_cell: MakeCell, make_utterance: Callable[..., Utterance], ours: list[list[float]], theirs: list[list[float]]
) -> None:
    def cells(side: list[list[float]]) -> list[Cell]:
        return [
            make_cell(process=n, utterances=tuple(make_utterance(wall_seconds=s) for s in seconds))
            for n, seconds in enumerate(side)
        ]

    there, back = (comparison.judge_recorded(pair_up(cells(a), cells(b))) for a, b in ((ours, theirs), (theirs, ours)))
    assert {n: j.verdict for n, j in there.judgements.items()} == {
        n: mirrored(j.verdict) for n, j in back.judgements.items()
    }
    sound = all(seconds and all(0 < s < math.inf for s in seconds) for seconds in (*ours, *theirs))
    if len(ours) != len(theirs) or not sound or (len(ours) < 5 and ours != theirs):
        assert there.verdict is Verdict.INCONCLUSIVE


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(st.floats(0.1, 2.0), min_size=1, max_size=5), min_size=1, max_size=8))
def test_a_record_beside_itself_is_the_same(
    make_cell: MakeCell, make_utterance: Callable[..., Utterance], seconds: list[list[float]]
) -> None:
    cells = [
        make_cell(process=n, utterances=tuple(make_utterance(wall_seconds=s) for s in u)) for n, u in enumerate(seconds)
    ]
    assert comparison.judge_recorded(pair_up(cells, cells)).verdict is Verdict.SAME


def test_what_is_slower_has_to_be_so_again_in_a_second_series(make_cells: MakeCells, walls: Walls) -> None:
    baseline = make_cells(walls())
    slow, same = (
        comparison.judge_recorded(pair_up(make_cells([f * s for s in reversed(walls())]), baseline)) for f in (1.2, 1.0)
    )
    assert comparison.confirmed(slow, slow).verdict is Verdict.SLOWER
    assert comparison.confirmed(slow, same).verdict is Verdict.INCONCLUSIVE
    assert "not in the second" in comparison.confirmed(slow, same).judgements["rtf"].reason
    assert comparison.confirmed(same, slow).verdict is Verdict.SAME
