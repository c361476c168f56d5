"""One tiny profile through the real worker, in this process; on a GPU those that only it can show."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ttsbench import errors
from ttsbench.instruments.clock import Timeline
from ttsbench.model.length_control import Length
from ttsbench.model.pipeline import Pipeline
from ttsbench.optimizations import registry
from ttsbench.optimizations.stacks import complete, eager_twin
from ttsbench.profiling import chrome, collect
from ttsbench.records import runs
from ttsbench.records.jobs import PROFILE, Job, ProfileJob
from ttsbench.records.profile_rows import MISMATCH_MAX
from ttsbench.records.profiles import Profile
from ttsbench.running import worker
from ttsbench.running.cells import common, utterance
from ttsbench.running.cells import profile as profile_cell

MakeJob = Callable[..., Job]
STEPS = 6
# What mends each fault that a CPU shows, and what a GPU does beside.
MENDED = {"decode": "lean", "cache": "static", "sampler": "lean", "s3gen_attention": "sdpa", "vocoder": "folded"}


@pytest.fixture
def make(make_job: MakeJob) -> MakeJob:
    """A job that profiles."""

    def job(**changes: Any) -> Job:
        window = ProfileJob("s", STEPS, **changes.pop("window", {}))
        return make_job(**{"kind": PROFILE, "slots": {}, "stack": "upstream", "window": window, **changes})

    return job


def profiled(job: Job, folder: Path) -> Profile:
    cell = worker.run(job, folder, lambda stage: None, {})
    assert (cell.status, cell.reason) == ("ok", "")
    sent = json.loads(runs.dump(runs.to_json(cell)))
    return runs.from_json(Profile, runs.from_json(runs.Cell, sent).profile)


def ids(profile: Profile) -> set[str]:
    return {finding.id for finding in profile.findings}


def test_upstream_on_a_cpu_shows_stages_modules_ops_memory_and_its_faults(make: MakeJob, tmp_path: Path) -> None:
    tensorboard = tmp_path / "tensorboard"
    window = {"memory": True, "stacks": True, "tensorboard": str(tensorboard)}
    profile = profiled(make(window=window), tmp_path)
    header = profile.header
    assert (header.stack, header.device, header.window.decode_steps, header.window.s3gen_calls) == (
        "upstream", "cpu", STEPS, 1,
    )  # fmt: skip
    assert header.inflation > 1
    walls = {stage.name: stage.wall_seconds for stage in profile.stages}
    assert {"prefill", "decode", "flow_encoder", "cfm", "vocoder", "watermark"} <= set(walls)
    assert sum(walls.values()) == pytest.approx(header.profiled_wall_seconds, rel=0.02)
    assert sum(stage.share for stage in profile.stages) == pytest.approx(1.0)
    modules = {(module.path, module.stage): module for module in profile.modules}
    head = modules["t3.speech_head", "decode"]
    assert (head.class_name, head.calls) == ("Linear", STEPS + 1), "the package reads one position more than it speaks"
    assert head.total_host_seconds > 0
    assert modules["t3.tfmr.layers.0.mlp", "decode"].calls == STEPS
    assert any(module.path.startswith("s3gen.flow.decoder.estimator.") for module in profile.modules)
    ops = {op.name: op for op in profile.ops}
    assert ops["aten::addmm"].shapes[0].shapes
    assert all(row.mismatch < MISMATCH_MAX for row in profile.reconciliation)
    assert ids(profile) == {"full_sort", "mask_syncs", "dense_mask", "weight_norm_recomputed", "prompt_tax"}
    assert "hooks_growing" in profile.looked_for
    assert profile.memory is not None
    parts = {part.name: part.bytes for part in profile.memory.breakdown}
    assert profile.memory.peak_bytes == sum(parts.values())
    assert parts["weights"] > parts["activations"] > parts["kv_cache"] > 0
    assert profile.memory.stage_peaks["decode"] > parts["weights"]
    assert profile.stage("decode") is not None
    assert any(".py" in frame for flame in profile.flames for frame in flame.path), "Python's functions were asked for"
    check_trace(tmp_path / profile_cell.TRACE)
    (copied,) = tensorboard.iterdir()
    assert copied.name.endswith(".pt.trace.json.gz")
    assert "/" not in json.loads(gzip.decompress(copied.read_bytes()))["traceName"]


def check_trace(path: Path) -> None:
    """What Perfetto and HTA need: complete events with times, threads, and the profiler's step."""
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    complete = [event for event in events if event["ph"] == "X" and event.get("pid") != "Spans"]
    assert all(isinstance(event["ts"], int | float) and event["dur"] >= 0 for event in complete)
    assert all(isinstance(event["pid"], int) and isinstance(event["tid"], int) for event in complete)
    assert any(event["name"] == "ProfilerStep#1" for event in complete)
    assert any(event.get("cat") == "cpu_op" for event in complete)


def test_a_stack_that_mends_a_fault_does_not_show_it(make: MakeJob, tmp_path: Path) -> None:
    profile = profiled(make(slots=MENDED, stack="mended"), tmp_path)
    assert ids(profile) == {"prompt_tax"}
    assert {"full_sort", "mask_syncs", "dense_mask", "weight_norm_recomputed"} <= set(profile.looked_for)


@pytest.mark.parametrize(("slots", "result"), [({}, True), ({"decode": "lean"}, False)], ids=["upstream", "lean"])
def test_the_multilingual_packages_hooks_grow_and_ours_do_not(
    make: MakeJob, tmp_path: Path, slots: dict[str, str], result: bool
) -> None:
    profile = profiled(make(family="multilingual", language="en", slots=slots), tmp_path)
    assert ("hooks_growing" in ids(profile)) == result
    assert "hooks_growing" in profile.looked_for


def test_a_stack_that_did_nothing_is_profiled_with_a_warning(
    make: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = replace(registry.BY_NAME["vocoder"], apply=lambda target, option: None)
    monkeypatch.setitem(registry.BY_NAME, "vocoder", idle)
    profile = profiled(make(slots=MENDED, stack="mended"), tmp_path)
    assert "vocoder: folded was asked for, and upstream is what ran" in profile.not_attested
    assert "weight_norm_recomputed" in ids(profile)


def test_a_trace_without_room_costs_no_table(
    make: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chrome, "write", full)
    profile = profiled(make(), tmp_path)
    assert profile.ops
    assert profile.files == ()
    assert (
        "the trace trace.json.gz could not be written: No space left on device; the tables are whole" in profile.notes
    )


@pytest.fixture(scope="module")
def pipeline(make_pipeline: Callable[..., Pipeline]) -> Pipeline:
    """Upstream's, ready to speak."""
    built = make_pipeline(texts=("Two words.",), length=Length(fixed=3))
    built.speak(0, 0)
    return built


def test_no_hook_is_left_behind(pipeline: Pipeline) -> None:
    before = common.count_hooks(pipeline)
    with collect.labelled(pipeline) as classes:
        assert common.count_hooks(pipeline) >= before + 2 * sum(path.startswith(("t3", "s3gen")) for path in classes)
        pipeline.speak(0, 0)
    assert common.count_hooks(pipeline) == before


def test_no_hook_is_left_behind_by_a_call_that_fails(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    before = common.count_hooks(pipeline)

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no memory left")

    monkeypatch.setattr(pipeline.tts.t3.tfmr.layers[1].mlp, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"), collect.labelled(pipeline):
        pipeline.speak(0, 0)
    assert common.count_hooks(pipeline) == before


def test_what_is_compiled_gets_no_label(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = complete({"compile": "default", "vocoder": "compile"})
    monkeypatch.setattr(pipeline, "slots", slots)
    paths = [path for path, _ in collect.named_modules(pipeline)]
    assert not [path for path in paths if path.startswith(("t3.tfmr", "s3gen.mel2wav"))]
    assert "t3.speech_head" in paths
    assert collect.compiled_paths(complete({"vocoder": "folded"})) == ()


def test_the_twin_runs_the_same_stack_without_graphs_and_compilers(make: MakeJob) -> None:
    graphed = {**MENDED, "decode": "cuda_graph", "compile": "default", "s3gen_graph": "exact", "vocoder": "graph"}
    assert eager_twin(graphed) == complete(MENDED)
    assert eager_twin(MENDED) is None
    job = profile_cell.bounded(make(slots={"vocoder": "compile"}), STEPS)
    twin, classes, notes = profile_cell.eager_twin(job, lambda stage: None, 0)
    assert notes == ()
    assert twin is not None
    assert {"prefill", "decode", "cfm", "vocoder"} <= set(twin.stage_walls())
    assert classes["t3.tfmr"] == "LlamaModel"


def test_every_option_that_captures_or_compiles_has_an_eager_twin() -> None:
    hiding = {
        (slot.name, option.name)
        for slot in registry.SLOTS
        for option in slot.options
        if "graph" in option.name
        or slot.name in ("compile", "s3gen_compile", "s3gen_graph")
        or option.name == "compile"
    } - {(slot, "off") for slot in ("compile", "s3gen_compile", "s3gen_graph")}
    output = {(slot.name, option.name) for slot in registry.SLOTS for option in slot.options if option.eager}
    assert hiding == output
    for slot, option in output:
        registry.BY_NAME[slot].option(registry.BY_NAME[slot].option(option).eager)
    inductor = {(slot.name, option.name) for slot in registry.SLOTS for option in slot.options if option.inductor}
    assert inductor == {(slot, option) for slot, option in output if slot.endswith("compile") or option == "compile"}


def test_a_twin_that_cannot_run_is_told_and_costs_nothing_else(make: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    monkeypatch.setattr(utterance, "prepare", fail)
    twin, classes, notes = profile_cell.eager_twin(make(slots={"vocoder": "compile"}), lambda stage: None, 0)
    assert (twin, classes) == (None, {})
    assert notes == ("no eager twin, so replayed kernels have no op and no module: CUDA out of memory",)


def test_a_gpu_that_shows_no_kernel_is_held_by_another_profiler() -> None:
    with pytest.raises(errors.CellError, match=r"another profiler .* holds CUPTI"):
        collect.window({"traceEvents": []}, torch.device("cuda:0"))
    assert collect.window({"traceEvents": []}, torch.device("cpu")).device == []


def test_a_trace_that_finds_no_room_to_be_read_from_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class HalfWritten:
        def export_chrome_trace(self, path: str) -> None:
            Path(path).write_text('{"traceEvents": [{"ph"')

    monkeypatch.setattr(collect, "SHARED_MEMORY", tmp_path)
    with pytest.raises(errors.CellError, match=r"could not be kept while it is read.*TMPDIR"):
        collect.export(HalfWritten())


@pytest.mark.parametrize(("fixed", "replay"), [(250, ()), (None, ((1,) * 99, (2,) * 99))])
def test_the_window_is_bounded(make: MakeJob, fixed: int | None, replay: tuple[tuple[int, ...], ...]) -> None:
    job = profile_cell.bounded(make(texts=("a", "b"), fixed_tokens=fixed, replay_tokens=replay, warmup=0), 32)
    assert (job.texts, job.warmup) == (("a",), profile_cell.WARMUPS_MIN)
    assert (job.fixed_tokens, tuple(map(len, job.replay_tokens))) == ((None, (32,)) if replay else (32, ()))


def test_the_window_itself_is_warm_before_it_is_timed(
    make: MakeJob, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first passes are slow, as where a length meets a plan, a kernel or a graph that is not there yet."""
    walls = iter([0.6, 0.5, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1])

    def speak_timed(text_index: int, seed: int, timeline: Timeline) -> tuple[None, float]:
        timeline.start()
        timeline.stop()
        return None, next(walls)

    monkeypatch.setattr(pipeline, "speak_timed", speak_timed)
    assert profile_cell.time_unprofiled(make(), pipeline, lambda stage: None).walls == (0.1, 0.1, 0.1)


def test_a_window_that_never_settles_is_timed_all_the_same(
    make: MakeJob, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    walls: list[float] = []

    def speak_timed(text_index: int, seed: int, timeline: Timeline) -> tuple[None, float]:
        timeline.start()
        timeline.stop()
        walls.append(0.8 ** len(walls))
        return None, walls[-1]

    monkeypatch.setattr(pipeline, "speak_timed", speak_timed)
    profile_cell.time_unprofiled(make(), pipeline, lambda stage: None)
    assert len(walls) == profile_cell.WINDOW_WARMUPS_MAX + profile_cell.UNPROFILED_REPEATS


@pytest.fixture
def traces(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A trace as it is written, in a folder as TensorBoard's plugin looks for it."""
    recorded, *_ = collect.record(pipeline, 0)
    chrome.write(recorded, tmp_path / "ttsbench_1.1.pt.trace.json.gz")
    return tmp_path


def test_tensorboards_plugin_loads_the_trace(traces: Path) -> None:
    loading = pytest.importorskip("torch_tb_profiler.profiler.loader")
    cache = pytest.importorskip("torch_tb_profiler.io.cache")
    (profile,) = loading.RunLoader("run", str(traces), cache.Cache()).load().profiles.values()
    assert profile.overview["steps"]["rows"]


def test_hta_loads_the_trace(traces: Path) -> None:
    analysis = pytest.importorskip("hta.trace_analysis")
    (file,) = traces.iterdir()
    result = analysis.TraceAnalysis(trace_files={0: str(file)}, trace_dir=str(traces))
    assert len(result.t.get_trace(0)) > 1000
    assert list(result.t.get_iterations()) == [1]


GRAPHED = {**MENDED, "decode": "cuda_graph", "s3gen_graph": "exact", "vocoder": "graph"}
COMPILED = {**MENDED, "compile": "default", "s3gen_compile": "default", "vocoder": "compile"}


@pytest.mark.gpu
@pytest.mark.parametrize("slots", [{}, MENDED, COMPILED, GRAPHED, {**GRAPHED, "compile": "default"}], ids=str)
def test_gpu_time_is_attributed_to_stages(make: MakeJob, tmp_path: Path, slots: dict[str, str]) -> None:
    job = make(slots=slots, device="cuda:0", window={"memory": True}, timeout_seconds=600.0)
    profile = profiled(job, tmp_path)
    level = {row.level: row for row in profile.coverage}
    assert level["stage"].total_seconds > 0
    assert level["stage"].share >= 0.97
    assert not [row.table for row in profile.reconciliation if row.flagged]
    decode = profile.stage("decode")
    assert decode is not None
    assert decode.busy_seconds > 0
    replayed = sum(kernel.replayed for kernel in profile.kernels if kernel.stage == "decode")
    assert bool(replayed) == (slots.get("decode") == "cuda_graph")
    if slots == GRAPHED:
        assert level["op"].twin_seconds > 0
        assert level["op"].share > 0.8
    assert profile.roofline is not None
    shares = [point.limit_share for point in profile.roofline.points if point.kind == "stage"]
    assert shares
    assert all(0 < share < 1.1 for share in shares)
    assert profile.memory is not None
    parts = {part.name: part.bytes for part in profile.memory.breakdown}
    assert parts["weights"] > 0
    assert ("graph_pools" in parts) == ("graph" in str(slots.values()))


@pytest.mark.gpu
def test_gpu_findings_of_upstream_at_full_size(make: MakeJob, tmp_path: Path) -> None:
    job = replace(make(size="full", device="cuda:0", timeout_seconds=900.0), voice_seconds=10.0)
    job = replace(job, window=ProfileJob("s", 32))
    profile = profiled(job, tmp_path)
    expected = {"launch_bound_decode", "sync_per_step", "full_sort", "mask_syncs", "prompt_tax", "watermark_on_host"}
    assert ids(profile) >= expected | {"dense_mask", "weight_norm_recomputed"}
    assert {row.level: row.share for row in profile.coverage}["stage"] >= 0.97


@pytest.mark.gpu
def test_gpu_findings_that_a_stack_mended_are_gone_at_full_size(make: MakeJob, tmp_path: Path) -> None:
    slots = {**GRAPHED, "watermark": "gpu"}
    job = replace(make(size="full", slots=slots, device="cuda:0"), voice_seconds=10.0, window=ProfileJob("s", 32))
    assert ids(profiled(job, tmp_path)) <= {"prompt_tax"}
