"""Planning: which jobs, in which order, on what, and which not. Nothing is started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ttsbench.errors import CheckpointError, UsageError
from ttsbench.model import checkpoint
from ttsbench.records import assembly
from ttsbench.records.jobs import COLD, REFERENCE, TIMED
from ttsbench.records.runs import Cell
from ttsbench.running import plan
from ttsbench.running.host import Machine
from ttsbench.running.plan import Plan
from ttsbench.scenarios import schema

CPU_ONLY = Machine(cpu_count=2, memory_bytes=8 * 2**30)
WITH_GPUS = Machine(cpu_count=2, memory_bytes=8 * 2**30, cuda_problem="", gpu_count=2, compute_capability=(9, 0))
HEAD = "name: s\nmodel: {size: tiny}\nworkload: {texts: [One short sentence.], length: {fixed: 25}}\n"
THREE = HEAD + "stacks: {upstream: {}, lean: {decode: lean}, bare: {decode: lean, watermark: 'off'}}\n"

Make = Callable[..., Plan]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A plan from YAML."""

    def planned(text: str, machine: Machine = CPU_ONLY, only: Sequence[str] = (), **overrides: object) -> Plan:
        changes = [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()]
        return plan.make(schema.parse(text, "s.yaml", tmp_path, changes), machine, only)

    return planned


def order(planned: Plan) -> list[str]:
    return [f"{job.key} {job.kind}{job.process}" for job in planned.jobs]


def test_stacks_go_forwards_then_backwards(make: Make) -> None:
    assert [job.stack for job in make(THREE, measure__processes=3).jobs] == [
        *("upstream", "lean", "bare"),
        *("bare", "lean", "upstream"),
        *("upstream", "lean", "bare"),
    ]


def test_processes_and_order_are_numbered(make: Make) -> None:
    jobs = make(THREE, measure__processes=2).jobs
    assert [job.process for job in jobs] == [0, 0, 0, 1, 1, 1]
    assert [job.order for job in jobs] == list(range(6))
    assert len({job.id for job in jobs}) == 6


def test_points_come_one_after_the_other(make: Make) -> None:
    text = THREE + "matrix: {workload.length.fixed: [25, 125]}\nmeasure: {processes: 2}\n"
    jobs = make(text).jobs
    assert [job.fixed_tokens for job in jobs] == [25] * 6 + [125] * 6
    assert [job.stack for job in jobs[6:]] == ["upstream", "lean", "bare", "bare", "lean", "upstream"]


CHUNKS = (
    HEAD + "stacks: {upstream: {}, windowed: {stream: windowed}}\nmeasure: {processes: 2}\n"
    "matrix: {workload.streaming.buffer_seconds: [0.6, 3.5], workload.seed: [1, 2]}\n"
)


def test_a_point_that_cannot_change_a_stack_is_not_measured_again(make: Make) -> None:
    """Upstream does not stream: of its four cells two are the same work as the other two."""
    planned = make(CHUNKS)
    assert sum(job.stack == "windowed" for job in planned.jobs) == 8
    assert {job.key for job in planned.jobs if job.stack == "upstream"} == {
        f"upstream|workload.streaming.buffer_seconds=0.6|workload.seed={seed}" for seed in (1, 2)
    }
    [first, _] = planned.refused
    assert first.key == "upstream|workload.streaming.buffer_seconds=3.5|workload.seed=1"
    assert "measured as upstream|workload.streaming.buffer_seconds=0.6|workload.seed=1" in first.reason
    only = make(CHUNKS, only=["upstream|*3.5*"])
    assert [job.point["workload.streaming.buffer_seconds"] for job in only.jobs] == [3.5] * 4
    assert not only.refused


def test_its_rows_stand_at_every_point_of_the_record(make: Make, make_cell: Callable[..., Cell]) -> None:
    planned = make(CHUNKS)
    fields = ("key", "kind", "stack", "point", "process", "order")
    rows = [make_cell(**{name: getattr(job, name) for name in fields}) for job in planned.jobs]
    cells = list(assembly.with_shared_rows([*rows, *planned.refused]))
    assert len(cells) == 16
    assert all(cell.ok for cell in cells)
    assert len({(cell.key, cell.process) for cell in cells}) == 16
    [shared, _] = [c for c in cells if c.key == "upstream|workload.streaming.buffer_seconds=3.5|workload.seed=2"]
    assert shared.point == {"workload.streaming.buffer_seconds": 3.5, "workload.seed": 2}
    assert shared.warnings == (planned.refused[1].reason,)
    unfinished = list(assembly.with_shared_rows(planned.refused))
    assert [cell.status for cell in unfinished] == ["skipped", "skipped"]


def test_what_is_compiled_starts_cold_twice(make: Make) -> None:
    text = HEAD + "stacks: {upstream: {}, c: {decode: lean, cache: static, compile: default}}\n"
    jobs = make(text, measure="{passes: [time, cold]}").jobs
    assert [(job.stack, job.process) for job in jobs if job.kind == COLD] == [("upstream", 0), ("c", 0), ("c", 1)]


def test_the_reference_comes_first_and_one_process_is_judged(make: Make) -> None:
    text = THREE + "measure: {processes: 2, passes: [time, quality]}\n"
    jobs = make(text).jobs
    assert [job.kind for job in jobs[:2]] == [REFERENCE, TIMED]
    assert jobs[0].slots["dtype"] == "fp32"
    assert {job.reference for job in jobs} == {jobs[0].reference}
    assert [job.process for job in jobs if "quality" in job.passes and job.kind == TIMED] == [0, 0, 0]


def test_where_upstream_cannot_run_our_loop_is_the_reference(make: Make) -> None:
    text = THREE + "measure: {processes: 1, passes: [time, quality]}\n"
    assert make(text, workload__sampling="{cfg_weight: 0}").jobs[0].slots["decode"] == "lean"


def test_limits_follow_the_precision_of_a_stack(make: Make) -> None:
    text = HEAD + "stacks: {upstream: {}, half: {dtype: bf16}, s: {s3gen_dtype: bf16}}\n"
    limits = {job.stack: job.limits["kl_mean_max"] for job in make(text).jobs}
    assert limits["upstream"] < limits["half"] == limits["s"]


def test_cold_jobs_are_bare_and_last_of_their_point(make: Make) -> None:
    text = THREE + "matrix: {workload.length.fixed: [25, 125]}\nmeasure: {processes: 2, passes: [time, cold]}\n"
    jobs = make(text, only=["upstream", "lean"]).jobs
    assert [(job.fixed_tokens, job.kind) for job in jobs] == [
        *[(25, TIMED)] * 4, *[(25, COLD)] * 2, *[(125, TIMED)] * 4, *[(125, COLD)] * 2
    ]  # fmt: skip
    assert {(job.kind, job.start_method) for job in jobs} == {(TIMED, "forkserver"), (COLD, "bare")}


def test_bare_interpreters_can_be_asked_for(make: Make) -> None:
    assert {job.start_method for job in make(THREE, measure__start="bare").jobs} == {"bare"}


def test_audio_is_kept_once_per_cell(make: Make) -> None:
    jobs = make(THREE + "measure: {processes: 3, passes: [time, cold]}\n").jobs
    assert [job.id for job in jobs if job.keep_audio] == [f"{s}#timed0" for s in ("upstream", "lean", "bare")]


def test_upstream_without_guidance_is_refused_with_its_reason(make: Make) -> None:
    planned = make(THREE, workload__sampling="{cfg_weight: 0}")
    assert {job.stack for job in planned.jobs} == {"lean", "bare"}
    (cell,) = planned.refused
    assert (cell.key, cell.status, cell.process) == ("upstream", "skipped", 0)
    assert "cfg_weight 0" in cell.reason
    assert "decode: lean" in cell.reason
    assert cell.order >= len(planned.jobs)


def test_the_analyzer_cannot_be_off_in_upstream_s_loop(make: Make) -> None:
    text = HEAD + "stacks: {upstream: {}, a: {analyzer: 'off'}, b: {decode: lean, analyzer: 'off'}}\n"
    planned = make(text, model__family="multilingual")
    assert [(cell.key, cell.reason.partition(";")[0]) for cell in planned.refused] == [
        ("a", "analyzer: off needs decode: lean or cuda_graph or persistent")
    ]
    assert {job.stack for job in planned.jobs} == {"upstream", "b"}


def test_an_option_of_another_family_is_refused(make: Make) -> None:
    (cell,) = make(HEAD + "stacks: {upstream: {}, a: {decode: lean, analyzer: 'off'}}\n").refused
    assert cell.reason == "analyzer: off is for multilingual, not for chatterbox"


def test_all_can_be_refused(make: Make) -> None:
    planned = make(THREE, only=["upstream"], workload__sampling="{cfg_weight: 0}")
    assert (planned.jobs, planned.estimated_seconds) == ((), 0)


@pytest.mark.parametrize(
    ("patterns", "stacks"),
    [
        (["lean"], ["lean"]),
        (["l*"], ["lean"]),
        (["bare", "upstream"], ["upstream", "bare"]),
        (["*"], ["upstream", "lean", "bare"]),
        (["[lb]*"], ["lean", "bare"]),
    ],
)
def test_only_picks_stacks(make: Make, patterns: list[str], stacks: list[str]) -> None:
    assert [job.stack for job in make(THREE, only=patterns, measure__processes=1).jobs] == stacks


def test_only_picks_cells_by_their_keys(make: Make) -> None:
    text = THREE + "matrix: {workload.length.fixed: [25, 125]}\nmeasure: {processes: 1}\n"
    assert order(make(text, only=["lean|*=125"])) == ["lean|workload.length.fixed=125 timed0"]


def test_a_pattern_that_matches_nothing_names_the_nearest(make: Make) -> None:
    with pytest.raises(UsageError, match=r"--only leam matches no stack and no cell; did you mean 'lean'\?"):
        make(THREE, only=["upstream", "leam"])


@pytest.mark.parametrize(
    ("asked_device", "machine", "got"),
    [
        ("auto", CPU_ONLY, "cpu"), ("cpu", CPU_ONLY, "cpu"), ("cpu", WITH_GPUS, "cpu"), ("auto", WITH_GPUS, "cuda:0"),
        ("cuda", WITH_GPUS, "cuda:0"), ("cuda:1", WITH_GPUS, "cuda:1"),
    ],
)  # fmt: skip
def test_the_device_is_a_true_one(make: Make, asked_device: str, machine: Machine, got: str) -> None:
    assert {job.device for job in make(THREE, machine, device=asked_device).jobs} == {got}


def test_each_cell_has_its_own_device(make: Make) -> None:
    jobs = make(THREE + "matrix: {device: [cpu, cuda]}\nmeasure: {processes: 1}\n", WITH_GPUS).jobs
    assert [job.device for job in jobs] == ["cpu"] * 3 + ["cuda:0"] * 3


@pytest.mark.parametrize(("asked_device", "machine"), [("cuda", CPU_ONLY), ("cuda:2", WITH_GPUS)])
def test_a_device_that_is_not_there_is_refused(make: Make, asked_device: str, machine: Machine) -> None:
    with pytest.raises(UsageError, match=f"device {asked_device} is asked for"):
        make(THREE, machine, device=asked_device)


@pytest.mark.parametrize("there", [True, False])
def test_the_estimate_is_that_of_the_jobs_and_their_preparation(
    make: Make, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(checkpoint, "is_cached", lambda *_: there)
    planned = make(THREE + "matrix: {model.seed: [0, 1]}\n")
    of_jobs = [plan.job_seconds(job) for job in planned.jobs]
    assert min(of_jobs) > 0
    before = plan.FORK_SERVER_START_SECONDS + (0 if there else 2 * plan.CHECKPOINT_SECONDS["tiny"])
    assert plan.preparation_seconds(planned.jobs) == before
    assert planned.estimated_seconds == pytest.approx(sum(of_jobs) + before)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"model__size": "tiny"}, {"model__size": "full"}),
        ({"measure__repeats": 1}, {"measure__repeats": 9}),
        ({"measure__processes": 1}, {"measure__processes": 2}),
        ({"workload__length": "{fixed: 25}"}, {"workload__length": "{fixed: 250}"}),
        ({"workload__set": "5s"}, {"workload__length": "natural", "workload__set": "15s"}),
        ({"measure__passes": "[time]"}, {"measure__passes": "[time, cold]"}),
        ({"workload__voice": "checkpoint"}, {"workload__voice": "{synthetic: 6}"}),
        ({"measure__start": "forkserver"}, {"measure__start": "bare"}),
    ],
)  # fmt: skip
def test_more_work_is_estimated_to_take_longer(make: Make, less: dict[str, object], more: dict[str, object]) -> None:
    assert 0 < make(THREE, **less).estimated_seconds < make(THREE, **more).estimated_seconds


def test_a_gpu_is_estimated_faster_at_full_size(make: Make) -> None:
    seconds = [make(THREE, machine, model__size="full").estimated_seconds for machine in (WITH_GPUS, CPU_ONLY)]
    assert seconds[0] < seconds[1] / 3


def test_local_weights_are_checked_before_anything_starts(make: Make, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(CheckpointError, match=r"weights lacks .*s3gen\.safetensors"):
        make(THREE.replace("size: tiny", "weights: weights"))


def test_weights_of_cells_that_do_not_run_are_not_checked(make: Make, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    text = THREE.replace("model: {size: tiny}\n", "") + "matrix: {model.weights: [synthetic, weights]}\n"
    assert {job.weights for job in make(text, only=["*=synthetic"]).jobs} == {"synthetic"}


def test_weights_from_the_hub_are_not_fetched_for_a_plan(make: Make) -> None:
    assert {job.weights for job in make(THREE.replace("size: tiny", "weights: hub")).jobs} == {"hub"}
