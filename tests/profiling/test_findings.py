"""What a profile says is amiss, and the files and words that say it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recorded_traces import ADD, GEMM, built, eager
from ttsbench.profiling import findings
from ttsbench.records import profile_rows, profiles
from ttsbench.records.profiles import Profile
from ttsbench.reports.formats import profile_files
from ttsbench.reports.tables import profile_summary

Change = Callable[[Profile], Profile]


def upstream() -> Profile:
    """A profile with every fault."""
    stage: dict[str, Any] = {"wall_seconds": 0.2, "idle_seconds": 0.1, "host_bound_seconds": 0.1}
    masks = profile_rows.ShapeCost(
        "[2, 8, 564, 64] [2, 8, 564, 64] [2, 8, 564, 64] [2, 8, 1, 564]", 140, 0.1, 0.1, "cfm"
    )
    return replace(
        built(eager()),
        header=replace(
            built(eager()).header,
            window=profiles.ProfiledWindow(
                1, 32, 1, 1.28, prompt_frames=500, speech_frames=64, hooks_before=3, hooks_after=12, calls_between=3
            ),
        ),
        stages=(
            profile_rows.Stage("decode", unprofiled_wall_seconds=0.5, share=0.5, **stage),
            profile_rows.Stage("cfm", unprofiled_wall_seconds=0.3, share=0.3, syncs=144, **stage),
            profile_rows.Stage("vocoder", unprofiled_wall_seconds=0.1, share=0.1, **stage),
            profile_rows.Stage("watermark", wall_seconds=0.1, unprofiled_wall_seconds=0.1, share=0.1),
        ),
        ops=(
            profile_rows.Op("aten::sort", 32, 0.1, 0.1, stages={"decode": 32}),
            profile_rows.Op("aten::_local_scalar_dense", 176, 0.1, 0.1, stages={"decode": 32, "cfm": 144}),
            profile_rows.Op("aten::_weight_norm_interface", 82, 0.1, 0.1, stages={"vocoder": 82}),
            profile_rows.Op("aten::scaled_dot_product_attention", 140, 0.1, 0.1, shapes=(masks,), stages={"cfm": 140}),
        ),
        decode=profile_rows.DecodeSteps(32, 0.025, 0.018, 0.005, 0.013, 0.012, 1290, 0, 1, 1, 1290, 1290, 1000),
    )


def without_op(name: str) -> Change:
    return lambda profile: replace(profile, ops=tuple(row for row in profile.ops if row.name != name))


def with_step(**changes: Any) -> Change:
    def change(profile: Profile) -> Profile:
        assert profile.decode is not None
        return replace(profile, decode=replace(profile.decode, **changes))

    return change


def with_window(**changes: int) -> Change:
    return lambda profile: replace(
        profile, header=replace(profile.header, window=replace(profile.header.window, **changes))
    )


def with_stage(name: str, **changes: Any) -> Change:
    return lambda profile: replace(
        profile, stages=tuple(replace(row, **changes) if row.name == name else row for row in profile.stages)
    )


REMEDIES: dict[str, Change] = {
    "launch_bound_decode": with_step(launches=3, graph_launches=1),
    "sync_per_step": with_step(syncs=0.25),
    "full_sort": without_op("aten::sort"),
    "mask_syncs": without_op("aten::_local_scalar_dense"),
    "dense_mask": without_op("aten::scaled_dot_product_attention"),
    "weight_norm_recomputed": without_op("aten::_weight_norm_interface"),
    "prompt_tax": with_window(prompt_frames=100, speech_frames=500),
    "watermark_on_host": with_stage("watermark", kernels=40),
    "hooks_growing": with_window(hooks_after=3),
}


def test_every_fault_is_found_and_each_has_a_remedy_here() -> None:
    result, looked_for = findings.find(upstream())
    assert {finding.id for finding in result} == set(looked_for) == set(REMEDIES)
    assert all(finding.evidence and finding.advice and finding.headline for finding in result)
    shares = [finding.share or 0.0 for finding in result]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("fault", list(REMEDIES))
def test_a_fault_that_is_mended_is_found_no_more_and_the_others_are(fault: str) -> None:
    result, looked_for = findings.find(REMEDIES[fault](upstream()))
    assert {finding.id for finding in result} == set(REMEDIES) - {fault}
    assert fault in looked_for


def test_a_mask_that_each_query_has_of_its_own_is_dense_too_and_none_is_not() -> None:
    assert findings._has_dense_mask("[2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 9]")
    assert not findings._has_dense_mask("[2, 8, 9, 64] [2, 8, 9, 64] [2, 8, 9, 64]")
    assert not findings._has_dense_mask("")


def test_a_busy_gpu_is_not_bound_by_launches() -> None:
    result, _ = findings.find(with_step(busy_seconds=0.012)(upstream()))
    assert "launch_bound_decode" not in {finding.id for finding in result}


def test_of_a_cpu_nobody_asks_what_the_gpu_waited_for() -> None:
    profile = upstream()
    _, looked_for = findings.find(replace(profile, header=replace(profile.header, device="cpu")))
    assert not {"launch_bound_decode", "sync_per_step", "watermark_on_host"} & set(looked_for)


def test_tables_are_files_with_a_line_for_each_row() -> None:
    result = profile_files.files(built(eager()))
    rows = list(csv.DictReader(io.StringIO(result["kernels.csv"].decode())))
    assert [(row["name"], row["stage"], row["family"], row["launches"]) for row in rows] == [
        (GEMM, "decode", "gemm", "1"), (ADD, "cfm", "elementwise", "1"),
    ]  # fmt: skip
    shapes = list(csv.DictReader(io.StringIO(result["ops_by_shape.csv"].decode())))
    assert {"op": "aten::mm", "shapes": "[2, 64] [64, 32]"}.items() <= shapes[0].items()
    assert {"stages.csv", "ops.csv", "modules.csv", "families.csv", "decode.csv", "roofline.csv", "coverage.csv",
            "reconciliation.csv", "gaps.csv", "stacks-host.txt", "stacks-device.txt"} <= set(result)  # fmt: skip
    assert "memory.csv" not in result


def test_parquet_holds_the_same_rows_with_their_types() -> None:
    pandas = pytest.importorskip("pandas")
    result = profile_files.files(built(eager()))
    tables = {name.removesuffix(".csv") for name in result if name.endswith(".csv")}
    assert {f"{name}.parquet" for name in tables} <= set(result)
    for name in tables:
        typed = pandas.read_parquet(io.BytesIO(result[f"{name}.parquet"]))
        plain = list(csv.reader(io.StringIO(result[f"{name}.csv"].decode())))
        assert (list(typed.columns), len(typed)) == (plain[0], len(plain) - 1)
    kernels = pandas.read_parquet(io.BytesIO(result["kernels.parquet"]))
    assert kernels["seconds"].dtype == float
    assert list(kernels["name"]) == [GEMM, ADD]


def test_the_summary_fits_a_terminal_and_says_what_to_change() -> None:
    profile = upstream()
    profile = replace(profile, findings=findings.find(profile)[0])
    text = "\n".join([*profile_summary.lede(profile), *profile_summary.findings(profile)])
    assert "×2.00" in text
    assert "decode: cuda_graph" in text
    stages, decode, *_ = profile_summary.tables(profile)
    widths = (max(map(len, column)) for column in zip(stages.header, *stages.texts, strict=True))
    assert sum(width + 2 for width in widths) <= 82  # two between columns
    assert ("kernel launches", "1,290.0") in decode.texts
    off = replace(profile, reconciliation=(profile_rows.Reconciliation("ops", 0.9, 1.0),))
    assert "The table ops differs from the raw intervals by 10.0%" in "\n".join(profile_summary.cautions(off))


def test_where_the_unprofiled_walls_are_void_nothing_that_rests_on_them_is_looked_for() -> None:
    """The watermark took 533 of 630 ms where nothing was warm, and 27 of 140 in fact."""
    profile = upstream()
    slowed = replace(profile, header=replace(profile.header, unprofiled_wall_seconds=(10.0,)))
    result, looked_for = findings.find(slowed)
    assert {"launch_bound_decode", "watermark_on_host"}.isdisjoint(looked_for)
    assert {finding.share for finding in result} == {None}
    assert {"launch_bound_decode", "watermark_on_host"} <= {finding.id for finding in findings.find(profile)[0]}
