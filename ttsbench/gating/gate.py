"""Two versions of the code measured in turn; what is slower has to be so again in a second series."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ttsbench.errors import ExitCode, NotComparableError, SideError, UsageError
from ttsbench.gating import compare, environments
from ttsbench.gating.calibrations import FindFloors, floors_from
from ttsbench.gating.remote import ScenarioSelection, StoredSide
from ttsbench.gating.series import ComparisonSetup, Floors, GateRequest, Series, until_decided
from ttsbench.gating.workspace import Workspace, open_workspace
from ttsbench.gating.worktrees import Checkout, Repository
from ttsbench.records.assembly import MEASURED_AS, read_run
from ttsbench.records.folders import make_folder
from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.pairing import Pair
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import words
from ttsbench.reports.tables.run_tables import point_name
from ttsbench.reports.tables.verdicts import CandidateReport, Report
from ttsbench.running import runner
from ttsbench.running.progress import ProgressCallback
from ttsbench.scenarios import schema

STORED = "a stored baseline: what happened to the machine since then is in the difference, and not in the interval"


@dataclass(frozen=True)
class ComparedVersions:
    """Names of commits, or a run made earlier as the base; the working tree is the head if none is named."""

    base: str = ""
    head: str = ""
    base_run: Path | None = None


def gate(
    request: GateRequest, versions: ComparedVersions, report_progress: ProgressCallback
) -> tuple[Report, Path]:  # fmt: skip
    """Every cell decided, and the folder that holds both sides' records."""
    if bool(versions.base) == (versions.base_run is not None):
        raise UsageError("give --base REF or --base-run RUN", mend="The first is measured now, the second was before")
    stored = None if versions.base_run is None else read_run(versions.base_run)
    repository, find_floors = Repository.around(Path.cwd()), floors_from(request.calibration)
    with open_workspace(repository.top) as workspace:
        head = checkout_of_head(repository, versions.head, workspace)
        base = stored or repository.check_out(repository.commit(versions.base), workspace)
        selection = ScenarioSelection(scenario_file(request.scenario, head), request.overrides, request.only)
        scenario = schema.load(selection.scenario, selection.overrides)
        folder = gate_folder(request.output, scenario.name)
        checkouts = [side for side in (base, head) if isinstance(side, Checkout)]
        pythons = environments.pythons(checkouts, workspace, report_progress)
        sources, notes = head.sources(), notes_on(selection, base, head)
        report = judge(ComparisonSetup(base, head, pythons, selection, folder, workspace, report_progress), find_floors)
        if head.sources() != sources:
            raise SideError(f"{head.label} was changed while it was measured", mend="Leave it alone, or give --head")
    return replace(report, notes=(*notes, *report.notes)), folder


def checkout_of_head(repository: Repository, name: str, workspace: Workspace) -> Checkout:
    if not name:
        return repository.working_tree()
    commit = repository.commit(name)
    repository.refuse_dirty(commit, "--head")
    return repository.check_out(commit, workspace)


def scenario_file(name: str, head: Checkout) -> Path:
    """One file for both sides: a path, or what ships with the head under this name."""
    shipped = head.folder / "scenarios" / f"{name}.yaml"
    return shipped if shipped.is_file() else schema.resolve(name).absolute()


def gate_folder(output: Path | None, scenario: str) -> Path:
    """Never one that holds another gate's records, which would be taken for this one's."""
    if output is None:
        return runner.new_folder(Path("runs"), f"{scenario}-gate").absolute()
    make_folder(output)
    if any(output.glob("series-*")):
        raise UsageError(f"{output} holds another gate's series already", mend="Name another folder, or remove it")
    return output.absolute()


def judge(setup: ComparisonSetup, find_floors: FindFloors, only: Sequence[Metric] = ()) -> Report:
    with setup.series(1) as series:
        refuse_other_work(series)
        keys = series.cells()
        if not keys:
            raise SideError("the two sides have no cell in common", mend="ttsbench run SCENARIO --plan lists the cells")
        floors = floors_in(series, find_floors)
        first = {key: until_decided(series.pairs(key), floors, only) for key in keys}
        notes = notes_of(series, find_floors)
    second: dict[str, Comparison] = {}
    if any(decided.slower for decided in first.values()):
        setup.report_progress("slower: a second series of fresh processes has to confirm it")
        with setup.series(2) as again:
            second = {
                key: until_decided(again.pairs(key), floors, decided.slower)
                for key, decided in first.items()
                if decided.slower
            }
    candidates = tuple(combined(series.base.label, first[key], second.get(key)) for key in keys)
    return Report(candidates, tuple(notes), names=(series.base.label, series.head.label))


def floors_in(series: Series, find_floors: FindFloors) -> Floors:
    def floors(pair: Pair) -> Mapping[str, float]:
        run = series.head.run or series.base.run
        return {} if run is None else find_floors(run).of([pair])

    return floors


def combined(baseline: str, first: Comparison, second: Comparison | None) -> CandidateReport:
    """The verdict after one or two series."""
    cell = first.pairing.pairs[0].candidate[0]
    notes = () if second is None else tuple(notes_on_second_series(second))
    decided = first if second is None else comparison.confirmed(first, second)
    return CandidateReport(Match(cell.stack, baseline, point_name(cell.point), first.pairing, notes), decided)


def notes_on_second_series(second: Comparison) -> Iterator[str]:
    for name, judgement in second.judgements.items():
        phrase = words.phrase(metrics.BY_NAME[name], judgement)
        yield f"second series of {judgement.pairs} pairs: {judgement.verdict}, {phrase}"
    if not second.judgements:
        yield f"second series: {second.needed.given_up or 'no figures'}"


def refuse_other_work(series: Series) -> None:
    """A stored baseline has to be of this machine and the same work; two commits may differ in what they need."""
    base, head = series.base, series.head
    if not isinstance(base, StoredSide) or head.run is None:
        return
    if differences := sides.mismatches([base.stored, head.run]):
        raise NotComparableError(
            f"{base.label} is not comparable with what is measured here; {'; '.join(differences)}",
            mend="Measure the baseline anew, with --base REF or ttsbench run",
        )


def notes_of(series: Series, find_floors: FindFloors) -> list[str]:
    runs = [run for run in (series.base.run, series.head.run) if run is not None]
    stored = (STORED,) if isinstance(series.base, StoredSide) else ()
    differences = sides.mismatches(runs) if len(runs) == 2 else []
    last = runs[-1:]
    skipped = [cell for run in last for cell in run.cells if cell.status == "skipped"]
    refused = [f"{c.key} cannot run here: {c.reason}" for c in skipped if MEASURED_AS not in c.evidence]
    calibrated = [find_floors(run).note for run in last]
    differ = (f"base and head differ: {difference}" for difference in differences)
    return [*stored, *differ, *series.unpaired(), *refused, *calibrated]


def notes_on(selection: ScenarioSelection, base: Checkout | Run, head: Checkout) -> list[str]:
    digest = hashlib.sha256(selection.scenario.read_bytes()).hexdigest()[:12]
    overrides = ", ".join(selection.overrides) or "as it is"
    return [
        f"base: the run {base.run_id}" if isinstance(base, Run) else f"base: {base.label}: {base.subject}",
        f"head: {head.label}: {head.subject}",
        f"the scenario of both: {selection.scenario.name}, sha256 {digest}, {overrides}",
    ]


def exit_code(report: Report, fail_on: Sequence[str]) -> ExitCode:
    """Like `compare`, but a process that did not run gives code 6 instead of 0 or 3."""
    code = compare.exit_code(report, fail_on)
    return ExitCode.CELL_FAILED if failures(report) and code in (ExitCode.OK, ExitCode.INCONCLUSIVE) else code


def failures(report: Report) -> list[str]:
    return [reason for compared in report.candidates if (reason := failure(compared.comparison))]


def failure(decided: Comparison) -> str:
    """Why a series was given up, if a process did not run; empty otherwise."""
    last = decided.pairing.pairs[-1]
    failed = [cell for cell in (*last.baseline, *last.candidate) if not cell.ok]
    return f"{failed[0].key}: {decided.needed.given_up}" if decided.needed.given_up and failed else ""
