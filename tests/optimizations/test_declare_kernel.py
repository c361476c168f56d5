"""A kernel of another package: one declaration, found by `ttsbench kernels`, profile families and the roofline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ttsbench.running import host

ROOT = Path(__file__).parents[2]
DECLARATION = """
import torch

from ttsbench.optimizations.kernels.kernel import Case, Kernel, Shape, in_float64, normal


def doubled(x):
    return x + x


def inputs(dims, dtype, generator):
    return (normal(generator, *dims, dtype=dtype),)


KERNEL = Kernel(
    device_names=("^my_doubling_kernel",),
    is_product=True,
    cases=(
        Case(
            name="doubling", inputs=inputs, reference=lambda x: 2 * x, ours=doubled, exact=in_float64(doubled),
            shapes=(Shape("any", (4, 8)),), small=(Shape("any", (4, 8)),),
        ),
    ),
)
"""


@pytest.fixture
def package(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds an installed package with a kernel."""
    metadata = tmp_path / "site" / "my_kernels-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-kernels\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ttsbench.kernels]\ndoubling = my_doubling\n")
    (tmp_path / "site" / "my_doubling.py").write_text(DECLARATION)
    return {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}


def test_names_are_read_without_torch(package: dict[str, str]) -> None:
    program = (
        "import sys; from ttsbench.optimizations.kernels import catalog\n"
        "print('doubling' in catalog.case_names(), 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], env=package, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "False"]


@pytest.mark.skipif(host.machine().has_cuda, reason="its shapes are the interpreter's")
def test_it_is_compared_with_its_reference(package: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ttsbench", "kernels", "doubling", "-q", "--output", "out"]
    ended = subprocess.run(command, env=package, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads((tmp_path / "out" / "kernels.json").read_text())["rows"]
    assert {(row["kernel"], row["contender"], row["status"]) for row in rows} == {
        ("doubling", "eager", "ok"),
        ("doubling", "triton", "ok"),
    }


def test_a_profile_knows_its_family_and_that_it_is_a_product(package: dict[str, str]) -> None:
    program = (
        "from ttsbench.profiling import families, roofline\n"
        "name = 'my_doubling_kernel_0'\n"
        "print(families.family(name), families.readable(name), roofline.is_product(name), sep=';')"
    )
    ended = subprocess.run([sys.executable, "-c", program], env=package, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "triton;my doubling kernel 0 (Triton);True"


def test_a_kernel_that_cannot_be_used_costs_no_other(package: dict[str, str], tmp_path: Path) -> None:
    metadata = tmp_path / "broken" / "broken_kernel-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-kernel\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ttsbench.kernels]\nbroken = nowhere.at_all\n")
    environment = package | {"PYTHONPATH": f"{metadata.parent}:{package['PYTHONPATH']}"}
    program = "from ttsbench.optimizations.kernels import catalog; print('doubling' in catalog.case_names())"
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "True"
    assert "the kernel of nowhere.at_all cannot be used" in ended.stderr
