from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ttsbench.cli import compare as comparing
from ttsbench.errors import ExitCode, NotComparableError, RecordError, UsageError
from ttsbench.gating.compare import read_side
from ttsbench.records import runs
from ttsbench.records.measurements import Memory, StageTime, Utterance
from ttsbench.records.runs import Cell
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.decision import Verdict

ROOT = Path(__file__).parents[2]
Keep = Callable[..., Path]
Walls = Callable[..., tuple[float, ...]]


@pytest.fixture
def keep(tmp_path: Path, make_cells: Callable[..., tuple[Cell, ...]], keep_run: Keep) -> Keep:
    """A run folder with these seconds for each process of each stack."""

    def make(name: str, stacks: dict[str, Sequence[float]], faults: tuple[str, ...] = (), **changes: Any) -> Path:
        cells = [cell for stack, seconds in stacks.items() for cell in make_cells(seconds, stack, faults=faults)]
        return keep_run(tmp_path / name, cells, **changes)

    return make


def compare(*names: object, **options: Any) -> ExitCode:
    value = {"fail_on": (), "allow_mismatch": False, "output": None, **options}
    return comparing.compare([str(name) for name in names], **value)


@pytest.mark.parametrize(
    ("factor", "code"),
    [(1.1, ExitCode.SLOWER), (0.9, ExitCode.OK), (1.001, ExitCode.OK), (1.029, ExitCode.INCONCLUSIVE)],
)
def test_the_stacks_of_one_run(keep: Keep, walls: Walls, factor: float, code: ExitCode) -> None:
    assert compare(keep("run", {"upstream": walls(), "lean": walls(factor)})) is code


def test_the_console_says_what_came_of_it_within_80_columns(
    keep: Keep, walls: Walls, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(keep("run", {"upstream": walls(), "lean": walls(1.1)}))
    out = capsys.readouterr().out
    assert "slower" in out
    assert "decode took 200.1 ms and takes 220." in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_part_that_takes_more_is_named_though_the_whole_takes_less_than_counts(
    tmp_path: Path, keep_run: Keep, make_parts: Callable[..., tuple[Cell, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    rest = [1.67 + 2e-3 * (number * 5 % 3) for number in range(8)]
    before, after = (keep_run(tmp_path / name, make_parts(s, rest)) for name, s in (("before", 0.33), ("after", 0.347)))
    assert compare(before, after, output=tmp_path / "out") is ExitCode.SLOWER
    out = capsys.readouterr().out
    assert re.search(r"RTF .* same\n.* ms/token .* 1\.052 .* slower", out)
    assert re.search(r"decode took 330\.\d\s+ms\s+and\s+takes\s+347", out)
    assert "5% more time per token" in (tmp_path / "out" / "comparison.html").read_text()
    assert compare(after, before) is ExitCode.OK


def test_what_takes_more_in_s3gen_is_named_by_the_devices_clock(
    tmp_path: Path,
    keep_run: Keep,
    make_cell: Callable[..., Cell],
    make_utterance: Callable[..., Utterance],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The host has issued the CFM's kernels long before they end, and waits in the next stage."""

    def keep(cfm: float) -> Path:
        def utterance(process: int) -> Utterance:
            luck = 1 + 1e-4 * ((3 * process + round(1e3 * cfm)) % 7)
            times = {"flow_encoder": (0.008, 0.006), "cfm": (0.005, cfm * luck), "vocoder": (0.06 + cfm, 0.02)}
            stages = {name: StageTime(host, device) for name, (host, device) in times.items()}
            return make_utterance(wall_seconds=(1.0 + cfm) * luck, stages=stages)

        cells = [make_cell(process=number, utterances=(utterance(number),) * 3) for number in range(8)]
        return keep_run(tmp_path / f"cfm-{cfm}", cells)

    assert compare(keep(0.08), keep(0.09)) is ExitCode.SLOWER
    out = " ".join(capsys.readouterr().out.split())
    assert "S3Gen RTF 0.106 0.116" in out
    assert "cfm took 80.0 ms and takes 90.0 (+10.0 of +10.0 ms)" in out


def test_more_memory_is_what_a_page_says_first(
    tmp_path: Path, keep_run: Keep, make_cells: Callable[..., tuple[Cell, ...]], walls: Walls
) -> None:
    before, after = (
        keep_run(tmp_path / str(peak), make_cells(walls(), memory=Memory(1, 1, allocated_peak_bytes=peak)))
        for peak in (1000, 1040)
    )
    assert compare(before, after, output=tmp_path / "out") is ExitCode.SLOWER
    assert '"headline">allocated memory is 4.0% more' in (tmp_path / "out" / "comparison.html").read_text()


def test_two_runs_and_swapped(keep: Keep, walls: Walls) -> None:
    before, after = keep("before", {"upstream": walls()}), keep("after", {"upstream": walls(1.1)})
    assert compare(before, after) is ExitCode.SLOWER
    assert compare(after, before) is ExitCode.OK
    assert compare(before, before, after) is ExitCode.SLOWER
    assert compare(before, after, fail_on=("quality", "inconclusive")) is ExitCode.OK


@pytest.mark.parametrize("processes", [1, 3, 6])
def test_a_run_is_the_same_as_itself_however_few_its_processes(keep: Keep, walls: Walls, processes: int) -> None:
    run = keep("run", {"upstream": walls()[:processes]})
    assert compare(run, run) is ExitCode.OK


@pytest.mark.parametrize("processes", [1, 4])
def test_too_few_processes_are_inconclusive(keep: Keep, walls: Walls, processes: int) -> None:
    before = keep("before", {"upstream": walls()[:processes]})
    assert compare(before, keep("after", {"upstream": walls(2)[:processes]})) is ExitCode.INCONCLUSIVE


def test_unequal_counts_are_inconclusive(keep: Keep, walls: Walls) -> None:
    before, after = keep("before", {"upstream": walls()}), keep("after", {"upstream": walls(2)[:5]})
    assert compare(before, after) is compare(after, before) is ExitCode.INCONCLUSIVE


def test_named_stacks_of_two_runs(keep: Keep, walls: Walls) -> None:
    before = keep("before", {"upstream": walls(), "lean": walls()})
    after = keep("after", {"upstream": walls(), "lean": walls(1.2)})
    assert compare(f"{before}:upstream", f"{after}:lean") is ExitCode.SLOWER
    assert compare(f"{before}:upstream", f"{before}:lean", fail_on=("slower",)) is ExitCode.OK
    with pytest.raises(UsageError, match="has no stack 'leen'; did you mean 'lean'"):
        compare(f"{before}:upstream", f"{after}:leen")
    with pytest.raises(UsageError, match="named for one of them only"):
        compare(before, f"{after}:lean")


def at_pace(folder: Path, pace_ns: float) -> Path:
    output = json.loads((folder / "run.json").read_text())
    for utterance in (u for cell in output["cells"] for u in cell["utterances"]):
        utterance["pace_ns"] = pace_ns
    (folder / "run.json").write_text(json.dumps(output))
    return folder


def test_another_pace_makes_pairs_void_on_one_machine_and_says_nothing_of_two(keep: Keep, walls: Walls) -> None:
    here = at_pace(keep("here", {"upstream": walls()}), 850.0)
    again = at_pace(keep("again", {"upstream": walls(1.1)}), 1100.0)
    there = at_pace(keep("there", {"upstream": walls(1.1)}, environment=OTHER_GPU), 1100.0)
    assert compare(here, again) is ExitCode.INCONCLUSIVE
    assert compare(here, there, allow_mismatch=True) is ExitCode.SLOWER


def test_quality_that_failed_has_an_exit_code_of_its_own(keep: Keep, walls: Walls) -> None:
    before = keep("before", {"upstream": walls()})
    faster = keep("after", {"upstream": walls(0.8)}, faults=("text 0: no speech",))
    assert compare(before, faster) is ExitCode.QUALITY
    assert compare(before, faster, fail_on=("slower",)) is ExitCode.OK


@pytest.fixture
def series(keep: Keep, walls: Walls) -> Callable[[str, int, float], Path]:
    """A folder of runs of two processes each, of which one is luckier than another."""

    def make(name: str, runs: int, factor: float) -> Path:
        draw = random.Random(name)
        for number in range(runs):
            luck = 1 + draw.gauss(0, 0.005)
            stacks = {"upstream": [factor * luck * seconds for seconds in walls()[:2]]}
            folder = keep(f"{name}/run-{number}", stacks, started_utc=f"2026-01-01T00:00:{number:02}+00:00")
        return folder.parent

    return make


def test_in_folders_of_runs_each_run_counts_as_one(
    series: Callable[[str, int, float], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = series("before", 6, 1.0), series("after", 6, 1.1)
    assert compare(before, after) is ExitCode.SLOWER
    assert "each run counts as one" in capsys.readouterr().out
    [match] = sides.between(read_side(str(after)), read_side(str(before)))
    assert len(match.pairing.pairs) == 6
    assert comparison.judge_recorded(match.pairing).verdict is Verdict.SLOWER
    assert compare(series("few", 2, 1.0), series("two", 2, 2.0)) is ExitCode.INCONCLUSIVE
    assert compare(series("more", 7, 2.0), before) is ExitCode.INCONCLUSIVE


OTHER_GPU = {"python": "3.11", "gpu": {"name": "another"}}


def test_other_machines_are_refused_or_marked_everywhere(
    keep: Keep, walls: Walls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = keep("here", {"upstream": walls()}), keep("there", {"upstream": walls(1.1)}, environment=OTHER_GPU)
    with pytest.raises(NotComparableError, match=r"gpu.name: none against another.*--allow-mismatch"):
        compare(here, there)
    assert compare(here, there, allow_mismatch=True, output=tmp_path / "out") is ExitCode.SLOWER
    assert "MISMATCH: gpu.name" in capsys.readouterr().out
    assert "not comparable: gpu.name" in (tmp_path / "out" / "comparison.md").read_text()
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["mismatches"]


def test_other_work_is_refused(keep: Keep, walls: Walls) -> None:
    item = keep("one", {"upstream": walls()}, scenario_understood={"workload": {"set": "5s"}})
    other = keep("other", {"upstream": walls()}, scenario_understood={"workload": {"set": "10s"}})
    with pytest.raises(NotComparableError, match=r"workload\.set: 5s against 10s"):
        compare(item, other)


def test_what_an_older_record_did_not_know_of_is_no_other_work(keep: Keep, walls: Walls) -> None:
    older = keep("older", {"upstream": walls()}, scenario_understood={"model": {"family": "turbo"}})
    newer = keep("newer", {"upstream": walls(1.1)}, scenario_understood={"model": {"family": "turbo", "fake": None}})
    assert compare(older, newer) is ExitCode.SLOWER


def test_the_files_hold_every_figure_and_nothing_typed_becomes_markup(keep: Keep, walls: Walls, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|x"
    compare(keep("run", {"upstream": walls(), hostile: walls(1.1)}), output=tmp_path / "out")
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    [result] = data["comparisons"]
    assert (result["candidate"], result["verdict"], result["pairs"]) == (hostile, "slower", 6)
    assert result["figures"]["rtf"]["low"] > 1.03
    assert result["stages"]["decode"]["candidate"] == pytest.approx(0.22, rel=0.01)
    document = (tmp_path / "out" / "comparison.md").read_text()
    assert "<script>" not in document
    assert "**slower**" in document


def test_what_is_on_one_side_only_is_told(keep: Keep, walls: Walls, capsys: pytest.CaptureFixture[str]) -> None:
    item, other = (
        keep("one", {"upstream": walls(), "lean": walls()}),
        keep("other", {"upstream": walls(), "new": walls()}),
    )
    compare(item, other)
    out = capsys.readouterr().out
    assert "only in one: lean" in out
    assert "only in other: new" in out
    with pytest.raises(UsageError, match="no stack in common"):
        compare(item, keep("third", {"third": walls()}))


def test_wrong_names_are_told(keep: Keep, walls: Walls, tmp_path: Path) -> None:
    run = keep("runs/run", {"upstream": walls()})
    with pytest.raises(RecordError, match=r"there is no .*nowhere"):
        compare(run, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="holds no run"):
        compare(run, tmp_path / "empty")
    with pytest.raises(UsageError, match="no reason to fail 'slow'; did you mean 'slower'"):
        compare(run, run, fail_on=("slow",))
    with pytest.raises(UsageError, match="nothing to compare with"):
        compare(run.parent.parent / "runs" / "run:upstream")


def test_a_mean_value_that_is_no_number_prevents_a_verdict(keep: Keep, walls: Walls) -> None:
    before = keep("before", {"upstream": walls()})
    run = runs.read_run(before)
    mute = dataclasses.replace(run.cells[2], utterances=())
    cells = (*run.cells[:2], mute, *run.cells[3:])
    after = keep("after", {"upstream": walls(2)})
    runs.write_run(before, dataclasses.replace(run, cells=cells))
    assert compare(before, after) is ExitCode.INCONCLUSIVE


def test_what_was_not_measured_is_told_and_does_not_leave_the_rest_open(
    keep: Keep, walls: Walls, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep("run", {"upstream": walls(), "lean": walls(1.001), "flash": walls()[:1]})
    run = runs.read_run(folder)
    skipped = dataclasses.replace(run.cells[-1], status="skipped", reason="needs an NVIDIA GPU", utterances=())
    runs.write_run(folder, dataclasses.replace(run, cells=(*run.cells[:-1], skipped), status="interrupted"))
    assert compare(folder) is ExitCode.OK
    out = capsys.readouterr().out
    assert "not measured: flash: needs an NVIDIA GPU" in out
    assert "run is interrupted" in out


def test_a_candidate_that_crashed_is_inconclusive_with_its_reason(
    keep: Keep, walls: Walls, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = keep("run", {"upstream": walls(), "lean": walls()})
    run = runs.read_run(folder)
    cells = [
        dataclasses.replace(cell, status="crashed", reason="SIGKILL", utterances=()) if cell.stack == "lean" else cell
        for cell in run.cells
    ]
    runs.write_run(folder, dataclasses.replace(run, cells=tuple(cells)))
    assert compare(folder) is ExitCode.INCONCLUSIVE
    assert "6 pairs are void: candidate: crashed: SIGKILL" in capsys.readouterr().out
