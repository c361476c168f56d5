"""What `bisect` does: which of the commits between a good and a bad one made a figure worse."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ttsbench.cli import calibrate, console, gate, listing
from ttsbench.cli import compare as comparing
from ttsbench.cli.series import Arena, Asked, Tell
from ttsbench.errors import ExitCode, SideError
from ttsbench.gating import venvs, workspace
from ttsbench.gating.remote import Work
from ttsbench.gating.worktrees import Commit, Repository
from ttsbench.reports.decide import comparison
from ttsbench.reports.decide.decision import Judgement, Verdict
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables.verdicts import Compared, Report
from ttsbench.running import runner
from ttsbench.scenarios import schema


@dataclass(frozen=True)
class Suspect:
    """The cell and the figure that became worse."""

    key: str
    metric: Metric


@dataclass
class Search:
    """A range of commits, the oldest first, of which the last one is slower; and what was found of them."""

    commits: Sequence[Commit]
    found: dict[str, Judgement] = field(default_factory=dict)
    # Why nothing can be said of a commit.
    skipped: dict[str, str] = field(default_factory=dict)

    def narrow(self, ask: Callable[[Commit], Judgement | str]) -> list[Commit]:
        """The commits that are left: one, or more where those between could not be judged."""
        left = list(self.commits)
        while (tried := self._next(left)) is not None:
            commit = left[tried]
            answer = ask(commit)
            if isinstance(answer, str):
                self.skipped[commit.sha] = answer
                continue
            self.found[commit.sha] = answer
            left = left[: tried + 1] if answer.verdict is Verdict.SLOWER else left[tried + 1 :]
        return left

    def _next(self, left: Sequence[Commit]) -> int | None:
        """The one nearest to the middle that can be judged; the last one is known to be slower."""
        open_ = [number for number, commit in enumerate(left[:-1]) if commit.sha not in self.skipped]
        return min(open_, key=lambda number: abs(number - (len(left) - 2) / 2), default=None)


@runner.at_work()
def bisect(asked: Asked, good_name: str, bad_name: str, *, stack: str, metric: str) -> ExitCode:
    """Ends with the first slower commit, its message and how much slower it is than the good one."""
    if metric:
        listing.require("figure", metric, tuple(comparison.FIGURES))
    repository = Repository.around(Path.cwd())
    good, bad = repository.commit(good_name), repository.commit(bad_name)
    repository.refuse_dirty(bad, "--bad")
    search = Search(repository.first_parents(good, bad))
    with workspace.opened(repository.top) as space:
        file = gate.scenario_file(asked.scenario, repository.check_out(bad, space))
        work = Work(file, asked.overrides, (stack,) * bool(stack))
        folder = gate.gate_folder(asked.output, schema.load(file, asked.overrides).name)
        find = calibrate.finder(asked.calibration)
        court = Court(repository, good, work, folder, space, asked.tell, find)
        report = court.judge(bad, [comparison.FIGURES[metric]] if metric else [])
        suspect = what_lost_most(report)
        if suspect is None and (broken := [told for one in report.compared if (told := gate.not_run(one.found))]):
            raise SideError(f"{bad.label} cannot be laid beside {good.label}: {broken[0]}")
        if suspect is None:
            comparing.show(report)
            console.lines([f"{bad.label} is not shown to be slower than {good.label}: there is nothing to look for"])
            return ExitCode.INCONCLUSIVE
        search.found[bad.sha] = judgement_of(report.compared, suspect)
        asked.tell(f"{suspect.key}, {suspect.metric.label}: slower; {len(search.commits)} commits to look at")
        court = replace(court, work=replace(work, only=(glob.escape(suspect.key),)))
        left = search.narrow(lambda commit: court.answer(commit, suspect))
    console.lines(said(search, left, suspect, good))
    return ExitCode.OK


@dataclass(frozen=True)
class Court:
    """Where commits are laid beside the good one."""

    repository: Repository
    good: Commit
    work: Work
    folder: Path
    space: workspace.Workspace
    tell: Tell
    find: calibrate.Find

    def judge(self, commit: Commit, only: Sequence[Metric] = ()) -> Report:
        """As a gate does."""
        sides = [self.repository.check_out(one, self.space) for one in (self.good, commit)]
        pythons = dict(zip(sides, venvs.pythons(sides, self.space, self.tell), strict=True))
        self.tell(f"{commit.label}: {commit.subject}")
        folder = self.folder / commit.sha[:10]
        arena = Arena(sides[0], sides[1], pythons, self.work, folder, self.space, self.tell)
        return gate.judged(arena, self.find, only)

    def answer(self, commit: Commit, suspect: Suspect) -> Judgement | str:
        """Its verdict, or why there is none."""
        try:
            report = self.judge(commit, [suspect.metric])
        except SideError as error:
            return str(error)
        if told := gate.not_run(report.compared[0].found):
            return told
        found = judgement_of(report.compared, suspect)
        return found if found.decided else f"it stays open: {found.reason}"


def what_lost_most(report: Report) -> Suspect | None:
    """Of all that is slower."""
    slower = [(one, metric) for one in report.compared for metric in one.found.slower]
    if not slower:
        return None
    one, metric = max(slower, key=lambda item: item[0].found.judgements[item[1].name].ratio)
    return Suspect(key_of(one), metric)


def key_of(one: Compared) -> str:
    """Of the cell that was measured."""
    return one.match.pairing.pairs[0].candidate[0].key


def judgement_of(compared: Sequence[Compared], suspect: Suspect) -> Judgement:
    """Of the suspected figure."""
    return next(one.found.judgements[suspect.metric.name] for one in compared if key_of(one) == suspect.key)


def said(search: Search, left: Sequence[Commit], suspect: Suspect, good: Commit) -> list[str]:
    """The end of the search, in words."""
    guilty = left[-1]
    found = search.found[guilty.sha]
    ratio = f"{found.ratio:.3f} ({found.low:.3f}–{found.high:.3f})"
    measured = f"{suspect.key}, {suspect.metric.label}: {ratio} times {good.label}"
    skipped = [
        f"skipped {c.sha[:10]} {c.subject}: {search.skipped[c.sha]}" for c in search.commits if c.sha in search.skipped
    ]
    if len(left) == 1:
        return [f"{guilty.sha} is the first that is slower", f"    {guilty.subject}", measured, *skipped]
    listed = [f"    {commit.sha[:10]} {commit.subject}" for commit in left]
    return [f"one of these {len(left)} is the first that is slower", *listed, f"the last of them: {measured}", *skipped]
