"""A family that a distribution from outside declares is found in every place that names families, and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ttsbench.model.checkpoint_files import safetensors_header

MODULE = """
from dataclasses import replace

from ttsbench.model.families import CHATTERBOX, Files, LANGUAGES

FILES = replace(CHATTERBOX.files, t3="t3_small.safetensors", t3_in_upstream="t3_cfg.safetensors")
SMALL = replace(
    CHATTERBOX,
    name="small",
    files=FILES,
    sizes={"tiny": {**CHATTERBOX.sizes["tiny"], "num_hidden_layers": 3}},
)
AGAIN = CHATTERBOX
NO_FAMILY = 3
"""
ENTRY_POINTS = """[ttsbench.families]
small = small_family:SMALL
number = small_family:NO_FAMILY
gone = no_such_module:FAMILY
again = small_family:AGAIN
"""
SCENARIO = """
name: small
model: {family: small, size: tiny}
device: cpu
workload: {texts: [Two words.], length: {fixed: 5}}
stacks: {lean: {decode: lean}}
measure: {processes: 1, repeats: 1, warmup: 1, passes: [time], start: bare}
"""


@pytest.fixture
def ttsbench(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command in an environment where that distribution is installed."""
    installed = tmp_path / "site"
    metadata = installed / "small_family-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: small-family\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    (installed / "small_family.py").write_text(MODULE, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ttsbench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    return run


def test_a_declared_family_is_named_where_families_are(
    ttsbench: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert "multilingual, small" in " ".join(ttsbench("checkpoint", "--help").stdout.split())
    schema = json.loads(ttsbench("schema").stdout)
    assert "small" in schema["$defs"]["Model"]["properties"]["family"]["enum"]
    doctor = ttsbench("doctor")
    assert [line.split() for line in doctor.stdout.splitlines() if line.split()[:1] == ["small"]] == [
        ["small", "runs", "here"]
    ]
    # The others of its distribution are no families, and say so; nothing else is lost by that.
    assert "the family number (small_family:NO_FAMILY) cannot be used: it is a int, not a Family" in doctor.stderr
    assert "the family again (small_family:AGAIN) cannot be used: there is a family chatterbox already" in doctor.stderr
    assert "the family gone (no_such_module:FAMILY) cannot be used: No module named" in doctor.stderr


def test_a_declared_family_has_a_checkpoint_and_runs(
    ttsbench: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    written = ttsbench("checkpoint", "made", "--family", "small", "--size", "tiny")
    assert written.returncode == 0, written.stderr
    tensors = safetensors_header(tmp_path / "made" / "t3_small.safetensors")
    assert {name.split(".")[2] for name in tensors if name.startswith("tfmr.layers.")} == {"0", "1", "2"}
    assert json.loads((tmp_path / "made" / "ttsbench.json").read_text())["family"] == "small"

    (tmp_path / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    ended = ttsbench("run", "small.yaml", "--output", "run")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = json.loads(next(tmp_path.glob("run/**/run.json")).read_text())
    assert [(cell["stack"], cell["status"]) for cell in run["cells"]] == [("lean", "ok")]

    refused = ttsbench(
        "validate", "small.yaml", "--set", "stacks.lean.stream=revocode", "--set", "workload.language=de"
    )
    assert refused.returncode == 2
    assert "only the multilingual family takes a language; this is small" in refused.stderr
