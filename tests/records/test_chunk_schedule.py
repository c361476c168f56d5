from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttsbench.records.chunk_schedule import Cutter, Streaming


def sizes(count: int, **changes: object) -> list[int]:
    return list(itertools.islice(Streaming(**changes).sizes(), count))  # type: ignore[arg-type]


def test_chunks_grow_until_they_reach_the_cap() -> None:
    assert sizes(6, first_tokens=4, growth=2.0, cap_tokens=50) == [4, 8, 16, 32, 50, 50]
    assert sizes(4, first_tokens=3, growth=1.5, cap_tokens=50) == [3, 4, 6, 10]
    assert sizes(3, first_tokens=25, growth=1.0) == [25, 25, 25]


def test_a_buffer_of_seconds_cuts_equal_chunks() -> None:
    assert sizes(3, buffer_seconds=3.5) == [88, 88, 88]
    assert sizes(1, buffer_seconds=0.04) == [1]


def test_growth_never_overflows() -> None:
    assert sizes(5000, growth=100.0)[-1] == 64


def test_a_chunk_is_due_when_what_it_needs_ahead_is_there() -> None:
    cutter = Cutter(Streaming(first_tokens=4, growth=2.0), 9)
    assert cutter.due(0, 12) is None
    assert cutter.due(0, 13) == 4
    assert cutter.due(4, 20) is None
    assert cutter.due(4, 21) == 12


@given(
    first=st.integers(1, 40), growth=st.floats(1, 4), cap=st.integers(40, 100),
    lookahead=st.integers(0, 20), count=st.integers(1, 400), batch=st.integers(1, 9),
)  # fmt: skip
def test_where_chunks_end_does_not_depend_on_how_tokens_come(
    first: int, growth: float, cap: int, lookahead: int, count: int, batch: int
) -> None:
    def ends(arrivals: list[int]) -> list[int]:
        cutter, spoken, result = Cutter(Streaming(first, growth, cap), lookahead), 0, []
        for there in arrivals:
            while (upto := cutter.due(spoken, there)) is not None:
                spoken = upto
                result.append(upto)
        return result

    at_once, in_batches = ends([count]), ends([*range(batch, count, batch), count])
    assert at_once == in_batches
    assert at_once == sorted(set(at_once))
    assert all(end + lookahead <= count for end in at_once)


@pytest.mark.parametrize("first", [1, 7, 64])
def test_the_first_chunk_is_as_long_as_it_is_said_to_be(first: int) -> None:
    assert sizes(1, first_tokens=first) == [first]
