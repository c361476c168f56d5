"""The calibrations kept on this machine, and which floors they give the figures of a run."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from ttsbench.errors import RecordError
from ttsbench.records import files
from ttsbench.records.from_json import from_json
from ttsbench.records.runs import Run
from ttsbench.reports.decide import calibration as calibrations
from ttsbench.reports.decide.calibration import Calibration
from ttsbench.reports.decide.pairing import Pair

DATA_VARIABLE = "TTSBENCH_DATA"
NOT_CALIBRATED = (
    "not calibrated: a figure has to differ by 3 %; ttsbench calibrate SCENARIO measures this machine's floor"
)


@dataclass(frozen=True)
class RunFloors:
    """The calibration that applies to a run, if any, and a note for the reader."""

    calibration: Calibration | None
    note: str = NOT_CALIBRATED

    def of(self, pairs: Sequence[Pair]) -> Mapping[str, float]:
        """The floor of each metric, for the two stacks that are compared."""
        return calibrations.floors_of_both(self.calibration, pairs[0]) if self.calibration and pairs else {}

    @property
    def calibrated(self) -> bool:
        """Whether there is a calibration of this scenario, valid or not."""
        return self.note is not NOT_CALIBRATED


FindFloors = Callable[[Run], RunFloors]


def floors_from(file: Path | None) -> FindFloors:
    """From the calibration in this file; if none is given, from those kept on this machine."""
    named = None if file is None else read(file)

    def find(run: Run) -> RunFloors:
        candidates = kept_for(run.scenario) if named is None else [named]
        objections = {kept.made_utc: kept.objection(run, datetime.now(UTC)) for kept in candidates}
        for kept in candidates:
            if not objections[kept.made_utc]:
                return RunFloors(kept, f"floors by the calibration of {kept.made_utc[:10]}{missing_series(kept)}")
        notes = [f"the calibration of {made[:10]} is not used: {reason}" for made, reason in objections.items()]
        return RunFloors(None, f"{notes[0]}; ttsbench calibrate SCENARIO makes another") if notes else RunFloors(None)

    return find


def missing_series(calibration: Calibration) -> str:
    few = [stack.key for stack in calibration.stacks if len(stack.series) < calibrations.SERIES_MIN]
    return f", but none yet for {', '.join(few)}: it takes {calibrations.SERIES_MIN} series" if few else ""


def data_folder() -> Path:
    """The environment variable TTSBENCH_DATA overrides it."""
    folder = os.environ.get(DATA_VARIABLE)
    return Path(folder).expanduser() if folder else Path(platformdirs.user_data_dir("ttsbench"))


def file_of(run: Run) -> Path:
    """One for each scenario, machine and work."""
    digest = hashlib.sha256(json.dumps(calibrations.identity(run), sort_keys=True).encode()).hexdigest()
    return data_folder() / "calibrations" / f"{run.scenario}-{digest[:12]}.json"


def kept_for(scenario: str) -> list[Calibration]:
    """The newest first, without files that cannot be read."""
    kept = []
    for file in (data_folder() / "calibrations").glob(f"{glob.escape(scenario)}-*.json"):
        with suppress(RecordError):
            kept.append(read(file))
    return sorted(
        (entry for entry in kept if entry.scenario == scenario), key=lambda entry: entry.made_utc, reverse=True
    )


def read(file: Path) -> Calibration:
    mend = "ttsbench calibrate SCENARIO makes another"
    data = files.read_json(file, mend=mend)
    if data.get("schema_version") != calibrations.SCHEMA_VERSION:
        raise RecordError(f"{file} is no calibration that this version of ttsbench reads", mend=mend)
    return from_json(Calibration, data, str(file))
