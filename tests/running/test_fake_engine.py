from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttsbench.errors import ScenarioError
from ttsbench.records import runs
from ttsbench.records.jobs import Fake, ForwardJob, Job
from ttsbench.records.measurements import Utterance
from ttsbench.running import fake_engine, host, plan, worker
from ttsbench.scenarios import renamed, schema
from ttsbench.scenarios.fakes import FakeEngine

ROOT = Path(__file__).parents[2]
SCENARIO = """
name: pretended
fake: %s
workload: {texts: [One., Two words.], length: {fixed: 25}}
stacks: {upstream: {}, other: {}}
measure: {processes: %d, repeats: 5}
"""


def scenario(folder: Path, processes: int, **parameters: Any) -> Path:
    path = folder / "pretended.yaml"
    path.write_text(SCENARIO % (json.dumps(parameters), processes))
    return path


def ttsbench(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As a user would call it."""
    command = [sys.executable, "-m", "ttsbench", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def run(folder: Path, processes: int = 2, **parameters: Any) -> tuple[int, Path]:
    """The exit code, and the run's folder."""
    done = ttsbench("run", scenario(folder, processes, **parameters), "--output", folder / "runs", "--quiet")
    [record] = (folder / "runs").iterdir()
    return done.returncode, record


@pytest.fixture
def make_fake(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(engine: Fake = Fake(), **changes: Any) -> Job:  # noqa: B008
        return make_job(fake=engine, slots={}, stack="other", key="other", **changes)

    return make


def test_it_runs_as_real_processes_without_torch(tmp_path: Path) -> None:
    code, folder = run(tmp_path, processes=2)
    result = runs.read_run(folder)
    assert (code, result.status, len(result.cells)) == (0, "complete", 4)
    for cell in result.cells:
        assert cell.ok
        assert cell.start_method == "bare"
        assert len(cell.utterances) == 10
        assert not cell.evidence["torch"]["imported"]


def test_a_planted_change_is_found_and_its_stage_is_named(tmp_path: Path) -> None:
    code, folder = run(tmp_path, processes=7, planted={"other": {"decode": 0.15}})
    assert code == 0
    compared = ttsbench("compare", folder)
    assert compared.returncode == 1
    assert "slower" in compared.stdout
    assert "decode took" in compared.stdout


def test_the_same_code_twice_is_the_same(tmp_path: Path) -> None:
    _, folder = run(tmp_path, processes=9, drift=0.03, spikes=0.05)
    assert ttsbench("compare", folder, "--fail-on", "slower").returncode == 0


def test_a_leak_is_told_once_and_leaves_all_open(tmp_path: Path) -> None:
    _, folder = run(tmp_path, processes=6, leak=0.02)
    compared = ttsbench("compare", folder)
    assert compared.returncode == 3
    assert compared.stdout.count("the candidate is not steady") == 1


def test_a_machine_that_is_held_back_brings_no_verdict(tmp_path: Path) -> None:
    _, folder = run(tmp_path, processes=6, throttled=1.0, planted={"other": {"wall": 1.0}})
    compared = ttsbench("compare", folder)
    assert compared.returncode == 3
    assert "6 pairs are void: candidate: throttled" in compared.stdout


def test_processes_that_crash_are_rows_and_the_run_goes_on(tmp_path: Path) -> None:
    code, folder = run(tmp_path, processes=1, crashes=1.0)
    assert code == 6
    result = runs.read_run(folder)
    assert [cell.status for cell in result.cells] == ["crashed", "crashed"]
    assert "SIGKILL" in result.cells[0].reason


def test_the_same_seed_gives_the_same_figures_and_another_does_not(make_fake: Callable[..., Job]) -> None:
    item, again, other = (fake_engine.FakeProcess(make_fake(Fake(seed=seed))).fields() for seed in (1, 1, 2))
    assert item == again
    assert item["utterances"] != other["utterances"]


def test_what_befalls_the_machine_befalls_both_stacks(make_fake: Callable[..., Job]) -> None:
    engine = Fake(process_noise=0.0, call_noise=0.0, drift=0.5)
    walls = {
        (stack, order): fake_engine.FakeProcess(replace(make_fake(engine, order=order), stack=stack)).fields()[
            "utterances"
        ][0]
        for stack in ("a", "b")
        for order in (0, 29)
    }
    assert walls["a", 29].wall_seconds == walls["b", 29].wall_seconds != walls["a", 0].wall_seconds


def share_of_decoding(utterances: Sequence[Utterance]) -> float:
    return utterances[0].stages["decode"].host_seconds / utterances[0].wall_seconds


@pytest.mark.parametrize(
    ("engine", "field", "holds"),
    [
        (Fake(throttled=1.0), "guard", lambda guard: guard.throttle_reasons and guard.sm_clock_mhz_min < 1900),
        (Fake(), "guard", lambda guard: not guard.throttle_reasons),
        (Fake(), "utterances", lambda u: {pace for item in u for pace in item.paces_ns} == {fake_engine.PACE_NS}),
        (Fake(hurried=1.0), "utterances", lambda u: all(max(item.paces_ns) < 0.95 * fake_engine.PACE_NS for item in u)),
        (Fake(), "utterances", lambda u: share_of_decoding(u) == pytest.approx(0.6)),
        (Fake(stage_noise=0.1), "utterances", lambda u: share_of_decoding(u) != pytest.approx(0.6, rel=0.005)),
        (Fake(leak=0.1), "utterances", lambda u: u[-1].wall_seconds > 1.05 * u[0].wall_seconds),
        (Fake(leak=0.1), "memory", lambda memory: memory.host_peak_bytes > fake_engine.HOST_BYTES),
        (Fake(planted={"other": {"launches": 0.5}}), "evidence",
         lambda e: e["activity"]["decode_per_step"]["launches"] == 180),
        (Fake(planted={"other": {"memory": 0.5}}), "memory",
         lambda m: m.host_peak_bytes > 1.4 * fake_engine.HOST_BYTES),
        (Fake(planted={"another": {"memory": 0.5}}), "memory",
         lambda m: m.host_peak_bytes < 1.1 * fake_engine.HOST_BYTES),
    ],
)  # fmt: skip
def test_each_parameter_shows(
    make_fake: Callable[..., Job], engine: Fake, field: str, holds: Callable[[Any], bool]
) -> None:
    assert holds(fake_engine.FakeProcess(make_fake(engine, repeats=6)).fields()[field])


def test_spikes_come_as_often_as_asked(make_fake: Callable[..., Job]) -> None:
    engine = Fake(process_noise=0.0, call_noise=0.0, spikes=0.2, spike_size=1.0)
    utterances = fake_engine.FakeProcess(make_fake(engine, repeats=500)).fields()["utterances"]
    usual = min(u.wall_seconds for u in utterances)
    assert 0.12 < sum(u.wall_seconds > 1.5 * usual for u in utterances) / 500 < 0.28


def test_its_defaults_in_a_scenario_are_those_of_a_job() -> None:
    assert Fake(**FakeEngine().model_dump()) == Fake()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fake": "{planted: {nobody: {decode: 0.1}}}"}, "'nobody' is no stack"),
        ({"fake": "{planted: {a: {decoding: 0.1}}}"}, "decode"),
        ({"fake": "{noise: 0.1}"}, "process_noise"),
        ({"fake": "{drift: -1}"}, "drift"),
        ({"matrix": "{fake.planted: [1]}"}, "cannot vary"),
        ({"fake": "{}", "matrix": "{fake.drift: [-1]}"}, r"matrix\.fake\.drift\[0\]: must be at least 0"),
    ],
)
def test_what_its_parameters_cannot_be_is_a_mistake_of_the_scenario(change: dict[str, str], message: str) -> None:
    keys = {"name": "x", "fake": "{}", "stacks": "{a: {}}", **change}
    with pytest.raises(ScenarioError, match=message):
        schema.parse("\n".join(f"{key}: {value}" for key, value in keys.items()), "x", Path())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"slots": {"decode": "lean"}}, "decode: lean has no part in it; plant a change instead"),
        ({"forward": ForwardJob(1, 16, 0)}, "workload.forward has no backbone to run"),
        ({"kind": "cold"}, "it has no cold pass"),
        ({"reference": "reference/a.safetensors"}, "it has no quality pass"),
    ],
)
def test_what_only_a_model_can_do_is_a_row_that_says_so(
    make_fake: Callable[..., Job], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    cell = worker.run(replace(make_fake(), **changes), tmp_path, lambda stage: None, {})
    assert (cell.status, cell.reason) == ("failed", f"the fake engine has no model, so {reason}")


def test_a_matrix_varies_what_befalls_it() -> None:
    text = "name: x\nfake: {}\nstacks: {a: {}}\nmatrix: {fake.drift: [0.0, 0.5]}\n"
    jobs = plan.make(schema.parse(text, "x", Path()), host.machine()).jobs
    assert {job.fake.drift for job in jobs if job.fake} == {0.0, 0.5}


def test_the_family_that_it_once_was_is_read_with_a_note() -> None:
    older = """name: x
model: {family: fake, seed: 3, fake: {rtf: 0.4}}
stacks: {a: {}}
matrix: {model.fake.drift: [0.0, 0.5]}
"""
    newer = "name: x\nfake: {seed: 3, rtf: 0.4}\nstacks: {a: {}}\nmatrix: {fake.drift: [0.0, 0.5]}\n"
    read, same = (schema.parse(text, "x", Path()) for text in (older, newer))
    assert read.cells() == same.cells()
    assert same.notes == ()
    assert [note.partition(";")[0] for note in read.notes] == [renamed.FAKE_MOVED]
    overridden = schema.parse(older, "x", Path(), ("model.fake.rtf=0.6",))
    assert {cell.fake.rtf for cell in overridden.cells() if cell.fake} == {0.6}
