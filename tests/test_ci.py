"""The action and the workflows: what stands in them, and what their commands do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttsbench.records.runs import Cell
from ttsbench.reports.formats import github

ROOT = Path(__file__).parent.parent
ACTION_FILE = ROOT / "action.yml"
WORKFLOW_FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION: dict[str, Any] = yaml.safe_load(ACTION_FILE.read_text())
# Of a GitHub runner: what its scripts are run with.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def workflow(path: Path) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(path.read_text())
    return loaded


def steps(path: Path) -> list[dict[str, Any]]:
    if path == ACTION_FILE:
        return list(ACTION["runs"]["steps"])
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


FILES = pytest.mark.parametrize("path", [ACTION_FILE, *WORKFLOW_FILES], ids=lambda path: path.name)
WORKFLOWS = pytest.mark.parametrize("path", WORKFLOW_FILES, ids=lambda path: path.name)


@FILES
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(path: Path) -> None:
    used = re.findall(r"^\s*(?:- )?uses: (.+)$", path.read_text(), re.MULTILINE)
    assert len(used) == sum("uses" in step for step in steps(path))
    for name in used:
        assert name == "./" or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name), name


@FILES
def test_no_script_has_anything_filled_in(path: Path) -> None:
    scripts = [text for step in steps(path) for text in (step.get("run"), step.get("with", {}).get("script")) if text]
    assert scripts or path.name == "perf.yml"
    assert not any("${{" in script for script in scripts)


@FILES
def test_every_script_is_bash(path: Path) -> None:
    for step in steps(path):
        if "run" in step:
            checked = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True, check=False)
            assert checked.returncode == 0, (step, checked.stderr)


@WORKFLOWS
def test_workflows_may_do_no_more_than_they_need(path: Path) -> None:
    result = workflow(path)
    assert result["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in result[True]  # YAML 1.1 takes `on` for a truth
    for job in result["jobs"].values():
        request = job.get("permissions", {"contents": "read"})
        assert request == {"contents": "read"} or request == {"contents": "read", "pull-requests": "write"}
        assert "timeout-minutes" in job
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False
    assert not re.search(r"\$\{\{[^}]*secrets", path.read_text())


def test_forks_reach_no_machine_of_ours_and_get_no_comment() -> None:
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    for job in workflow(ROOT / ".github" / "workflows" / "perf.yml")["jobs"].values():
        if "self-hosted" in job["runs-on"]:
            assert own in job["if"]
    [comment] = [step for step in ACTION["runs"]["steps"] if "github-script" in step.get("uses", "")]
    assert own in comment["if"]


def lint(name: str, *words: str, text: str = "") -> None:
    """By a tool of the environment or the machine, if there is one."""
    tool = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        pytest.skip(f"{name} is not installed")
    checked = subprocess.run([tool, *words], input=text, capture_output=True, text=True, check=False, cwd=ROOT)
    assert checked.returncode == 0, checked.stdout


def test_actionlint_has_nothing_to_say() -> None:
    lint("actionlint")


def test_zizmor_finds_nothing_grave() -> None:
    lint("zizmor", "--offline", "--no-progress", "--min-severity=medium", "action.yml", ".github/workflows")


@FILES
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    for step in steps(path):
        if "run" in step:
            lint("shellcheck", "--shell=bash", "-", text=f"set -eo pipefail\n{step['run']}")


def test_the_workflow_gives_the_action_inputs_that_it_has() -> None:
    for step in steps(ROOT / ".github" / "workflows" / "perf.yml"):
        if step["uses"] == "./":
            assert set(step["with"]) <= set(ACTION["inputs"])
            assert (ROOT / "scenarios" / f"{step['with']['scenario']}.yaml").is_file()


@dataclass
class Job:
    """What the action's scripts left behind, run one after the other as a runner would."""

    folder: Path
    code: int = 0
    output_text: str = ""
    outputs: dict[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        return (self.folder / "summary").read_text()

    @property
    def comment(self) -> Path:
        return Path(self.outputs["folder"]) / "comment.md"


def run_action(folder: Path, inputs: Mapping[str, str]) -> Job:
    """Every script of the action; expressions mean what they say."""
    (folder / "temp").mkdir(parents=True)
    for name in ("summary", "outputs", "env"):
        (folder / name).touch()
    job = Job(folder)
    values = {name: inputs.get(name, str(about.get("default", ""))) for name, about in ACTION["inputs"].items()}
    files = {
        "RUNNER_TEMP": "temp", "GITHUB_STEP_SUMMARY": "summary", "GITHUB_OUTPUT": "outputs", "GITHUB_ENV": "env",
    }  # fmt: skip
    runner = {name: str(folder / file) for name, file in files.items()}

    def value(expression: str) -> str:
        kind, _, name = expression.partition(".")
        return values[name] if kind == "inputs" else job.outputs.get(name.removeprefix("gate.outputs."), "")

    for step in ACTION["runs"]["steps"]:
        if "run" not in step or step["name"] == "Set up ttsbench":
            continue
        env = {
            name: re.sub(r"\$\{\{ (\S+) \}\}", lambda result: value(result[1]), text)
            for name, text in step["env"].items()
        }
        command = [*BASH, step["run"]]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **runner, **env}, capture_output=True, text=True, check=False
        )
        job.output_text += done.stdout + done.stderr
        job.code = job.code or done.returncode
        job.outputs |= dict(line.split("=", 1) for line in (folder / "outputs").read_text().splitlines())
    return job


@pytest.fixture
def stand_in(
    tmp_path: Path,
    make_cells: Callable[..., tuple[Cell, ...]],
    keep_run: Callable[..., Path],
    walls: Callable[..., tuple[float, ...]],
) -> Callable[[float], Path]:
    """A `python -m ttsbench gate` that keeps its words, and ends as a comparison of runs that lie there does."""

    def make(factor: float) -> Path:
        keep_run(tmp_path, (*make_cells(walls()), *make_cells(walls(factor), "lean")))
        program = f"""#!{sys.executable}
import json, os, subprocess, sys
from pathlib import Path
output_text = {{"words": sys.argv[1:], "github": [name for name in os.environ if name.startswith("GITHUB_")]}}
Path({str(tmp_path / "words.json")!r}).write_text(json.dumps(output_text))
print("::error::planted")
passed = [word for word in sys.argv[1:] if word.startswith(("--output=", "--format=", "--fail-on="))]
command = [{sys.executable!r}, "-m", "ttsbench", "compare", {str(tmp_path)!r}, *passed]
sys.exit(subprocess.run(command, cwd={str(ROOT)!r}).returncode)
"""
        python = tmp_path / "python"
        python.write_text(program)
        python.chmod(0o755)
        return python

    return make


def words(tmp_path: Path) -> dict[str, list[str]]:
    result: dict[str, list[str]] = json.loads((tmp_path / "words.json").read_text())
    return result


def test_a_slower_change_fails_and_is_told_everywhere(stand_in: Callable[[float], Path], tmp_path: Path) -> None:
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(stand_in(1.1))})
    assert job.code == 1
    assert job.outputs["exit-code"] == "1"
    assert "## ttsbench: slower" in job.summary
    assert "::error title=ttsbench%3A slower::lean: RTF" in job.output_text
    kept = {path.name for path in Path(job.outputs["folder"]).iterdir()}
    assert {"comparison.md", "comparison.json", "comparison.junit.xml", "comparison.csv", "gate.log"} <= kept
    assert job.comment.read_text().startswith(github.MARKER)
    assert job.outputs["artifact"] == Path(job.outputs["folder"]).name


def test_the_same_code_passes(stand_in: Callable[[float], Path], tmp_path: Path) -> None:
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(stand_in(1.0))})
    assert job.code == 0
    assert "## ttsbench: no change" in job.summary
    assert "::error title" not in job.output_text


def test_what_is_measured_cannot_speak_to_the_runner(stand_in: Callable[[float], Path], tmp_path: Path) -> None:
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(stand_in(1.0))})
    before, planted, after = job.output_text.partition("::error::planted")
    assert planted
    [token] = re.findall(r"^::stop-commands::(\w{20,})$", before, re.MULTILINE)
    assert f"\n::{token}::\n" in after
    assert not {"GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} & set(words(tmp_path)["github"])


def test_inputs_are_words_and_never_commands(stand_in: Callable[[float], Path], tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    evil = f"$(touch {planted}) `touch {planted}`; touch {planted} \" ' --output=/x"
    values = {"scenario": f"-x {evil}", "base": evil, "set": f"a=1\n\n  \nb={evil}\n", "only": f"lean*\n{evil}"}
    run_action(tmp_path / "job", {**values, "fail-on": "slower\nquality\n", "python": str(stand_in(1.0))})
    passed = words(tmp_path)["words"]
    assert passed[:3] == ["-m", "ttsbench", "gate"]
    assert passed[-2:] == ["--", f"-x {evil}"]
    assert f"--base={evil}" in passed
    assert [word for word in passed if word.startswith("--set=")] == ["--set=a=1", f"--set=b={evil}"]
    assert [word for word in passed if word.startswith("--only=")] == ["--only=lean*", f"--only={evil}"]
    assert [word for word in passed if word.startswith("--fail-on=")] == ["--fail-on=slower", "--fail-on=quality"]
    assert not planted.exists()


@pytest.mark.parametrize(("code", "output"), [(6, "base: make\n# heading\n\x1b[31m<script>"), (2, "no such scenario")])
def test_a_gate_without_a_verdict_says_why_and_keeps_its_code(tmp_path: Path, code: int, output: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\nimport sys\nprint({output!r}, file=sys.stderr)\nsys.exit({code})\n")
    python.chmod(0o755)
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(python)})
    assert job.code == code
    assert "## ttsbench: no verdict" in job.summary
    assert f"::error title=ttsbench gate did not come to a verdict::exit code {code}" in job.output_text
    last_words = job.summary.partition("Its last words:\n\n")[2]
    assert output.splitlines()[0] in last_words
    assert all(line.startswith("    ") for line in last_words.splitlines())
    assert "\x1b" not in job.summary


def test_a_long_comment_with_long_last_words_is_not_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"""#!{sys.executable}
import sys
from pathlib import Path
[output] = [word.partition("=")[2] for word in sys.argv if word.startswith("--output=")]
Path(output, "comment.md").write_text("x" * {github.BYTES_MAX // 2 + github.BYTES_MAX // 3})
print("\\n".join(["y" * 9000] * 99))
sys.exit(6)
""")
    python.chmod(0o755)
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(python)})
    assert job.code == 6
    assert github.BYTES_MAX // 2 < len(job.summary) < 65_000


def test_a_python_that_is_not_there_is_no_regression(tmp_path: Path) -> None:
    job = run_action(tmp_path / "job", {"scenario": "quickstart", "python": str(tmp_path / "none")})
    assert job.code not in (0, 1)
    assert "No such file" in job.summary


COMMENTING = """
const calls = []
const comments = JSON.parse(process.env.COMMENTS)
const issues = { createComment: async (given) => calls.push(['create', given]),
                 updateComment: async (given) => calls.push(['update', given]), listComments: 'list' }
const github = { rest: { issues }, paginate: async () => comments }
const context = { repo: { owner: 'o', repo: 'r' }, issue: { number: 7 } }
;(async () => { SCRIPT })().then(() => console.log(JSON.stringify(calls)))
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the PATH")
@pytest.mark.parametrize("mine", [True, False])
def test_a_comment_is_replaced_and_not_repeated(tmp_path: Path, mine: bool) -> None:
    [script] = [step["with"]["script"] for step in ACTION["runs"]["steps"] if "script" in step.get("with", {})]
    (tmp_path / "comment.md").write_text(f"{github.MARKER}\n## ttsbench: slower, $& and $1\n")
    key, marker = "perf, cpu, a-->b.yaml", "<!-- ttsbench perf, cpu, a-_b.yaml -->"
    others = [
        {"id": 1, "body": f"{marker}\nquoted", "user": {"type": "User"}},
        {"id": 2, "body": "<!-- ttsbench perf, gpu, a -->", "user": {"type": "Bot"}},
        {"id": 3, "body": None, "user": None},
    ]
    ours = [{"id": 4, "body": f"{marker}\nold", "user": {"type": "Bot"}}] if mine else []
    environment = {
        **os.environ, "GATE_KEY": key, "GATE_COMMENT": str(tmp_path / "comment.md"),
        "COMMENTS": json.dumps([*others, *ours]),
    }  # fmt: skip
    program = COMMENTING.replace("SCRIPT", script)
    answer = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 0, answer.stderr
    body = f"{marker}\n## ttsbench: slower, $& and $1\n"
    where = {"comment_id": 4} if mine else {"issue_number": 7}
    assert json.loads(answer.stdout) == [
        ["update" if mine else "create", {"owner": "o", "repo": "r", **where, "body": body}]
    ]


def gate_takes_formats() -> bool:
    answer = subprocess.run(
        [sys.executable, "-m", "ttsbench", "gate", "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return answer.returncode == 0 and "--format" in answer.stdout


SCENARIO = """
name: x
fake: {process_noise: 0.002, call_noise: 0.002}
workload: {texts: [a], length: {fixed: 25}}
stacks: {upstream: {}}
measure: {repeats: 3, warmup: 1}
"""


def test_the_real_gate_in_the_action(tmp_path: Path) -> None:
    if not gate_takes_formats():
        pytest.skip("there is no `ttsbench gate --format` yet")
    (tmp_path / "x.yaml").write_text(SCENARIO)
    values = {"scenario": str(tmp_path / "x.yaml"), "base": "HEAD", "python": sys.executable}
    job = run_action(tmp_path / "job", values)
    assert job.code == 0, job.output_text
    assert "## ttsbench: no change" in job.summary
