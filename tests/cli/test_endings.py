"""With which code a command ends at moments when nothing of it runs yet, or nothing can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ttsbench.errors import ExitCode
from ttsbench.records import runs

ROOT = Path(__file__).parents[2]
RUN = str(ROOT / "docs" / "results" / "h200-turbo")


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment, timeout=300,
    )  # fmt: skip


INTERRUPTED_AT = """
import os, signal, sys

class CtrlC:
    def find_spec(self, name, *_):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, CtrlC())
from ttsbench.cli import app
app.main()
"""


@pytest.mark.parametrize(
    "name", ["ttsbench.errors", "ttsbench.cli.commands", "typer", "ttsbench.records.runs", "rich.table", "numpy"]
)
def test_ctrl_c_during_any_import_ends_as_interrupted(name: str) -> None:
    ended = python(INTERRUPTED_AT.format(name=name), "compare", RUN)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (ExitCode.INTERRUPTED, "ttsbench: interrupted")
    assert "Traceback" not in ended.stderr


LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_AS, ({bytes}, {bytes}))
from ttsbench.cli import app
app.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold to such a limit")
@pytest.mark.parametrize("megabytes", [100, 140, 180])
def test_too_little_memory_for_numpy_is_not_slower(megabytes: int) -> None:
    """OpenBLAS ends the process with 1, or does not end at all."""
    ended = python(LIMITED.format(bytes=megabytes * 10**6), "compare", RUN)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (ExitCode.INTERNAL, 1), ended.stderr


SCENARIO = """
name: s
model: {size: tiny}
device: cpu
workload: {texts: [Hello.], length: {fixed: 6}}
stacks: {upstream: {}}
baseline: upstream
measure: {processes: 1}
"""


def test_a_fork_server_that_dies_as_it_imports_fails_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(SCENARIO)
    Path("torch.py").write_text("import os\nos._exit(1)\n")
    code = "from ttsbench.cli import app; app.main()"
    ended = python(code, "run", "s.yaml", "--quiet", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (ended.returncode, "Aborted" in ended.stderr) == (ExitCode.CELL_FAILED, False), ended.stderr
    [folder] = tmp_path.glob("runs/*")
    assert [(cell.status, cell.reason.partition(";")[0]) for cell in runs.read_run(folder).cells] == [
        ("crashed", "the fork server ended before the process began")
    ]


def test_a_path_of_5000_characters_is_wrong_usage() -> None:
    for command in (("show",), ("compare",), ("run",), ("export", "--format", "csv"), ("show", RUN, "--html")):
        ended = python("from ttsbench.cli import app; app.main()", *command, "x" * 5000)
        assert ended.returncode == ExitCode.USAGE, ended.stderr
