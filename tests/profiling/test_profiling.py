"""From traces to tables, on traces that are made here."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from recorded_traces import ADD, GEMM, Event, Recorded, built, eager
from ttsbench.profiling import attribution, chrome, flames, memory, tables, timeline, trace
from ttsbench.profiling.attribution import AttributedTrace, attribute
from ttsbench.profiling.trace import MARK
from ttsbench.records import profile_rows, profiles
from ttsbench.records.profile_rows import UNATTRIBUTED
from ttsbench.reports.formats import profile_files


def replayed() -> Recorded:
    """The work of `eager`, out of a graph."""
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.launch(30, 300, "cudaGraphLaunch").kernel(GEMM, 50, 20, 300).kernel(ADD, 71, 9, 300)
    return recorded


def by_name(result: AttributedTrace) -> dict[str, attribution.AttributedKernel]:
    return {kernel.event.name: kernel for kernel in result.kernels}


def test_a_kernel_belongs_to_the_stage_that_launched_it_however_late_it_runs() -> None:
    result = by_name(attribute(eager().parsed()))
    assert (result[GEMM].stage, result[GEMM].op, result[GEMM].module) == ("decode", "aten::mm", "t3.tfmr.layers.0.mlp")
    assert (result[ADD].stage, result[ADD].op, result[ADD].module) == ("cfm", "aten::add", None)


def test_replayed_kernels_have_the_stage_of_the_replay_and_no_op_of_their_own() -> None:
    result = attribute(replayed().parsed())
    assert {(kernel.stage, kernel.op, kernel.module, kernel.replayed) for kernel in result.kernels} == {
        ("decode", None, None, True)
    }
    level = {row.level: row for row in tables.coverage(result.kernels)}
    assert level["stage"].share == 1.0
    assert level["op"].share == level["module"].share == 0.0
    stage = tables.stages(result, timeline.find_waits(result), {}, {}, {})[0]
    assert stage.busy_seconds == pytest.approx(29e-6)
    assert stage.idle_seconds == pytest.approx(1e-6)
    assert {row.op for row in tables.kernels(result)} == {UNATTRIBUTED}
    assert [row.name for row in tables.ops(result) if row.self_device_seconds] == [UNATTRIBUTED]


def test_the_eager_twin_says_what_replayed_kernels_are() -> None:
    twin = eager()
    twin.op("aten::add", 72, 8, 9).launch(74, 109).kernel(ADD, 130, 9, 109)
    result = attribute(replayed().parsed(), attribute(twin.parsed()))
    gemm, add = by_name(result)[GEMM], by_name(result)[ADD]
    assert (gemm.op, gemm.module, gemm.by_twin) == ("aten::mm", "t3.tfmr.layers.0.mlp", frozenset({"op", "module"}))
    assert (add.op, add.module) == ("aten::add", "t3.tfmr"), "not the one of the stage cfm"
    assert gemm.cost is not None
    assert gemm.cost.operations == 2 * 2 * 64 * 32
    assert next(row for row in tables.coverage(result.kernels) if row.level == "op").twin_seconds == pytest.approx(
        29e-6
    )


@pytest.mark.parametrize(
    ("launched", "modules"),
    [(1, ["t3.layers.0", "t3.layers.1"]), (2, [None] * 4)], ids=["as many", "more"],
)  # fmt: skip
def test_kernels_of_one_name_are_laid_beside_those_as_far_along(launched: int, modules: list[str | None]) -> None:
    """Where there are more or fewer than in the twin, nobody knows which is which."""
    twin = Recorded().mark("decode", 0).mark("end", 100)
    for layer in (0, 1):
        twin.module(f"t3.layers.{layer}", 10 + 40 * layer, 30).op("aten::mm", 12 + 40 * layer, 20)
        twin.launch(15 + 40 * layer, layer + 1).kernel(GEMM, 20 + 40 * layer, 5, layer + 1)
    graph = Recorded().mark("decode", 0).mark("end", 100)
    for step in (0, 1):
        graph.launch(50 * step + 1, step + 1, "cudaGraphLaunch")
        for number in range(launched):
            graph.kernel(GEMM, 50 * step + 10 * (number + 1), 5, step + 1)
    result = attribute(graph.parsed(), attribute(twin.parsed()))
    assert [kernel.module for kernel in result.kernels] == modules


def test_what_was_recorded_and_left_out_shows_in_the_reconciliation() -> None:
    recorded = eager().launch(-50, 77).kernel(GEMM, 150, 50, 77)
    assert any(row.flagged for row in built(recorded).reconciliation)


def test_a_kernel_whose_launch_is_unknown_counts_against_the_coverage() -> None:
    recorded = eager().kernel("mystery", 170, 30, 999)
    result = attribute(recorded.parsed())
    assert next(row for row in tables.coverage(result.kernels) if row.level == "stage").share == pytest.approx(0.7)
    assert tables.stages(result, [], {}, {}, {})[-1].name == UNATTRIBUTED


def test_a_kernel_launched_before_the_window_is_none_of_it() -> None:
    recorded = eager().launch(-20, 50).kernel("before", 1, 9, 50)
    assert "before" not in by_name(attribute(recorded.parsed()))


def test_a_kernel_without_a_recorded_launch_is_found_by_its_ops_number() -> None:
    recorded = eager().add("kernel", "by_number", 190, 5, correlation=77, stream=7, **{"External id": 3})
    assert by_name(attribute(recorded.parsed()))["by_number"].op == "aten::add"


def test_what_runs_between_two_kernels_of_a_stage_is_of_that_stage() -> None:
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.launch(1, 1).launch(50, 2).launch(110, 3)
    recorded.kernel("a", 5, 5, 1).kernel("between", 20, 5, 901).kernel("b", 60, 5, 2)
    recorded.kernel("at the border", 80, 5, 902).kernel("c", 120, 5, 3)
    stages = {name: kernel.stage for name, kernel in by_name(attribute(recorded.parsed())).items()}
    assert stages == {"a": "decode", "between": "decode", "b": "decode", "at the border": None, "c": "cfm"}


def test_a_triton_kernel_that_python_launches_has_its_module_and_no_op() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).module("t3.tfmr.norm", 5, 50)
    recorded.launch(10, 1, "cuLaunchKernelEx").kernel("_rms_norm_forward_kernel", 20, 5, 1)
    (kernel,) = attribute(recorded.parsed()).kernels
    assert (kernel.op, kernel.module) == (attribution.DIRECT, "t3.tfmr.norm")


def test_a_call_of_the_driver_within_one_of_the_runtime_is_no_second_launch() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).launch(10, 1, length=9.0).launch(12, 2, "cuLaunchKernel")
    assert tables.driver_calls(attribute(recorded.parsed()))["decode"]["launches"] == 1


def test_gaps_belong_to_the_kernel_that_ends_them_and_are_host_bound_until_it_is_launched() -> None:
    result = attribute(eager().parsed())
    (wait,) = timeline.find_waits(result)
    assert wait.seconds == pytest.approx(30e-6)
    assert wait.after.stage == "cfm"
    assert wait.host_bound_seconds == 0.0, "launched at 115, while the kernel before kernel until 120"
    late = Recorded().mark("decode", 0).mark("end", 200).launch(1, 1).kernel("a", 5, 10, 1)
    late.op("aten::item", 20, 60, 5).launch(100, 2, length=5.0).kernel("b", 120, 10, 2)
    waits = timeline.find_waits(attribute(late.parsed()))
    assert waits[0].host_bound_seconds == pytest.approx(90e-6), "from 15 until the launch returned at 105"
    (gap,) = timeline.largest_gaps(attribute(late.parsed()), waits)
    assert (gap.before, gap.after, gap.host) == ("a", "b", "aten::item")


def test_overlapping_streams_are_busy_once() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).launch(1, 1).launch(4, 2)
    recorded.kernel("a", 10, 40, 1).kernel("b", 20, 10, 2, stream=8)
    result = attribute(recorded.parsed())
    assert timeline.union_seconds(result.kernels) == pytest.approx(40e-6)
    assert timeline.find_waits(result) == []


def test_a_modules_forward_is_cut_where_a_stage_begins_and_counts_once() -> None:
    recorded = Recorded().mark("flow_encoder", 0).mark("cfm", 20).mark("end", 100).module("s3gen.flow.decoder", 10, 80)
    rows = tables.modules(attribute(recorded.parsed()), {"s3gen.flow.decoder": "CausalConditionalCFM"})
    assert {row.stage: row.calls for row in rows} == {"flow_encoder": 0, "cfm": 1}
    seconds = {row.stage: row.total_host_seconds for row in rows}
    assert seconds == pytest.approx({"flow_encoder": 10e-6, "cfm": 70e-6})


def test_calls_of_the_driver_are_counted_by_stage() -> None:
    recorded = eager().launch(40, 5, "cudaStreamSynchronize").launch(45, 6, "cuLaunchKernelEx").launch(
        150, 7, "cudaGraphLaunch"
    )  # fmt: skip
    calls = tables.driver_calls(attribute(recorded.parsed()))
    assert calls["decode"] == {"graph_launches": 0, "launches": 2, "syncs": 1}
    assert calls["cfm"]["graph_launches"] == 1


def test_every_table_adds_up_to_the_raw_intervals() -> None:
    recorded = eager().add("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 180, 4, correlation=105, bytes=4, stream=7)
    recorded.launch(176, 105, "cudaMemcpyAsync").kernel("mystery", 170, 3, 999)
    profile = built(recorded)
    assert {row.table for row in profile.reconciliation} == {"stages", "ops", "modules", "kernels"}
    assert all(row.mismatch < 1e-9 for row in profile.reconciliation)
    assert sum(row.seconds for row in profile.families) == pytest.approx(77e-6)
    off = profile_rows.Reconciliation("ops", 0.97, 1.0)
    assert off.flagged
    assert not profile_rows.Reconciliation("ops", 0.99, 1.0).flagged


def test_a_profile_reads_back_as_it_was_written(tmp_path: Path) -> None:
    profile = built(eager())
    profiles.write(tmp_path, profile)
    assert profiles.read(tmp_path) == profile


def test_flames_hold_all_the_time_there_is() -> None:
    result = flames.flames(attribute(eager().parsed()))
    host = [flame for flame in result if flame.kind == "host"]
    assert sum(flame.microseconds for flame in host) == pytest.approx(200)
    device = {flame.path: flame.microseconds for flame in result if flame.kind == "device"}
    assert device["decode", "t3", "tfmr", "layers.*", "mlp", "aten::mm", GEMM] == pytest.approx(60)
    text = profile_files.collapsed(result, "device")
    assert f"decode;t3;tfmr;layers.*;mlp;aten::mm;{GEMM} 60\n" in text


def test_a_path_that_is_not_kept_is_counted_at_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flames, "PATHS_MAX", 2)
    kept = flames._kept("host", {("a",): 5.0, ("a", "b"): 3.0, ("a", "c"): 1.0, ("d", "e"): 0.5})
    assert {flame.path: flame.microseconds for flame in kept} == {("a",): 6e6, ("a", "b"): 3e6, ("d",): 0.5e6}


def test_ops_agree_with_key_averages() -> None:
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    from ttsbench.profiling import collect

    module = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.GELU(), torch.nn.LayerNorm(16))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        with record_function(MARK + "decode"):
            pass
        for _ in range(3):
            module(torch.randn(4, 16)).softmax(-1).cumsum(0)
        with record_function(MARK + "end"):
            pass
    ours = {row.name: row for row in tables.ops(attribute(trace.parse(collect.export(profiler))))}
    theirs = {row.key: row for row in profiler.key_averages() if row.key.startswith("aten::")}
    assert set(ours) == set(theirs)
    for name, row in theirs.items():
        assert ours[name].calls == row.count
        assert ours[name].self_host_seconds == pytest.approx(row.self_cpu_time_total * 1e-6, abs=2e-6)
        assert ours[name].total_host_seconds == pytest.approx(row.cpu_time_total * 1e-6, abs=2e-6)


def test_an_op_that_calls_itself_is_one_call() -> None:
    recorded = Recorded().mark("decode", 0).mark("end", 90).op("aten::sort", 10, 40).op("aten::sort", 15, 30)
    (row,) = tables.ops(attribute(recorded.parsed()))
    assert (row.calls, row.stages) == (1, {"decode": 1})
    assert row.self_host_seconds == row.total_host_seconds == pytest.approx(40e-6)


def test_the_allocators_history_becomes_a_timeline_and_a_breakdown() -> None:
    def event(action: str, size: int, at: int) -> Event:
        return {"action": action, "size": size, "time_us": at, "addr": 0}

    snapshot = {
        "segments": [
            {"total_size": 1000, "allocated_size": 900, "segment_pool_id": (0, 0)},
            {"total_size": 300, "allocated_size": 40, "segment_pool_id": (0, 1)},
        ],
        "device_traces": [
            [event("alloc", 50, 5), event("alloc", 200, 15), event("free_requested", 200, 17),
             event("free_completed", 200, 18), event("alloc", 100, 25), event("segment_alloc", 999, 26)],
        ],
    }  # fmt: skip
    marks = [(10.0, "prefill"), (20.0, "decode"), (30.0, "end")]
    result = memory.from_snapshot(snapshot, marks, allocated_bytes=600, weights_bytes=400, kv_cache_bytes=50)
    assert result.peak_bytes == 800
    assert result.stage_peaks == {"prefill": 800, "decode": 700}
    parts = {part.name: part.bytes for part in result.breakdown}
    assert parts == {"weights": 400, "kv_cache": 50, "graph_pools": 300, "activations": 310}
    assert result.reserved_bytes == 1300


def test_a_long_timeline_keeps_its_peaks() -> None:
    changes = [(float(moment), 1 if moment % 2 else -1) for moment in range(1, 10_000)]
    changes[5000] = (5001.0, 5000)
    result = memory.from_changes(changes, [(0.0, "decode"), (2e4, "end")], weights_bytes=10, kv_cache_bytes=None)
    assert len(result.timeline) <= profile_rows.POINTS_MAX
    assert max(point.allocated_bytes for point in result.timeline) == result.peak_bytes > 5000


def long_trace() -> dict[str, Any]:
    recorded = Recorded().add("user_annotation", "ProfilerStep#1", 0, 20_000).mark("decode", 1)
    for number in range(4000):
        recorded.op(f"aten::{'xyz'[number % 3] * (number % 37)}{hash(str(number))}", 2 + number * 4, 3)
    recorded.events.append({"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}})
    return recorded.mark("end", 19_000).chrome


def test_a_trace_that_is_too_large_is_cut_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    assert chrome.write(long_trace(), path) == ""
    whole = path.stat().st_size
    note = chrome.write(long_trace(), path, bytes_max=whole // 3)
    assert "cut" in note
    assert path.stat().st_size <= whole // 3
    kept = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert 500 < len(kept) < 3000
    step = next(event for event in kept if event["name"].startswith("ProfilerStep#"))
    last = max(event["ts"] + event["dur"] for event in kept if event["ph"] == "X")
    assert step["ts"] + step["dur"] == last < 19_000
    assert any(event["ph"] == "M" for event in kept)


def test_without_room_no_half_of_a_trace_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(OSError, match="No space left"):
        chrome.write(eager().chrome, tmp_path / "trace.json.gz")
    assert list(tmp_path.iterdir()) == []


def no_room(descriptor: int) -> None:
    raise OSError(28, "No space left on device")
