"""Measures floors: the same code against itself, series by series, and how far apart its figures come out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import ttsbench
from ttsbench.errors import SideError
from ttsbench.gating import calibrations as stored
from ttsbench.gating.remote import ScenarioSelection
from ttsbench.gating.series import ComparisonSetup, GateRequest, Series, up_to_a_void_pair
from ttsbench.gating.workspace import open_workspace
from ttsbench.gating.worktrees import Checkout
from ttsbench.records import assembly, files, runs
from ttsbench.records.folders import make_folder
from ttsbench.records.jobs import TIMED
from ttsbench.records.journal import Entries
from ttsbench.records.runs import Run
from ttsbench.reports.decide import calibration as calibrations
from ttsbench.reports.decide import decision
from ttsbench.reports.decide.calibration import Calibration
from ttsbench.reports.decide.pairing import Pair, pairs_needed
from ttsbench.running import host, plan, run
from ttsbench.running.plan import Plan
from ttsbench.running.progress import ProgressCallback, duration
from ttsbench.scenarios import schema


@dataclass(frozen=True)
class StoredCalibration:
    """A calibration, and why it does not apply here; empty if it does."""

    calibration: Calibration
    objection: str


def calibrate(request: GateRequest, series: int, report_progress: ProgressCallback) -> tuple[Calibration, Path]:
    """Runs as many series as are missing, and keeps the calibration in its file after each."""
    selection = selection_of(request)
    planned, header = planned_run(selection)
    run.refuse_nothing_to_measure(planned)
    file = request.output or stored.file_of(header)
    make_folder(file.absolute().parent)
    calibration = unfinished(file, header) or calibrations.begun(header)
    first_jobs = {job.key: job for job in planned.jobs if job.kind == TIMED and job.process == 0}
    missing = [(key, n) for n in range(1, series + 1) for key in first_jobs if calibration.series_of(key) < n]
    seconds = sum(2 * decision.PAIRS_MIN * plan.job_seconds(first_jobs[key]) for key, _ in missing)
    report_progress(f"{len(missing)} series of {decision.PAIRS_MIN} pairs: about {duration(seconds)} and the imports")
    code = Checkout("this code", Path(ttsbench.__file__).parents[1])
    with open_workspace() as workspace:
        setup = ComparisonSetup(
            code, code, {code: sys.executable}, selection, workspace.folder, workspace, report_progress
        )
        for number, group in groupby(missing, key=lambda item: item[1]):
            report_progress(f"series {number} of {series}")
            with setup.series(number) as both:
                for key, _ in group:
                    calibration = with_one_more_series(calibration, both, key)
            files.write(file, runs.dump(runs.to_json(calibration), indent=1) + "\n")
    return calibration, file


def with_one_more_series(calibration: Calibration, both: Series, key: str) -> Calibration:
    """A series that was given up adds nothing."""
    source, attempts, began = both.pairs(key), list[Pair](), time.monotonic()
    while (more := pairs_needed(attempts, decision.PAIRS_MIN)).count:
        attempts += up_to_a_void_pair(source, more.count)
    if not more.given_up:
        seconds = time.monotonic() - began
        return calibration.extended(attempts[0].baseline[0], calibrations.series_of(attempts, seconds))
    if not all(cell.ok for cell in (*attempts[-1].baseline, *attempts[-1].candidate)):
        raise SideError(f"{key} does not run: {more.given_up}")
    both.report_progress(f"{key}: nothing can be learned from this series: {more.given_up}")
    return calibration


def selection_of(request: GateRequest) -> ScenarioSelection:
    return ScenarioSelection(schema.resolve(request.scenario).absolute(), request.overrides, request.only)


def planned_run(selection: ScenarioSelection) -> tuple[Plan, Run]:
    """What would run here, and its record without any cell."""
    scenario = schema.load(selection.scenario, selection.overrides)
    planned = plan.make(scenario, host.machine(), selection.only)
    header = run.header_of(scenario, selection.scenario, planned, overrides=selection.overrides, only=selection.only)
    return planned, assembly.assemble(Entries(header, list(planned.refused)), "unfinished")


def stored_calibrations(request: GateRequest) -> list[StoredCalibration]:
    _, header = planned_run(selection_of(request))
    kept = stored.kept_for(header.scenario) if request.output is None else [stored.read(request.output)]
    return [StoredCalibration(entry, entry.objection(header, datetime.now(UTC))) for entry in kept]


def unfinished(file: Path, header: Run) -> Calibration | None:
    """What the file already holds for the same machine and work."""
    calibration = stored.read(file) if file.exists() else None
    return None if calibration is None or calibration.objection(header, datetime.now(UTC)) else calibration
