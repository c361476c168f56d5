"""What `calibrate` does: the same code against itself, series by series, and how far apart it comes out."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import platformdirs

import ttsbench
from ttsbench.cli import campaign, console
from ttsbench.cli.kernels import make_folder
from ttsbench.cli.series import Arena, Asked, Floors, Series, up_to_a_void_one
from ttsbench.errors import ExitCode, RecordError, SideError
from ttsbench.gating import workspace
from ttsbench.gating.remote import Work
from ttsbench.gating.worktrees import Checkout
from ttsbench.records import files, runs
from ttsbench.records.from_json import from_json
from ttsbench.records.jobs import TIMED
from ttsbench.records.journal import Entries
from ttsbench.records.runs import Run
from ttsbench.reports.decide import calibration as calibrations
from ttsbench.reports.decide import decision
from ttsbench.reports.decide.calibration import Calibration
from ttsbench.reports.decide.pairing import Pair, wanted
from ttsbench.running import host, plan, runner
from ttsbench.running.plan import Plan
from ttsbench.scenarios import schema

DATA_VARIABLE = "TTSBENCH_DATA"
NOT_CALIBRATED = "not calibrated: every figure has to differ by 3 %; ttsbench calibrate SCENARIO finds its floor"


@dataclass(frozen=True)
class Found:
    """The calibration that holds for a run, and what to say of it; none where there is none, or it holds no more."""

    calibration: Calibration | None
    note: str = NOT_CALIBRATED

    def of(self, pairs: Sequence[Pair]) -> Mapping[str, float]:
        """The floors of two stacks that are laid side by side."""
        return calibrations.floors_of_both(self.calibration, pairs[0]) if self.calibration and pairs else {}

    @property
    def tried(self) -> bool:
        """Whether somebody has calibrated this work here."""
        return self.note is not NOT_CALIBRATED


Find = Callable[[Run], Found]


@runner.at_work()
def calibrate(asked: Asked, series: int) -> ExitCode:
    """Runs what is lacking of so many series, and prints what they show. Each is kept as soon as it is over."""
    work = Work(schema.resolve(asked.scenario).absolute(), asked.overrides, asked.only)
    planned, run = what_it_is_about(work)
    campaign.refuse_nothing_to_measure(planned)
    file = asked.output or file_of(run)
    make_folder(file.absolute().parent)
    found = begun_before(file, run) or calibrations.begun(run)
    first = {job.key: job for job in planned.jobs if job.kind == TIMED and job.process == 0}
    pairs = [(key, number) for number in range(1, series + 1) for key in first if found.series_of(key) < number]
    seconds = sum(2 * decision.PAIRS_MIN * plan.job_seconds(first[key]) for key, _ in pairs)
    asked.tell(f"{len(pairs)} series of {decision.PAIRS_MIN} pairs, about {console.duration(seconds)} and the imports")
    code = Checkout("this code", Path(ttsbench.__file__).parents[1])
    with workspace.opened() as space:
        arena = Arena(code, code, {code: sys.executable}, work, space.folder, space, asked.tell)
        for number, group in groupby(pairs, key=lambda pair: pair[1]):
            asked.tell(f"series {number} of {series}")
            with arena.series(number) as both:
                for key, _ in group:
                    found = with_one_more(found, both, key)
            files.write(file, runs.dump(runs.to_json(found), indent=1) + "\n")
    console.show_table(calibrations.table(found))
    console.lines([f"kept in {file}, for {calibrations.LASTS.days} days"])
    return ExitCode.OK


def with_one_more(found: Calibration, both: Series, key: str) -> Calibration:
    """With what one series of a cell shows; one that was given up shows nothing."""
    source, attempts, began = both.pairs(key), list[Pair](), time.monotonic()
    while (more := wanted(attempts, decision.PAIRS_MIN)).pairs:
        attempts += up_to_a_void_one(source, more.pairs)
    if not more.given_up:
        return found.extended(attempts[0].baseline[0], calibrations.series_of(attempts, time.monotonic() - began))
    if not all(cell.ok for cell in (*attempts[-1].baseline, *attempts[-1].candidate)):
        raise SideError(f"{key} does not run: {more.given_up}")
    both.tell(f"{key}: this series shows nothing: {more.given_up}")
    return found


def what_it_is_about(work: Work) -> tuple[Plan, Run]:
    """What would run here, and the record of it before it has."""
    scenario = schema.load(work.scenario, work.overrides)
    planned = plan.make(scenario, host.machine(), work.only)
    header = campaign.header_of(scenario, work.scenario, planned, overrides=work.overrides, only=work.only)
    return planned, runner.assemble(Entries(header, list(planned.refused)), "unfinished")


def show(asked: Asked) -> ExitCode:
    """What is kept of a scenario, and whether it still holds here."""
    _, run = what_it_is_about(Work(schema.resolve(asked.scenario).absolute(), asked.overrides, asked.only))
    kept = all_of(run.scenario) if asked.output is None else [read(asked.output)]
    for found in kept:
        console.show_table(calibrations.table(found))
        objection = found.objection(run, datetime.now(UTC))
        console.lines([f"not used here: {objection}" if objection else "used here"])
    if not kept:
        console.lines([NOT_CALIBRATED])
    return ExitCode.OK


def finder(file: Path | None) -> Find:
    """How to find what holds for a run: in the file that was named, or among those that are kept."""
    given = None if file is None else read(file)

    def find(run: Run) -> Found:
        kept = all_of(run.scenario) if given is None else [given]
        objections = {found.made_utc: found.objection(run, datetime.now(UTC)) for found in kept}
        for found in kept:
            if not objections[found.made_utc]:
                return Found(found, f"floors by the calibration of {found.made_utc[:10]}{too_few(found)}")
        told = [f"the calibration of {made[:10]} is not used: {objection}" for made, objection in objections.items()]
        return Found(None, f"{told[0]}; ttsbench calibrate SCENARIO makes another") if told else Found(None)

    return find


def too_few(found: Calibration) -> str:
    """Where it is not whole, what does not follow from it."""
    few = [one.key for one in found.stacks if len(one.series) < calibrations.SERIES_MIN]
    return f", but none yet for {', '.join(few)}: it takes {calibrations.SERIES_MIN} series" if few else ""


def floors_in(series: Series, find: Find) -> Floors:
    """What holds for a pair of a series; of a side of an old version it is known once it was asked."""

    def floors(pair: Pair) -> Mapping[str, float]:
        run = series.head.run or series.base.run
        return {} if run is None else find(run).of([pair])

    return floors


def begun_before(file: Path, run: Run) -> Calibration | None:
    """What is there already of the same machine and work, to go on with."""
    found = read(file) if file.exists() else None
    return None if found is None or found.objection(run, datetime.now(UTC)) else found


def data_folder() -> Path:
    """Where calibrations are kept; the environment variable TTSBENCH_DATA overrides it."""
    given = os.environ.get(DATA_VARIABLE)
    return Path(given).expanduser() if given else Path(platformdirs.user_data_dir("ttsbench"))


def file_of(run: Run) -> Path:
    """One for each scenario, machine and work."""
    digest = hashlib.sha256(json.dumps(calibrations.identity(run), sort_keys=True).encode()).hexdigest()
    return data_folder() / "calibrations" / f"{run.scenario}-{digest[:12]}.json"


def all_of(scenario: str) -> list[Calibration]:
    """Those of a scenario, the newest first; what cannot be read says nothing."""
    found = []
    for file in (data_folder() / "calibrations").glob(f"{glob.escape(scenario)}-*.json"):
        with suppress(RecordError):
            found.append(read(file))
    return sorted((one for one in found if one.scenario == scenario), key=lambda one: one.made_utc, reverse=True)


def read(file: Path) -> Calibration:
    """A calibration that was kept."""
    mend = "ttsbench calibrate SCENARIO makes another"
    data = files.read_json(file, mend=mend)
    if data.get("schema_version") != calibrations.SCHEMA_VERSION:
        raise RecordError(f"{file} is no calibration that this version of ttsbench reads", mend=mend)
    return from_json(Calibration, data, str(file))
