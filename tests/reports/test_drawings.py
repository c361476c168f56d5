from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttsbench.records import measurements, runs
from ttsbench.records.runs import Run
from ttsbench.reports import metrics
from ttsbench.reports.pages import drawings
from ttsbench.reports.tables import markdown

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SVG = "{http://www.w3.org/2000/svg}"


def words_of(svg: str) -> list[str]:
    """Every text of a drawing, which is XML."""
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("h200-fastest", ["speed.svg", "tradeoff.svg", "stages.svg"]),
        ("h200-claims-d", ["speed.svg", "tradeoff.svg"]),
        ("h200-chatterbox-cold", ["speed.svg", "stages.svg"]),
    ],
)
def test_each_run_has_the_plots_that_its_figures_make(name: str, files: list[str]) -> None:
    run = runs.read_run(RESULTS / name)
    drawn = drawings.drawings(run)
    assert list(drawn) == files
    timed = [cell for cell in run.cells if cell.ok and cell.kind == "timed"]
    shown = list(dict.fromkeys(str(cell.point) for cell in timed))[: drawings.POINTS_MAX]
    stacks = {cell.stack for cell in timed if str(cell.point) in shown}
    for svg in drawn.values():
        assert {text.removesuffix(" *") for text in words_of(svg)} >= stacks
    document = markdown.report(run, drawn)
    assert all(f"]({file})" in document for file in files)
    assert "](speed.svg)" not in markdown.report(run)


def test_the_same_record_gives_the_same_bytes() -> None:
    run = runs.read_run(RESULTS / "h200-chatterbox")
    assert drawings.drawings(run) == drawings.drawings(run)


@pytest.mark.parametrize("name", ["$\\frac{", "<script>alert(1)</script>", "\x1b[31m\x00", "統計", "n" * 500, "%s {}"])
def test_names_are_words(name: str, make_run: Callable[..., Run], make_cell: Callable[..., Any]) -> None:
    memory = measurements.Memory(2**30, 2**29)
    cells = tuple(make_cell(stack=stack, key=stack, memory=memory) for stack in ("upstream", name))
    drawn = drawings.drawings(make_run(cells=cells))
    assert len(drawn) == 3
    shown = name if len(name) < 32 and name.isprintable() else name[:31] if len(name) > 32 else r"\x1b[31m\x00"
    for svg in drawn.values():
        assert any(shown in text for text in words_of(svg))
        assert "<script>alert" not in svg


def test_stages_have_the_colours_of_the_pages() -> None:
    sheet = (Path(drawings.__file__).parents[1] / "assets" / "page.css").read_text()
    for stage, colour in drawings.STAGE_COLOURS.items():
        assert f"--stage-{stage}: {colour};" in sheet
    assert list(drawings.STAGE_COLOURS) == list(metrics.STAGES)


def test_a_run_without_figures_has_no_plots(make_run: Callable[..., Run], make_cell: Callable[..., Any]) -> None:
    assert drawings.drawings(make_run(cells=(make_cell(status="crashed", utterances=()),))) == {}
