from __future__ import annotations

import random
from typing import Any

import pytest

from ttsbench.errors import ExitCode
from ttsbench.gating.bisect import CommitSearch
from ttsbench.gating.worktrees import Commit
from ttsbench.reports.decide.decision import Judgement, Verdict

SLOWER, SAME = (Judgement(verdict, 5, 0.03, 1.1, 1.08, 1.12) for verdict in (Verdict.SLOWER, Verdict.SAME))


@pytest.mark.parametrize("seed", range(200))
def test_the_search_ends_with_the_culprit_or_with_those_that_could_be(seed: int) -> None:
    draw = random.Random(seed)
    commits = [Commit(f"{number:040}", "") for number in range(draw.randint(1, 40))]
    culprit = draw.randrange(len(commits))
    broken = {commit.sha for commit in commits[:-1] if draw.random() < draw.choice((0.0, 0.3))}
    request: list[int] = []

    def ask(commit: Commit) -> Judgement | str:
        request.append(int(commit.sha))
        return "broken" if commit.sha in broken else SLOWER if int(commit.sha) >= culprit else SAME

    search = CommitSearch(commits, {commits[-1].sha: SLOWER})
    left = search.narrow(ask)
    assert commits[culprit] in left
    assert search.judgements[left[-1].sha] is SLOWER
    assert all(commit.sha in broken for commit in left[:-1])
    assert len(request) == len(set(request))
    assert set(search.skipped) <= broken
    if not broken:
        assert left == [commits[culprit]]
        assert len(request) <= len(commits).bit_length()


def test_it_names_the_commit_its_message_and_the_difference(bench: Any) -> None:
    good = bench.git("rev-parse", "HEAD").strip()
    bench.git("commit", "-q", "--allow-empty", "-m", "Nothing yet")
    bench.change("ttsbench/running/fake_engine.py", "import math\n", "import math\nimport not_there\n")
    broken = bench.commit("Breaks it")
    bench.change("ttsbench/running/fake_engine.py", "import not_there\n", "")
    bench.plant(1.3)
    culprit = bench.commit("Decodes token by token")
    bench.git("commit", "-q", "--allow-empty", "-m", "Nothing more")
    ended = bench("bisect", bench.scenario, "--good", good, "--bad", "HEAD", "--quiet")
    assert ended.returncode == ExitCode.OK, ended.stderr
    output = ended.stdout.splitlines()
    assert output[0] == "one of these 2 is the first slower commit"
    assert output[1:3] == [f"    {broken[:10]} Breaks it", f"    {culprit[:10]} Decodes token by token"]
    assert output[3].startswith("the last one: upstream, RTF: 1.1")
    assert f"skipped {broken[:10]} Breaks it: {broken[:10]} does not run: ModuleNotFoundError" in output[4]
    assert bench.worktrees() == 1
    # Where there is but one, there is no doubt.
    bench.git("reset", "-q", "--hard", good)
    bench.plant(1.3)
    bench.commit("Decodes token by token")
    only = ("--metric", "decode_seconds_per_token", "--stack", "upstream")
    ended = bench("bisect", bench.scenario, "--good", good, "--bad", "HEAD", "--quiet", *only)
    assert ended.returncode == ExitCode.OK, ended.stderr
    result = ended.stdout.splitlines()
    assert result[1] == "    Decodes token by token"
    assert result[2].startswith("upstream, ms/token: 1.")


def test_a_range_that_did_not_become_slower_is_told(bench: Any) -> None:
    good = bench.git("rev-parse", "HEAD").strip()
    bench.plant(0.7)
    bench.commit("Faster")
    ended = bench("bisect", bench.scenario, "--good", good, "--bad", "main", "--quiet")
    assert ended.returncode == ExitCode.INCONCLUSIVE
    assert "main" in ended.stdout
    assert "is not shown to be slower than" in ended.stdout


def test_a_bad_commit_that_does_not_run_is_told(bench: Any) -> None:
    good = bench.git("rev-parse", "HEAD").strip()
    bench.change("ttsbench/running/fake_engine.py", "if process.crashes:", "if True:")
    bench.commit("Crashes")
    ended = bench("bisect", bench.scenario, "--good", good, "--bad", "main", "--quiet")
    assert ended.returncode == ExitCode.CELL_FAILED
    assert "pair 1 was void 3 times; the last time: candidate: crashed" in ended.stderr


@pytest.mark.parametrize(
    ("good", "bad", "code", "output"),
    [
        ("HEAD", "HEAD", ExitCode.CELL_FAILED, "there is nothing between them"),
        ("main", "HEAD~1", ExitCode.CELL_FAILED, "it is no ancestor along the first parents"),
        ("nothing", "HEAD", ExitCode.CELL_FAILED, "'nothing' names no commit"),
        ("HEAD~1", "HEAD", ExitCode.USAGE, "there is no figure 'rtff'; did you mean 'rtf'"),
    ],
)
def test_what_cannot_be_searched_is_told(bench: Any, good: str, bad: str, code: ExitCode, output: str) -> None:
    bench.git("commit", "-q", "--allow-empty", "-m", "Another")
    more = ["--metric", "rtff"] if code is ExitCode.USAGE else []
    ended = bench("bisect", bench.scenario, "--good", good, "--bad", bad, *more)
    assert (ended.returncode, output in ended.stderr) == (code, True), ended.stderr
