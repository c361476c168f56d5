from __future__ import annotations

import math
from typing import Any

import pytest

from ttsbench.reports import metrics
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.tables import words


def judged(verdict: Verdict, ratio: float, low: float, high: float, **changes: Any) -> Judgement:
    return Judgement(verdict, 7, 0.03, ratio, low, high, **changes)


@pytest.mark.parametrize(
    ("figure", "judgement", "output"),
    [
        ("rtf", judged(Verdict.SLOWER, 1.102, 1.098, 1.106), "RTF 10.2% more (9.8% to 10.6%)"),
        ("rtf", judged(Verdict.FASTER, 0.96, 0.955, 0.965), "RTF 4.0% less (3.5% to 4.5%)"),
        ("rtf", judged(Verdict.FASTER, 0.25, 0.2, 0.32), "RTF 4.00× as fast (3.12× to 5.00×)"),
        ("rtf", judged(Verdict.SLOWER, 3.0, 2.5, math.inf), "RTF 3.00× as much (2.50× to without limit)"),
        ("peak_memory_bytes", judged(Verdict.FASTER, 0.25, 0.25, 0.25), "peak memory 75.0% less (75.0% to 75.0%)"),
        ("forward_seconds", judged(Verdict.SLOWER, 1.05, 1.04, 1.06), "a forward 5.0% more (4.0% to 6.0%)"),
        (
            "rtf", judged(Verdict.SAME, 1.001, 0.999, 1.004),
            "RTF is the same, +0.1% (−0.1% to +0.4%), less than the 3% that count",
        ),
        ("rtf", judged(Verdict.SAME, 1.0, 1.0, 1.0), "RTF is the same, to the last digit"),
        (
            "joules_per_audio_second", judged(Verdict.INCONCLUSIVE, 0.98, 0.9, 1.1, reason="too wide"),
            "energy 2.0% less (−10.0% to 10.0%), but undecided: too wide",
        ),
        (
            "rtf", judged(Verdict.INCONCLUSIVE, 0.93, 0.09, 9.3, reason="2 pairs"),
            "RTF 0.93× as much (0.09× to 9.30×), but undecided: 2 pairs",
        ),
        (
            "rtf", Judgement(Verdict.INCONCLUSIVE, 1, 0.03, reason="1 of 5 pairs: too few to decide"),
            "RTF is undecided, 1 of 5 pairs: too few to decide",
        ),
    ],
)  # fmt: skip
def test_a_figure_in_words(figure: str, judgement: Judgement, output: str) -> None:
    assert words.phrase(metrics.BY_NAME[figure], judgement) == output


@pytest.mark.parametrize("ratio", [1.0001, 1.2, 1.9, 2.5, 40.0])
def test_what_is_more_one_way_is_less_or_as_fast_the_other(ratio: float) -> None:
    there = words.phrase(metrics.RTF, judged(Verdict.SLOWER, ratio, ratio * 0.99, ratio * 1.01))
    back = words.phrase(metrics.RTF, judged(Verdict.FASTER, 1 / ratio, 1 / (ratio * 1.01), 1 / (ratio * 0.99)))
    assert ("more" in there or "as much" in there) and ("less" in back or "as fast" in back)  # noqa: PT018
    assert "nan" not in there + back
