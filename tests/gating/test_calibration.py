from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ttsbench.cli import compare as command
from ttsbench.errors import ExitCode, RecordError
from ttsbench.gating import calibrations
from ttsbench.records import files, runs
from ttsbench.records.measurements import Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import calibration, comparison, decision
from ttsbench.reports.decide.calibration import Calibration, SeriesDifferences
from ttsbench.reports.decide.pairing import Pair, pair_of

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
SCENARIO = """
name: pretended
fake: {}
workload: {texts: [One.], length: {fixed: 25}}
stacks: {upstream: {}, other: {}}
measure: {processes: 6, repeats: 5, passes: [time]}
"""


def series(mean: float, spread: float = 0.01, pairs: int = 5) -> SeriesDifferences:
    """Pairs whose mean is exactly this."""
    draw = random.Random(str(mean))
    drawn = [draw.gauss(0, spread) for _ in range(pairs)]
    middle = statistics.fmean(drawn)
    return SeriesDifferences({"rtf": tuple(d - middle + mean for d in drawn)}, 10.0)


@pytest.fixture
def make(make_run: Callable[..., Run], make_cell: Callable[..., Cell]) -> Callable[..., Calibration]:
    def of(means: Sequence[float], spread: float = 0.01, **changes: object) -> Calibration:
        result = calibration.begun(make_run(scenario="pretended"))
        for mean in means:
            result = result.extended(make_cell(), series(mean, spread))
        return replace(result, **changes)  # type: ignore[arg-type]

    return of


def test_the_floor_is_what_95_percent_of_the_series_stay_below(
    make: Callable[..., Calibration], make_cell: Callable[..., Cell]
) -> None:
    means = [number / 1000 * (-1) ** number for number in range(1, 41)]
    floor = make(means).floors(make_cell())["rtf"]
    assert math.log1p(floor) == pytest.approx(0.03805)
    assert sum(abs(mean) <= math.log1p(floor) for mean in means) == 38
    # A bias that all pairs of a series share is found, however alike they are.
    assert make([0.1] * 20, spread=1e-6).floors(make_cell())["rtf"] == pytest.approx(math.expm1(0.1))


def test_a_part_that_was_not_calibrated_has_the_floor_of_the_whole(
    make: Callable[..., Calibration], make_cell: Callable[..., Cell]
) -> None:
    result, decode = make([0.1] * 20), metrics.DECODE.name
    assert result.floors(make_cell())[decode] == result.floors(make_cell())["rtf"]
    own = replace(
        result.stacks[0],
        series=tuple(SeriesDifferences(s.differences | {decode: (0.01,) * 5}, 1.0) for s in result.stacks[0].series),
    )
    assert replace(result, stacks=(own,)).floors(make_cell())[decode] == pytest.approx(math.expm1(0.01))


def test_it_takes_20_series_of_the_same_options(
    make: Callable[..., Calibration], make_cell: Callable[..., Cell]
) -> None:
    assert make([0.1] * 19).floors(make_cell()) == {}
    result = make([0.1] * 20)
    assert result.floors(make_cell(key="another")) == {}
    assert result.floors(make_cell(slots={"decode": "lean"})) == {}
    # A slot that one version knows and the other does not is no difference.
    assert result.floors(make_cell(slots={"decode": "upstream", "new": "on"}))
    holey = result.extended(make_cell(), SeriesDifferences({"rtf": (0.1, math.nan, 0.1, 0.1, 0.1)}, 1.0))
    assert holey.floors(make_cell()) == {}


def test_a_series_is_what_the_decision_engine_judges(
    make_cell: Callable[..., Cell], make_utterance: Callable[..., Utterance]
) -> None:
    def pair(base: float, head: float) -> Pair:
        cells = [make_cell(utterances=(make_utterance(wall_seconds=seconds),) * 4) for seconds in (head, base)]
        return pair_of(*cells)

    pairs = [pair(0.5, 0.5 * factor) for factor in (1.1, 1.2, 1.12, 1.15, 1.18)]
    void = pair_of(make_cell(status="crashed"), make_cell())
    result = calibration.series_of([*pairs, void], 3.0)
    assert (result.pairs, result.void) == (5, 1)
    judged = comparison.judge_series(pairs).judgements["rtf"]
    assert math.exp(statistics.fmean(result.differences["rtf"])) == pytest.approx(judged.ratio)


def test_what_it_shows_is_what_a_judgement_shows(make: Callable[..., Calibration]) -> None:
    [stack] = make([0.0] * 20, spread=0.02).stacks
    judged = decision.judge(stack.series[0].differences["rtf"])
    spread = statistics.stdev(stack.series[0].differences["rtf"])
    assert decision.smallest(decision.THRESHOLD_MIN, spread, 5) == pytest.approx(judged.mde)
    [row] = calibration.table(make([0.0] * 20, spread=0.01)).texts
    assert row[:2] == ("upstream", "RTF")
    assert row[-1].endswith(" s")
    [noisy] = calibration.table(make([0.0] * 20, spread=0.5)).texts
    assert noisy[-1] == "stays open"


@pytest.mark.parametrize(("spread", "pairs"), [(0.001, 5), (0.02, 7), (0.035, None)])
def test_how_many_pairs_the_same_code_takes(spread: float, pairs: int | None) -> None:
    assert decision.pairs_for_same(0.03, spread) == pairs
    if pairs:
        draw = random.Random(0)
        drawn = [[draw.gauss(0, spread) for _ in range(pairs)] for _ in range(400)]
        assert sum(decision.judge(item).verdict == "same" for item in drawn) > 0.75 * 400


def test_it_ends_after_30_days_and_with_the_machine(
    make: Callable[..., Calibration], make_run: Callable[..., Run]
) -> None:
    result, run = make([0.0] * 20), make_run(scenario="pretended")
    made = datetime.fromisoformat(result.made_utc)
    assert result.objection(run, made + timedelta(days=29)) == ""
    assert "more than 30 days ago" in result.objection(run, made + timedelta(days=31))
    other = replace(run, environment={**run.environment, "gpu": {"name": "another"}})
    assert result.objection(other, made) == "gpu.name: none against another"
    work = replace(run, scenario_understood={"measure": {"repeats": 3}, "workload": {"set": "5s"}})
    assert "measure.repeats: None against 3" in result.objection(work, made)
    assert "workload.set" in result.objection(work, made)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Calibration], Path]:
    monkeypatch.setenv(calibrations.DATA_VARIABLE, str(tmp_path))

    def keep(result: Calibration, name: str = "pretended-1.json") -> Path:
        (tmp_path / "calibrations").mkdir(exist_ok=True)
        return files.write(tmp_path / "calibrations" / name, runs.dump(runs.to_json(result)))

    return keep


def test_compare_finds_it_and_counts_no_difference_below_the_floor(
    tmp_path: Path,
    kept: Callable[..., Path],
    make: Callable[..., Calibration],
    make_cells: Callable[..., tuple[Cell, ...]],
    keep_run: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(name: str, factor: float) -> str:
        draw = random.Random(name)
        seconds = [factor * draw.gauss(0.5, 0.001) for _ in range(6)]
        return str(keep_run(tmp_path / name, make_cells(seconds), scenario="pretended"))

    def compare(file: Path | None = None) -> ExitCode:
        return command.compare([before, after], calibration=file)

    before, after = run("before", 1.0), run("after", 1.1)
    assert compare() is ExitCode.SLOWER
    assert "calibration" not in capsys.readouterr().out
    file = kept(make([0.2] * 20))
    assert compare() is ExitCode.OK
    assert "floors by the calibration of" in capsys.readouterr().out
    old = replace(make([0.2] * 20), made_utc="2026-01-01T00:00:00+00:00")
    kept(old)
    assert compare() is ExitCode.SLOWER
    assert "is not used: made more than 30 days ago" in capsys.readouterr().out
    kept(make([0.2] * 20), "pretended-2.json")
    assert compare() is ExitCode.OK
    file.write_text("{")
    assert compare() is ExitCode.OK
    with pytest.raises(RecordError, match="is not JSON"):
        compare(file)
    file.write_text('{"schema_version": 99}')
    with pytest.raises(RecordError, match="is no calibration that this version"):
        compare(file)


def test_the_command_measures_goes_on_and_shows(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SCENARIO)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TTSBENCH_DATA": str(tmp_path / "data")}

    def ttsbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ttsbench", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert "not calibrated" in ttsbench("calibrate", "s.yaml", "--show").stdout
    first = ttsbench("calibrate", "s.yaml", "--series", "1", "--only", "upstream")
    assert first.returncode == 0, first.stderr
    assert "1 series of 5 pairs" in first.stderr
    [file] = (tmp_path / "data" / "calibrations").iterdir()
    before = calibrations.read(file)
    again = ttsbench("calibrate", "s.yaml", "--series", "2", "--only", "upstream")
    assert "1 series of 5 pairs" in again.stderr
    after = calibrations.read(file)
    assert after.stacks[0].series[:1] == before.stacks[0].series
    assert len(after.stacks[0].series) == 2
    assert after.stacks[0].series[0].differences != after.stacks[0].series[1].differences
    measured = {"rtf", "decode_seconds_per_token", "s3gen_rtf"}
    assert set(after.stacks[0].series[0].differences) == measured
    shown = ttsbench("calibrate", "s.yaml", "--show").stdout
    assert "2 series" in shown
    assert "used here" in shown
    assert (
        "not used here: measure.repeats: 5 against 4"
        in ttsbench("calibrate", "s.yaml", "--show", "--set", "measure.repeats=4").stdout
    )
    assert not list(tmp_path.glob("runs/*"))


def test_a_stack_that_does_not_run_is_told(tmp_path: Path) -> None:
    text = SCENARIO.replace("fake: {}", "fake: {crashes: 1.0}")
    (tmp_path / "s.yaml").write_text(text)
    command = [sys.executable, "-m", "ttsbench", "calibrate", "s.yaml", "--quiet", "--output", "c.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.CELL_FAILED
    assert "upstream does not run: pair 1 was void 3 times" in ended.stderr
    assert not (tmp_path / "c.json").exists()


def test_it_keeps_what_it_was_made_of(make: Callable[..., Calibration], tmp_path: Path) -> None:
    result = make([0.01, 0.02])
    (tmp_path / "c.json").write_text(json.dumps(dataclasses.asdict(result)))
    assert calibrations.read(tmp_path / "c.json") == result
