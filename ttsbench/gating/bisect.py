"""Which of the commits between a good and a bad one made a metric worse."""

from __future__ import annotations

import glob
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ttsbench.errors import SideError
from ttsbench.gating import environments, gate
from ttsbench.gating.calibrations import FindFloors, floors_from
from ttsbench.gating.remote import ScenarioSelection
from ttsbench.gating.series import ComparisonSetup, GateRequest
from ttsbench.gating.workspace import Workspace, open_workspace
from ttsbench.gating.worktrees import Commit, Repository
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.verdicts import CandidateReport, Report
from ttsbench.running.progress import ProgressCallback
from ttsbench.scenarios import schema


@dataclass(frozen=True)
class Regression:
    """The cell and the metric that became worse."""

    key: str
    metric: Metric

    def __str__(self) -> str:
        return f"{self.key}, {self.metric.label}"


@dataclass
class CommitSearch:
    """A range of commits, the oldest first; the last one is known to be slower."""

    commits: Sequence[Commit]
    judgements: dict[str, Judgement] = field(default_factory=dict)
    # Why a commit could not be judged.
    skipped: dict[str, str] = field(default_factory=dict)

    def narrow(self, judge: Callable[[Commit], Judgement | str]) -> list[Commit]:
        """The commits that may be the first slower one: one, or more where those between could not be judged."""
        left = list(self.commits)
        while (middle := self._next(left)) is not None:
            commit = left[middle]
            judgement = judge(commit)
            if isinstance(judgement, str):
                self.skipped[commit.sha] = judgement
                continue
            self.judgements[commit.sha] = judgement
            left = left[: middle + 1] if judgement.verdict is Verdict.SLOWER else left[middle + 1 :]
        return left

    def _next(self, left: Sequence[Commit]) -> int | None:
        """The one nearest to the middle that was not skipped; the last one needs no judging."""
        candidates = [number for number, commit in enumerate(left[:-1]) if commit.sha not in self.skipped]
        return min(candidates, key=lambda number: abs(number - (len(left) - 2) / 2), default=None)


@dataclass(frozen=True)
class CommitJudge:
    """Compares commits with the good one."""

    repository: Repository
    good: Commit
    selection: ScenarioSelection
    folder: Path
    workspace: Workspace
    report_progress: ProgressCallback
    find_floors: FindFloors

    def report(self, commit: Commit, only: Sequence[Metric] = ()) -> Report:
        base, head = (self.repository.check_out(side, self.workspace) for side in (self.good, commit))
        pythons = environments.pythons([base, head], self.workspace, self.report_progress)
        self.report_progress(f"{commit.label}: {commit.subject}")
        folder = self.folder / commit.sha[:10]
        setup = ComparisonSetup(base, head, pythons, self.selection, folder, self.workspace, self.report_progress)
        return gate.judge(setup, self.find_floors, only)

    def judgement(self, commit: Commit, regression: Regression) -> Judgement | str:
        """Its verdict, or why it has none."""
        try:
            report = self.report(commit, [regression.metric])
        except SideError as error:
            return str(error)
        if reasons := gate.failures(report):
            return reasons[0]
        judgement = judgement_of(report.candidates, regression)
        return judgement if judgement.decided else f"inconclusive: {judgement.reason}"


@dataclass(frozen=True)
class Bisection:
    """Either the commits that are left, or, where the bad commit is not shown to be slower, the report that says so."""

    report: Report
    lines: list[str]
    regressed: bool


def bisect(
    request: GateRequest, good_name: str, bad_name: str, metrics: Sequence[Metric], report_progress: ProgressCallback
) -> Bisection:
    """Looks for the first commit that is slower in the metrics, or, without any, in the one that lost most."""
    repository = Repository.around(Path.cwd())
    good, bad = repository.commit(good_name), repository.commit(bad_name)
    repository.refuse_dirty(bad, "--bad")
    search = CommitSearch(repository.first_parents(good, bad))
    with open_workspace(repository.top) as workspace:
        file = gate.scenario_file(request.scenario, repository.check_out(bad, workspace))
        selection = ScenarioSelection(file, request.overrides, request.only)
        folder = gate.gate_folder(request.output, schema.load(file, request.overrides).name)
        find_floors = floors_from(request.calibration)
        judge = CommitJudge(repository, good, selection, folder, workspace, report_progress, find_floors)
        report = judge.report(bad, metrics)
        regression = worst_regression(report)
        if regression is None:
            if reasons := gate.failures(report):
                raise SideError(f"{bad.label} cannot be compared with {good.label}: {reasons[0]}")
            line = f"{bad.label} is not shown to be slower than {good.label}: there is nothing to look for"
            return Bisection(report, [line], regressed=False)
        search.judgements[bad.sha] = judgement_of(report.candidates, regression)
        report_progress(f"{regression}: slower; {len(search.commits)} commits to look at")
        judge = replace(judge, selection=replace(selection, only=(glob.escape(regression.key),)))
        left = search.narrow(lambda commit: judge.judgement(commit, regression))
    return Bisection(report, describe(search, left, regression, good), regressed=True)


def worst_regression(report: Report) -> Regression | None:
    slower = [(compared, metric) for compared in report.candidates for metric in compared.comparison.slower]
    if not slower:
        return None
    compared, metric = max(slower, key=lambda item: abs(math.log(item[0].comparison.judgements[item[1].name].ratio)))
    return Regression(key_of(compared), metric)


def key_of(compared: CandidateReport) -> str:
    return compared.match.pairing.pairs[0].candidate[0].key


def judgement_of(compared: Sequence[CandidateReport], regression: Regression) -> Judgement:
    return next(
        candidate.comparison.judgements[regression.metric.name]
        for candidate in compared
        if key_of(candidate) == regression.key
    )


def describe(search: CommitSearch, left: Sequence[Commit], regression: Regression, good: Commit) -> list[str]:
    culprit = left[-1]
    judgement = search.judgements[culprit.sha]
    ratio = f"{judgement.ratio:.3f} ({judgement.low:.3f}–{judgement.high:.3f})"
    measured = f"{regression}: {ratio} times {good.label}"
    skipped = [
        f"skipped {commit.sha[:10]} {commit.subject}: {search.skipped[commit.sha]}"
        for commit in search.commits
        if commit.sha in search.skipped
    ]
    if len(left) == 1:
        return [f"{culprit.sha} is the first slower commit", f"    {culprit.subject}", measured, *skipped]
    listed = [f"    {commit.sha[:10]} {commit.subject}" for commit in left]
    return [f"one of these {len(left)} is the first slower commit", *listed, f"the last one: {measured}", *skipped]
