from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.records import measurements, runs
from ttsbench.records.runs import Run
from ttsbench.reports import metrics, sections
from ttsbench.reports.pages import report_markdown, run_plots, svg
from ttsbench.reports.pages.svg import Plot

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SVG = "{http://www.w3.org/2000/svg}"


def plots(run: Run) -> list[Plot]:
    return [plot for content in sections.contents(run) for plot in content.plots]


def words_of(document: str) -> list[str]:
    """Every text of a plot, which is XML."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(document).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("h200-fastest", ["tradeoff.svg", "stages.svg", "stages-host.svg", "samples.svg", "first-audio.svg"]),
        ("h200-claims-d", [f"{kind}-{point}.svg" for kind in ("tradeoff", "samples") for point in range(1, 7)]),
        ("h200-chatterbox-cold", ["stages.svg", "stages-host.svg", "samples.svg", "first-audio.svg", "ladder.svg"]),
    ],
)
def test_each_run_has_the_plots_that_its_figures_make(name: str, files: list[str]) -> None:
    run = runs.read_run(RESULTS / name)
    drawn = plots(run)
    assert [plot.file for plot in drawn] == files
    timed = [cell for cell in run.cells if cell.ok and cell.kind == "timed"]
    for plot in drawn:
        assert {text.removesuffix(" *") for text in words_of(plot.document)} & {cell.stack for cell in timed}
    assert all(f"]({file})" in report_markdown.report(run) for file in files)


def test_the_same_record_gives_the_same_bytes() -> None:
    run = runs.read_run(RESULTS / "h200-chatterbox")
    assert plots(run) == plots(run)


@pytest.mark.parametrize("name", ["$\\frac{", "<script>alert(1)</script>", "\x1b[31m\x00", "統計", "n" * 500, "%s {}"])
def test_names_are_words(name: str, make_run: Callable[..., Run], make_cell: Callable[..., Any]) -> None:
    memory = measurements.Memory(2**30, 2**29)
    cells = tuple(make_cell(stack=stack, key=stack, memory=memory) for stack in ("upstream", name))
    drawn = plots(make_run(cells=cells))
    assert len(drawn) == 4
    start = name if name.isprintable() else r"\x1b[31m\x00"
    for plot in drawn:
        assert any(start[:24] in text for text in words_of(plot.document))
        assert "<script>alert" not in plot.document


def test_a_file_brings_every_colour_that_it_uses() -> None:
    assets = Path(svg.__file__).parents[1] / "assets"
    colours = (assets / "colours.css").read_text()
    assert all(f"--stage-{stage}:" in colours for stage in metrics.STAGES)
    [stages, *_] = run_plots.stages(runs.read_run(RESULTS / "h200-fastest"))
    assert "prefers-color-scheme: dark" in stages.document
    assert "<style" not in stages.svg  # a page has its own, and its policy allows no other


def test_a_run_without_figures_has_no_plots(make_run: Callable[..., Run], make_cell: Callable[..., Any]) -> None:
    assert plots(make_run(cells=(make_cell(status="crashed", utterances=()),))) == []


@pytest.mark.parametrize("domain", [(0.0, 0.0), (0.0, 1e-9), (0.93, 1.04), (0.0, 1e300), (3.0, 3.0)])
def test_ticks_are_few_and_within(domain: tuple[float, float]) -> None:
    ticks = svg.ticks(domain, 8)
    assert len(ticks) <= 10
    assert all(domain[0] - 1e-9 <= tick <= domain[1] * (1 + 1e-6) + 1e-9 for tick in ticks)
