"""What `gate` does: two versions of the code take turns at the same work, and a difference counts if it comes again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ttsbench.cli import calibrate, console, exporting, listing
from ttsbench.cli import compare as comparing
from ttsbench.cli.campaign import read_run
from ttsbench.cli.kernels import make_folder
from ttsbench.cli.series import Arena, Asked, Series, until_decided
from ttsbench.errors import ExitCode, NotComparableError, SideError, UsageError
from ttsbench.gating import venvs, workspace
from ttsbench.gating.remote import Stored, Work
from ttsbench.gating.worktrees import Checkout, Repository
from ttsbench.records.runs import Run
from ttsbench.reports.decide import comparison, sides
from ttsbench.reports.decide.comparison import Comparison
from ttsbench.reports.decide.sides import Match
from ttsbench.reports.formats import registry
from ttsbench.reports.metrics import Metric
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.run_tables import point_name
from ttsbench.reports.tables.verdicts import Compared, Report
from ttsbench.running import runner
from ttsbench.scenarios import schema

STORED = "a stored baseline: what happened to the machine since then is in the difference, and not in the interval"


@dataclass(frozen=True)
class Versions:
    """What is laid beside what: commits by name, the working tree, or a run that was made before."""

    base: str = ""
    head: str = ""
    base_run: Path | None = None


@runner.at_work()
def gate(
    asked: Asked, versions: Versions, fail_on: Sequence[str], formats: Sequence[str] = ()
) -> ExitCode:  # fmt: skip
    """Decides whether the head is slower than the base, and says so by the exit code."""
    for reason in fail_on:
        listing.require("reason to fail", reason, verdicts.REASONS)
    exporting.check(formats, registry.COMPARISON, asked.output or Path())
    if bool(versions.base) == (versions.base_run is not None):
        raise UsageError("give --base REF or --base-run RUN", mend="The first is measured now, the second was before")
    stored = None if versions.base_run is None else read_run(versions.base_run)
    repository, find = Repository.around(Path.cwd()), calibrate.finder(asked.calibration)
    with workspace.opened(repository.top) as space:
        head = checkout_of_head(repository, versions.head, space)
        base = stored or repository.check_out(repository.commit(versions.base), space)
        work = Work(scenario_file(asked.scenario, head), asked.overrides, asked.only)
        scenario = schema.load(work.scenario, work.overrides)
        folder = gate_folder(asked.output, scenario.name)
        code = [one for one in (base, head) if isinstance(one, Checkout)]
        pythons = dict(zip(code, venvs.pythons(code, space, asked.tell), strict=True))
        before, notes = head.sources(), about(work, base, head)
        report = judged(Arena(base, head, pythons, work, folder, space, asked.tell), find)
        if head.sources() != before:
            raise SideError(f"{head.label} was changed while it was measured", mend="Leave it alone, or give --head")
    shown = replace(report, notes=(*notes, *report.notes))
    comparing.show(shown)
    comparing.write(shown, folder, formats, fail_on=fail_on)
    return exit_code(shown, fail_on)


def checkout_of_head(repository: Repository, name: str, space: workspace.Workspace) -> Checkout:
    """What was named, or what lies here."""
    if not name:
        return repository.working_tree()
    commit = repository.commit(name)
    repository.refuse_dirty(commit, "--head")
    return repository.check_out(commit, space)


def scenario_file(name: str, head: Checkout) -> Path:
    """One file for both sides: a path, or what ships with the head under this name."""
    shipped = head.folder / "scenarios" / f"{name}.yaml"
    return shipped if shipped.is_file() else schema.resolve(name).absolute()


def gate_folder(output: Path | None, scenario: str) -> Path:
    """Where everything is kept; what another gate has kept is not mixed with it."""
    if output is None:
        return runner.new_folder(Path("runs"), f"{scenario}-gate").absolute()
    make_folder(output)
    if any(output.glob("series-*")):
        raise UsageError(f"{output} holds another gate's series already", mend="Name another folder, or remove it")
    return output.absolute()


def judged(arena: Arena, find: calibrate.Find, only: Sequence[Metric] = ()) -> Report:
    """Every cell decided; what is slower has to be so again in a second, fresh series."""
    with arena.series(1) as series:
        refuse_other_work(series)
        chosen = series.cells()
        if not chosen:
            raise SideError("nothing is measured on both sides", mend="ttsbench run SCENARIO --plan says what can run")
        floors = calibrate.floors_in(series, find)
        first = {key: until_decided(series.pairs(key), floors, only) for key in chosen}
        notes = notes_of(series, find)
    again: dict[str, Comparison] = {}
    if any(found.slower for found in first.values()):
        arena.tell("slower; a second series of fresh processes has to say so too")
        with arena.series(2) as second:
            again = {
                key: until_decided(second.pairs(key), floors, found.slower)
                for key, found in first.items()
                if found.slower
            }
    found = [compared(series.base.label, first[key], again.get(key)) for key in chosen]
    return Report(tuple(found), tuple(notes), names=(series.base.label, series.head.label))


def compared(baseline: str, first: Comparison, second: Comparison | None) -> Compared:
    """What stands after one or two series."""
    cell = first.pairing.pairs[0].candidate[0]
    notes = () if second is None else tuple(said_again(second))
    found = first if second is None else comparison.repeated(first, second)
    return Compared(Match(cell.stack, baseline, point_name(cell.point), first.pairing, notes), found)


def said_again(second: Comparison) -> Iterator[str]:
    """What a second series found, figure by figure."""
    for name, judgement in second.judgements.items():
        label, reason = comparison.FIGURES[name].label, f" ({judgement.reason})" if judgement.reason else ""
        seen = f"{judgement.ratio:.3f} ({judgement.low:.3f}–{judgement.high:.3f})"
        yield f"second series, {label}: {seen} over {judgement.pairs} pairs, {judgement.verdict}{reason}"
    if not second.judgements:
        yield f"second series: {second.wanted.given_up or 'no figures'}"


def refuse_other_work(series: Series) -> None:
    """A stored baseline has to be of this machine and of the same work; two versions may differ in what they need."""
    base, head = series.base, series.head
    if isinstance(base, Stored) and head.run is not None and (told := sides.mismatches([base.stored, head.run])):
        raise NotComparableError(
            f"{base.label} is not comparable with what is measured here; {'; '.join(told)}",
            mend="Measure the baseline anew, with --base REF or ttsbench run",
        )


def notes_of(series: Series, find: calibrate.Find) -> list[str]:
    """What a reader has to know of both sides."""
    runs = [run for run in (series.base.run, series.head.run) if run is not None]
    stored = (STORED,) if isinstance(series.base, Stored) else ()
    differing = sides.mismatches(runs) if len(runs) == 2 else []
    last = runs[-1:]
    refused = [f"{c.key} cannot run here: {c.reason}" for run in last for c in run.cells if c.status == "skipped"]
    calibrated = [find(run).note for run in last]
    return [*stored, *(f"base and head differ: {told}" for told in differing), *series.lonely(), *refused, *calibrated]


def about(work: Work, base: Checkout | Run, head: Checkout) -> list[str]:
    """What was laid beside what."""
    digest = hashlib.sha256(work.scenario.read_bytes()).hexdigest()[:12]
    of_base = f"the run {base.run_id}" if isinstance(base, Run) else described(base)
    return [
        f"base: {of_base}",
        f"head: {described(head)}",
        f"the scenario of both: {work.scenario.name}, sha256 {digest}, {', '.join(work.overrides) or 'as it is'}",
    ]


def described(checkout: Checkout) -> str:
    """A checkout in a line."""
    return f"{checkout.label}: {checkout.subject}"


def exit_code(report: Report, fail_on: Sequence[str]) -> ExitCode:
    """As `compare` ends; and what did not run is never passed over."""
    found = comparing.exit_code(report, fail_on)
    broken = [told for one in report.compared if (told := not_run(one.found))]
    if broken and found in (ExitCode.OK, ExitCode.INCONCLUSIVE):
        console.lines([f"did not run: {told}" for told in broken])
        return ExitCode.CELL_FAILED
    return found


def not_run(found: Comparison) -> str:
    """Why a series was given up, if it was because a process did not run; empty otherwise."""
    last = found.pairing.pairs[-1]
    failed = [cell for cell in (*last.baseline, *last.candidate) if not cell.ok]
    return f"{failed[0].key}: {found.wanted.given_up}" if found.wanted.given_up and failed else ""
