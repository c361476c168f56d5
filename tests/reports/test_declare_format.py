"""A format of another package: one declaration, found in `--format` and in what is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "docs" / "results" / "h200-step-kernels"
DECLARATION = """
from ttsbench.reports.formats.format import Format

LATEX = Format(
    "latex",
    {"comparison.tex": lambda report, fail_on: f"{len(report.candidates)} candidates"},
    {"figures.tex": lambda rows: " ".join(row.metric for row in rows)},
)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which a package with a format is installed."""
    metadata = tmp_path / "site" / "my_formats-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-formats\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[ttsbench.formats]\nlatex = my_formats:LATEX\n")
    (metadata.parent / "my_formats.py").write_text(DECLARATION)
    return metadata.parent


def ttsbench(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{site}:{ROOT}"}
    command = [sys.executable, "-m", "ttsbench", *arguments]
    return subprocess.run(command, cwd=site.parent, env=environment, capture_output=True, text=True, check=False)


def test_a_declared_format_is_written_by_compare_and_export(site: Path) -> None:
    output = site.parent / "out"
    compared = ttsbench(site, "compare", str(RUN), "--output", str(output), "--format", "latex")
    assert (output / "comparison.tex").read_text() == "1 candidates", compared.stderr
    exported = ttsbench(site, "export", str(RUN), "--output", str(output), "--format", "latex")
    assert exported.returncode == 0, exported.stderr
    assert "rtf" in (output / "figures.tex").read_text().split()


def test_an_unknown_format_names_the_declared_one(site: Path) -> None:
    refused = ttsbench(site, "export", str(RUN), "--format", "latec")
    assert refused.returncode == 2
    assert "did you mean 'latex'?" in refused.stderr
