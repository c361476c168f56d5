"""An option of another package: one declaration, found by list, validate, doctor, run, attest and ablate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECLARATION = """
from ttsbench.errors import CellError
from ttsbench.optimizations.options import Option, needs


def apply(target, option):
    from ttsbench.optimizations.parts.modules import replace_forward

    norms = [layer.input_layernorm for layer in target.tts.t3.tfmr.layers]
    replace_forward(target, "norm", norms, lambda norm: type(norm).forward.__get__(norm))


OUR_LOOP = needs("decode", "lean", because="it says so")
PLAIN = Option("plain", "as written in PyTorch", slot="norm", apply=apply, rules=(OUR_LOOP,))


def attest(target, option):
    raise CellError("norm: idle was asked for, and nothing is what ran")


IDLE = Option("idle", "does nothing", slot="norm", apply=lambda target, option: None, attest=attest)
"""
SCENARIO = """
name: mine
model: {size: tiny}
workload: {texts: [One.], length: {fixed: 4}}
stacks:
  upstream: {}
  mine: {decode: lean, norm: plain}
  idle: {norm: idle}
measure: {processes: 1, repeats: 1, passes: [time]}
"""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ttsbench(tmp_path: Path) -> Command:
    """The command, where a package with options is installed."""
    site = tmp_path / "site"
    metadata = site / "my_options-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-options\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ttsbench.options]\nplain = my_norm:PLAIN\nidle = my_norm:IDLE\n")
    (site / "my_norm.py").write_text(DECLARATION)
    (tmp_path / "mine.yaml").write_text(SCENARIO)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": f"{site}:{ROOT}", "COLUMNS": "200"}
        command = [sys.executable, "-m", "ttsbench", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return call


def test_it_is_listed_checked_and_planned(ttsbench: Command, tmp_path: Path) -> None:
    assert "norm: plain" in ttsbench("list", "options").stdout
    assert "norm: plain" in ttsbench("doctor").stdout
    assert ttsbench("validate", "mine.yaml").returncode == 0
    (tmp_path / "wrong.yaml").write_text(SCENARIO.replace("decode: lean, norm: plain", "norm: plian"))
    assert "did you mean 'plain'" in ttsbench("validate", "wrong.yaml").stderr
    ablated = ttsbench("run", "mine.yaml", "--plan", "--ablate", "mine")
    assert "without-norm" in ablated.stdout, ablated.stderr


def test_it_runs_and_attests(ttsbench: Command, tmp_path: Path) -> None:
    ended = ttsbench("run", "mine.yaml", "--output", "out")
    [record] = (tmp_path / "out").glob("*/run.json")
    cells = {cell["stack"]: cell for cell in json.loads(record.read_text())["cells"]}
    assert cells["mine"]["status"] == "ok", ended.stdout + ended.stderr
    assert cells["mine"]["evidence"]["norm"]["replaced"] == 4
    assert cells["idle"]["reason"] == "norm: idle was asked for, and nothing is what ran"


def test_a_slot_that_does_not_exist_is_named_and_the_others_remain(ttsbench: Command, tmp_path: Path) -> None:
    (tmp_path / "site" / "my_norm.py").write_text(DECLARATION.replace('"does nothing", slot="norm"', '"", slot="nrom"'))
    ended = ttsbench("list", "options")
    assert ended.returncode == 0
    assert "norm: plain" in ended.stdout
    assert "its slot 'nrom' does not exist; did you mean 'norm'?" in " ".join(ended.stderr.split())
