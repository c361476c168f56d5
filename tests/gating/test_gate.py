"""The gate as a CI job meets it: a true repository, true processes, mostly of the engine that pretends to speak."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ttsbench.errors import ExitCode
from ttsbench.gating import gate
from ttsbench.gating.calibrations import floors_from
from ttsbench.gating.series import ComparisonSetup, Series
from ttsbench.records import runs
from ttsbench.records.jobs import Fake, Job
from ttsbench.records.runs import Cell
from ttsbench.reports.decide.decision import Verdict
from ttsbench.running import fake_engine

V1 = Path(__file__).parents[1] / "data" / "v1"


def test_the_same_code_passes_and_leaves_its_records_and_nothing_else(bench: Any) -> None:
    ended = bench.gate("--base", "HEAD")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert "same" in ended.stdout
    assert "the working tree, at" in ended.stdout
    assert "not calibrated" in ended.stdout
    assert bench.worktrees() == 1
    folder = bench.folder()
    base, head = (runs.read_run(folder / "series-1" / side) for side in ("base", "head"))
    assert base.status == head.status == "complete"
    orders = [(b.order, h.order) for b, h in zip(base.cells, head.cells, strict=True)]
    assert orders[:4] == [(0, 1), (3, 2), (4, 5), (7, 6)]
    data = json.loads((folder / "comparison.json").read_text())
    assert data["comparisons"][0]["verdict"] == "same"
    assert "sha256" in (folder / "comparison.md").read_text()
    # The records are those of any run.
    assert bench("compare", folder / "series-1" / "base", folder / "series-1" / "head").returncode == ExitCode.OK


def test_a_planted_change_is_found_twice_and_its_stage_is_named(bench: Any, tmp_path: Path) -> None:
    bench.plant(1.3)
    ended = bench.gate("--base", "HEAD", "--quiet", "--output", tmp_path / "out")
    assert ended.returncode == ExitCode.SLOWER, ended.stdout + ended.stderr
    assert "slower" in ended.stdout
    assert re.search(r"decode took (29|30)\d\.\d ms and takes (38|39|40)\d\.\d", ended.stdout)
    assert re.search(r"second series of \d+ pairs: slower, RTF 1\d", ended.stdout)
    assert "the working tree, changed since" in ended.stdout
    first, second = (runs.read_run(tmp_path / "out" / f"series-{n}" / "head") for n in (1, 2))
    assert first.cells[0].utterances != second.cells[0].utterances
    again = bench.gate("--base", "HEAD", "--output", tmp_path / "out")
    assert (again.returncode, "another gate's series" in again.stderr) == (ExitCode.USAGE, True)


def test_two_commits_by_the_name_of_a_scenario_that_ships_with_them(bench: Any) -> None:
    """The head's own file is what runs, and it is gone with its worktree when the verdict is told."""
    (bench.repository / "scenarios" / "pretended.yaml").write_text(bench.scenario.read_text())
    bench.git("add", "scenarios")
    base = bench.commit("A scenario of our own")
    bench.plant(0.5)
    ended = bench("gate", "pretended", "--base", base, "--head", bench.commit("Faster"), "--quiet")
    assert ended.returncode == ExitCode.OK, ended.stderr
    assert "the scenario of both: pretended.yaml, sha256" in ended.stdout


def test_two_commits_and_a_stored_baseline(bench: Any) -> None:
    slow = bench.git("rev-parse", "HEAD").strip()
    stored = bench("run", bench.scenario, "--quiet")
    assert stored.returncode == 0, stored.stderr
    [run] = (bench.repository / "runs").iterdir()
    bench.plant(0.5)
    fast = bench.commit("Faster")
    assert bench.gate("--base", slow, "--head", fast, "--quiet").returncode == ExitCode.OK
    against = bench.gate("--base-run", run, "--quiet", "--set", "model.seed=9")
    assert against.returncode == ExitCode.OK, against.stderr
    assert "faster" in against.stdout
    assert gate.STORED in against.stdout
    elsewhere = replace(runs.read_run(run), environment={"gpu": {"name": "another"}})
    runs.write_run(run, elsewhere)
    refused = bench.gate("--base-run", run, "--quiet")
    assert refused.returncode == ExitCode.NOT_COMPARABLE
    assert "gpu.name: another against None" in refused.stderr


def test_a_base_whose_side_server_lies_where_it_lay_before_is_measured(bench: Any) -> None:
    bench.git("mv", "ttsbench/gating/serve.py", "cli/serve.py")
    old = bench.commit("Older")
    bench.git("revert", "--no-edit", "HEAD")
    ended = bench.gate("--base", old, "--quiet", "--fail-on", "slower")
    assert ended.returncode == ExitCode.OK, ended.stdout + ended.stderr
    assert len(runs.read_run(bench.folder() / "series-1" / "base").cells) >= 5


def test_a_stored_baseline_in_an_old_format_is_read(bench: Any) -> None:
    ended = bench.gate("--base-run", V1, "--quiet")
    assert ended.returncode == ExitCode.NOT_COMPARABLE, ended.stderr
    assert "is not comparable with what is measured here; " in ended.stderr


class TestWhatCannotBeHad:
    """Exit code 6, and the reason."""

    def test_an_unknown_commit(self, bench: Any) -> None:
        output = self.refused(bench.gate("--base", "mian"))
        assert output.startswith("ttsbench: 'mian' names no commit of this repository. git log names commits")
        assert "'-x' names no commit" in self.refused(bench.gate("--base=-x"))

    def test_a_head_that_is_not_what_lies_there(self, bench: Any) -> None:
        bench.plant(1.3)
        output = self.refused(bench.gate("--base", "HEAD", "--head", "main"))
        assert (
            "--head main is checked out, and the working tree differs from it: ttsbench/running/fake_engine.py."
            in output
        )

    def test_a_base_that_does_not_start(self, bench: Any) -> None:
        bench.change("ttsbench/running/runner.py", "import os\n", "import os, nonsense_that_is_not_there\n")
        broken = bench.commit("Broken")
        bench.git("revert", "--no-edit", "HEAD")
        output = self.refused(bench.gate("--base", broken, "--quiet"))
        assert (
            f"{broken[:10]} does not run: ModuleNotFoundError: No module named 'nonsense_that_is_not_there'" in output
        )
        assert bench.worktrees() == 1

    def test_a_base_that_knows_no_gate(self, bench: Any) -> None:
        (bench.repository / "ttsbench" / "gating" / "serve.py").unlink()
        old = bench.commit("Older")
        bench.git("revert", "--no-edit", "HEAD")
        message = self.refused(bench.gate("--base", old, "--quiet"))
        assert f"{old[:10]} is older than the gate and has no side server. Measure it with" in message

    def test_a_base_that_does_not_know_the_scenario(self, bench: Any) -> None:
        bench.change("scenarios/fakes.py", "    call_noise:", "    calls_noise:")
        old = bench.commit("Before that parameter")
        bench.git("revert", "--no-edit", "HEAD")
        assert f"{old[:10]} cannot run this: " in self.refused(bench.gate("--base", old, "--quiet"))

    def test_processes_that_crash(self, bench: Any) -> None:
        bench.change("ttsbench/running/fake_engine.py", "if process.crashes:", "if True:")
        ended = bench.gate("--base", "HEAD", "--quiet", "--fail-on", "slower")
        assert ended.returncode == ExitCode.CELL_FAILED
        assert "did not run: upstream: pair 1 was void 3 times; the last time: candidate: crashed" in ended.stdout

    def test_a_lock_that_cannot_be_installed(self, bench: Any, tmp_path: Path) -> None:
        (bench.repository / "requirements.lock").write_text("--no-index\nnot-there==1 --hash=sha256:" + "0" * 64 + "\n")
        base = bench.commit("Needs something else")
        bench.git("revert", "--no-edit", "HEAD")
        output = self.refused(bench.gate("--base", base, "--quiet", TTSBENCH_CACHE=str(tmp_path / "cache")))
        assert f"what {base[:10]} needs cannot be installed: " in output
        assert "not-there" in output
        assert bench.worktrees() == 1

    @staticmethod
    def refused(ended: subprocess.CompletedProcess[str]) -> str:
        assert ended.returncode == ExitCode.CELL_FAILED, ended.stdout + ended.stderr
        return ended.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        ((), "give --base REF or --base-run RUN"),
        (("--base", "HEAD", "--base-run", "runs/x"), "give --base REF or --base-run RUN"),
        (("--base-run", "runs/x"), "there is no runs/x"),
        (("--base", "HEAD", "--fail-on", "slow"), "did you mean 'slower'"),
        (("--base", "HEAD", "--set", "measure.repeat=1"), "did you mean 'repeats'"),
        (("--base", "HEAD", "--calibration", "none.json"), "there is no none.json"),
    ],
)
def test_wrong_usage_is_told(bench: Any, arguments: tuple[str, ...], output: str) -> None:
    ended = bench.gate(*arguments)
    assert (ended.returncode, output in ended.stderr) == (ExitCode.USAGE, True), ended.stderr
    assert not (bench.repository / "runs").exists()


def test_elsewhere_than_in_a_checkout_is_refused(bench: Any, tmp_path: Path) -> None:
    bench.repository = tmp_path
    assert "is in no git repository" in bench.gate("--base", "HEAD").stderr
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert "is no checkout of ttsbench" in bench.gate("--base", "HEAD").stderr


class Pretending:
    """A side whose processes are simulated here and now."""

    run: runs.Run | None = None

    def __init__(self, engine: Fake, job: Job, series: int) -> None:
        self.label = "side"
        self._job = replace(job, fake=replace(engine, seed=series), fixed_tokens=25, repeats=5)

    def get_ready(self) -> None:
        return

    def cells(self) -> list[str]:
        return ["lean"]

    def processes(self, key: str) -> None:
        return None

    def measure(self, key: str, process: int, order: int) -> Cell:
        job = replace(self._job, process=process, order=order)
        output = {name: getattr(job, name) for name in ("key", "kind", "stack", "slots", "point", "process", "order")}
        return Cell(**output, status="ok", **fake_engine.FakeProcess(job).fields())


@pytest.fixture
def simulated(make_job: Callable[..., Job]) -> Callable[..., Verdict]:
    """A whole gate without processes."""

    def decide(seed: int, engine: Fake, planted: Mapping[str, float]) -> Verdict:
        @contextmanager
        def series(number: int) -> Iterator[Series]:
            base, head = (
                Pretending(replace(engine, planted={"lean": dict(more)}), make_job(), 10 * seed + number)
                for more in ({}, planted)
            )
            yield Series(base, head, lambda text: None)

        setup: Any = SimpleNamespace(series=series, report_progress=lambda text: None)
        [compared] = gate.judge(cast(ComparisonSetup, setup), floors_from(None)).candidates
        return compared.comparison.verdict

    return decide


NOISY = Fake(process_noise=0.04, call_noise=0.03, drift=0.03, spikes=0.1)


@pytest.mark.parametrize("engine", [Fake(), Fake(drift=0.03, spikes=0.05), NOISY])
def test_the_same_code_is_never_called_slower(simulated: Callable[..., Verdict], engine: Fake) -> None:
    verdicts = [simulated(seed, engine, {}) for seed in range(60)]
    assert Verdict.SLOWER not in verdicts
    if engine.process_noise < 0.02:
        assert verdicts.count(Verdict.SAME) > 50


def test_slower_code_is(simulated: Callable[..., Verdict]) -> None:
    verdicts = [simulated(seed, Fake(), {"decode": 0.15}) for seed in range(20)]
    assert verdicts.count(Verdict.SLOWER) >= 18
    assert Verdict.SAME not in verdicts


def test_a_part_that_is_slower_is_found_though_the_whole_is_hardly(simulated: Callable[..., Verdict]) -> None:
    """A fifth more in the CFM is 13 % of S3Gen and 3.6 % of the whole, where nothing can be said of it."""
    verdicts = [simulated(seed, Fake(), {"cfm": 0.2}) for seed in range(20)]
    assert verdicts.count(Verdict.SLOWER) >= 18


def test_what_one_part_takes_more_is_no_matter_where_another_has_paid(simulated: Callable[..., Verdict]) -> None:
    """Decoding is 8 % slower, and the whole 6 % faster."""
    verdicts = [simulated(seed, Fake(), {"decode": 0.08, "cfm": -0.6}) for seed in range(20)]
    assert Verdict.SLOWER not in verdicts
    assert verdicts.count(Verdict.FASTER) >= 15


def test_what_comes_to_nothing_in_the_whole_is_not_called_slower(simulated: Callable[..., Verdict]) -> None:
    """Decoding is 5 % slower, which is 3 % of the whole, and the CFM pays for it."""
    verdicts = [simulated(seed, Fake(), {"decode": 0.05, "cfm": -1 / 6}) for seed in range(60)]
    assert Verdict.SLOWER not in verdicts
