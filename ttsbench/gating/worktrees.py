"""The code of each side of a gate: a commit in a worktree of its own, or the working tree as it lies there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttsbench.errors import SideError, UsageError
from ttsbench.gating.workspace import Workspace
from ttsbench.running import sources

DIRTY_SHOWN = 5
SHORT = 10


@dataclass(frozen=True)
class Commit:
    sha: str
    subject: str
    name: str = ""

    @property
    def label(self) -> str:
        """The name that the user gave, and the hash."""
        short = self.sha[:SHORT]
        return short if self.name in ("", self.sha, short) else f"{self.name} ({short})"


@dataclass(frozen=True)
class Checkout:
    """Code that can be run: its folder holds the package."""

    label: str
    folder: Path
    subject: str = ""

    def sources(self) -> str:
        """A hash of all the code that runs."""
        package = self.folder / "ttsbench"
        return sources.source_hash(package, sources.python_files(package))


@dataclass(frozen=True)
class Repository:
    top: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Refused unless it is one of ttsbench: its commits are what is compared."""
        try:
            top = Path(run_git(folder, "rev-parse", "--show-toplevel").strip())
        except SideError as error:
            raise UsageError(
                f"{folder} is in no git repository: {error}", mend="Go to a checkout of ttsbench"
            ) from None
        if not (top / "ttsbench" / "__main__.py").is_file():
            raise UsageError(f"{top.name} is no checkout of ttsbench", mend="Go to one: the gate compares its commits")
        return cls(top)

    def commit(self, name: str) -> Commit:
        try:
            output = run_git(self.top, "log", "-1", "--format=%H%n%s", "--end-of-options", f"{name}^{{commit}}", "--")
        except SideError:
            mend = "git log names commits; a shallow clone lacks the older ones (git fetch --unshallow)"
            raise SideError(f"{name!r} names no commit of this repository", mend=mend) from None
        sha, _, subject = output.rstrip("\n").partition("\n")
        return Commit(sha, subject, name)

    def refuse_dirty(self, commit: Commit, option: str) -> None:
        """Whoever names the commit that is checked out probably means the working tree, which differs from it."""
        changed = self.changed()
        if changed and commit.sha == self.commit("HEAD").sha:
            more = f" and {len(changed) - DIRTY_SHOWN} more" if len(changed) > DIRTY_SHOWN else ""
            raise SideError(
                f"{option} {commit.name} is checked out, and the working tree differs from it: "
                f"{', '.join(changed[:DIRTY_SHOWN])}{more}",
                mend=f"Commit or stash that, or leave out {option} to measure the working tree as it is"
                if option == "--head"
                else "Commit or stash that",
            )

    def changed(self) -> list[str]:
        """Files under version control that differ from the commit."""
        output = run_git(self.top, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "-z")
        return [entry[3:] for entry in output.split("\0") if entry[2:3] == " "]

    def working_tree(self) -> Checkout:
        commit = self.commit("HEAD")
        state = "changed since" if self.changed() else "at"
        return Checkout(f"the working tree, {state} {commit.sha[:SHORT]}", self.top, commit.subject)

    def check_out(self, commit: Commit, workspace: Workspace) -> Checkout:
        """In a worktree of its own, which ends with the workspace; one that is there already is used again."""
        folder = workspace.folder / "worktrees" / commit.sha[:SHORT]
        if not folder.exists():
            # No hook of the user's should run for a worktree that nobody works in.
            command = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", "--quiet")
            run_git(self.top, *command, str(folder), commit.sha, environment=workspace.environment())
        if not (folder / "ttsbench" / "__main__.py").is_file():
            raise SideError(f"{commit.label} holds no ttsbench")
        return Checkout(commit.label, folder, commit.subject)

    def first_parents(self, good: Commit, bad: Commit) -> list[Commit]:
        """Those after the good one up to the bad one, the oldest first."""
        lines = run_git(self.top, "log", "--first-parent", "--format=%H %s", bad.sha, "--").splitlines()
        line = [Commit(*entry.split(" ", 1)) for entry in lines]
        after = next((number for number, commit in enumerate(line) if commit.sha == good.sha), None)
        if not after:
            reason = "there is nothing between them" if after == 0 else "it is no ancestor along the first parents"
            mend = f"git log --first-parent {bad.name or bad.sha} shows those that are"
            raise SideError(f"{good.label} does not come before {bad.label}: {reason}", mend=mend)
        return line[after - 1 :: -1]


def run_git(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What git prints, without the variables by which a git hook that runs us names its own repository."""
    variables = os.environ if environment is None else environment
    variables = {name: value for name, value in variables.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False, env=variables
        )
    except OSError as error:
        raise SideError(f"git cannot be started: {error.strerror}", mend="Install git") from None
    if done.returncode:
        raise SideError(f"git {arguments[0]} failed: {last_line(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout


def last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "")
