from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ttsbench.cli import compare as comparing
from ttsbench.cli import show
from ttsbench.errors import ExitCode
from ttsbench.records import fingerprint, measurements, profiles, runs
from ttsbench.records.jobs import PROFILE
from ttsbench.records.profiles import Profile
from ttsbench.records.runs import Run
from ttsbench.reports.pages import comparison_page, forest_plot
from ttsbench.reports.pages.forest_plot import ForestRow
from ttsbench.reports.tables import verdicts
from ttsbench.reports.tables.verdicts import Report

if TYPE_CHECKING:
    from browser import Browser

PHONE = 390
PROCESSES = 7
HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>"
Make = Callable[..., Any]
Keep = Callable[..., Path]


@pytest.fixture
def keep(tmp_path: Path, make_cells: Make, keep_run: Keep) -> Keep:
    """A run folder with stacks so fast, each process somewhat off."""

    def make(name: str, stacks: dict[str, float], memory: float = 1.0, **changes: Any) -> Path:
        peak = round(2**30 * memory)
        used = measurements.Memory(2**31, 2**30, allocated_peak_bytes=peak, reserved_peak_bytes=peak)

        def seconds(stack: str, process: int) -> float:
            return stacks[stack] * random.Random(f"{name}/{stack}/{process}").gauss(1, 0.002)

        cells = [
            cell
            for stack in stacks
            for cell in make_cells([seconds(stack, process) for process in range(PROCESSES)], stack, memory=used)
        ]
        return keep_run(tmp_path / name, cells, **changes)

    return make


def compare(*names: object, **options: Any) -> ExitCode:
    value = {"fail_on": (), "allow_mismatch": False, "output": None, **options}
    return comparing.compare([str(name) for name in names], **value)


FOUR = {"upstream": 0.5, "quick": 0.25, "slow": 0.6, "equal": 0.5, "close": 0.515}


class TestPage:
    def test_every_figure_has_its_interval_on_the_right_side(
        self, browser: Browser, keep: Keep, tmp_path: Path
    ) -> None:
        compare(keep("run", FOUR), output=tmp_path / "out")
        browser.open(tmp_path / "out" / comparison_page.FILE)
        marks = browser.run("""[...document.querySelectorAll('#forest-plot .forest-row')].map(row => {
            const at = (name) => Number(row.querySelector('.unity').getAttribute(name));
            const [line, dot] = [row.querySelector('.interval'), row.querySelector('circle')];
            return [row.classList[1], dot.getAttribute('cx') - at('x1'),
                row.querySelector('.allowed').width.baseVal.value, line.x1.baseVal.value <= dot.cx.baseVal.value]})""")
        verdicts_ = [mark[0] for mark in marks]
        assert verdicts_ == ["faster", "slower", "same", "inconclusive"]
        (faster, _), (slower, band), (same, _), _ = ((mark[1], mark[2]) for mark in marks)
        assert faster < -band
        assert slower > band
        assert abs(same) < band / 2
        assert all(mark[3] for mark in marks)
        assert browser.messages == []

    def test_it_says_in_words_what_came_of_it(self, browser: Browser, keep: Keep, tmp_path: Path) -> None:
        compare(keep("run", FOUR), output=tmp_path / "out")
        browser.open(tmp_path / "out" / comparison_page.FILE)
        headlines = browser.run("[...document.querySelectorAll('.card .headline')].map(line => line.innerText)")
        assert headlines[0].startswith(("2.00× as fast", "1.99× as fast", "2.01× as fast"))
        assert headlines[1].endswith("× as long")
        assert headlines[2] == "no difference that counts"
        assert headlines[3].endswith("?")
        assert browser.run("document.querySelector('h1').innerText") == "run"
        causes = browser.run("document.getElementById('causes').innerText")
        assert "quick: stages, by the host's clock" in causes
        assert "equal" not in causes
        assert "decode −" in causes

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_a_phone_shows_it_and_no_name_breaks_out(
        self, browser: Browser, keep: Keep, tmp_path: Path, scheme: str
    ) -> None:
        stacks = {f"upstream{HOSTILE}": 0.5, HOSTILE: 0.25, "no-place-to-break" * 20: 0.6}
        folder = keep("run", stacks, baseline=f"upstream{HOSTILE}", warnings=(HOSTILE,))
        compare(folder, output=tmp_path / "out")
        page = tmp_path / "out" / comparison_page.FILE
        browser.open(page, PHONE, scheme)
        assert browser.how_many("#forest-plot .forest-row") == 2
        assert not browser.scrolls_sideways()
        assert browser.run("window.hurt") is None
        assert browser.how_many("img") == 0
        assert set(browser.requested) == {page.as_uri()}
        assert browser.messages == []

    def test_a_mismatch_is_marked_everywhere(self, browser: Browser, keep: Keep, tmp_path: Path) -> None:
        here = keep("here", {"upstream": 0.5}, environment={"gpu": {"name": "one"}, "python": "3.11"})
        there = keep("there", {"upstream": 0.6}, environment={"gpu": {"name": "another"}, "python": "3.12"})
        compare(here, there, allow_mismatch=True, output=tmp_path / "out")
        browser.open(tmp_path / "out" / comparison_page.FILE)
        assert browser.run("document.title").startswith("MISMATCH: there against here")
        assert browser.how_many(".card .mismatch") == 1
        assert "gpu.name: one against another" in browser.run("document.querySelector('.flagged').innerText")
        assert "MISMATCH" in browser.run("document.querySelector('#table-verdicts-0 caption').innerText")
        assert browser.column("environments", 0) == ["python"]
        assert browser.column("environments", 2) == ["3.12"]
        markdown = (tmp_path / "out" / "comparison.md").read_text()
        assert "- **MISMATCH** **slower**" in markdown
        assert "| python | 3.11 | 3.12 |" in markdown
        data = json.loads((tmp_path / "out" / "comparison.json").read_text())
        assert data["environments"] == [{"name": "python", "baseline": "3.11", "candidate": "3.12"}]

    def test_an_interval_without_an_end_is_drawn_to_the_edge(self) -> None:
        from ttsbench.reports.decide.decision import Judgement, Verdict

        judgement = Judgement(Verdict.INCONCLUSIVE, 2, 0.03, ratio=1.2, low=0.0, high=float("inf"), reason="2 pairs")
        assert forest_plot.forest([ForestRow("a", "", judgement)]).count('class="beyond"') == 2

    def test_memory_and_quality_stand_beside_speed(self, keep: Keep, tmp_path: Path) -> None:
        compare(keep("before", {"a": 0.5}), keep("after", {"a": 0.4}, memory=1.5), output=tmp_path / "out")
        page = (tmp_path / "out" / comparison_page.FILE).read_text()
        assert "1.50 GiB at peak, +50.0% against 1.00" in page
        markdown = (tmp_path / "out" / "comparison.md").read_text()
        assert "| stack | RTF | peak GiB | allocated MiB |" in markdown
        assert re.search(r"\| a, baseline \| 0\.(499|500|501) \| 1\.00 \| 1,024\.0 \|", markdown)


@pytest.fixture
def make_slower_profile(make_profile: Callable[..., Profile]) -> Callable[..., Profile]:
    """Of a stack whose attention kernels take twice as long."""

    def make(stack: str, factor: float, environment: dict[str, Any], started_utc: str = "") -> Profile:
        profile = make_profile()
        families = tuple(
            dataclasses.replace(family, seconds=family.seconds * (factor if family.name == "attention" else 1))
            for family in profile.families
        )
        header = dataclasses.replace(
            profile.header, stack=stack, scenario="s", slots={"decode": "upstream"}, environment=environment,
            started_utc=started_utc or profile.header.started_utc, unprofiled_wall_seconds=(1.1 * factor,),
        )  # fmt: skip
        return dataclasses.replace(profile, header=header, families=families)

    return make


CODE = {"ttsbench": {"sha256": "f" * 64}, "gpu": {"name": "NVIDIA H200"}}


class TestKernels:
    def printed(self, out: Path) -> str:
        return (out / "comparison.md").read_text()

    def test_profiles_beside_a_run_explain_its_stacks(
        self, browser: Browser, keep: Keep, tmp_path: Path, make_slower_profile: Callable[..., Profile]
    ) -> None:
        run = keep("runs/s-1", {"upstream": 0.5, "lean": 0.6}, environment=CODE)
        for stack, factor in (("upstream", 1.0), ("lean", 2.0)):
            folder = tmp_path / "runs" / f"s-{stack}-profile-20260101T000000Z"
            folder.mkdir()
            profiles.write(folder, make_slower_profile(stack, factor, CODE))
        compare(run, output=tmp_path / "out")
        assert "lean: Kernel families (profiled)" in self.printed(tmp_path / "out")
        assert "between the profiles the kernel family attention goes from" in self.printed(tmp_path / "out")
        browser.open(tmp_path / "out" / comparison_page.FILE)
        assert browser.column("families-profile-0", 0)[0] == "attention"
        assert "lean: between the two profiles" in browser.run("document.getElementById('causes').innerText")
        assert browser.messages == []
        [result] = json.loads((tmp_path / "out" / "comparison.json").read_text())["comparisons"]
        assert result["profile"]["families"][0]["name"] == "attention"

    def test_a_profile_of_other_code_or_another_stack_explains_nothing(
        self, keep: Keep, tmp_path: Path, make_slower_profile: Callable[..., Profile]
    ) -> None:
        run = keep("runs/s-1", {"upstream": 0.5, "lean": 0.6}, environment=CODE)
        other = {**CODE, "ttsbench": {"sha256": "0" * 64}}
        for number, (stack, code) in enumerate((("upstream", CODE), ("lean", other), ("quick", CODE))):
            folder = tmp_path / "runs" / f"s-{stack}-profile-{number}"
            folder.mkdir()
            profiles.write(folder, make_slower_profile(stack, 2.0, code))
        (tmp_path / "runs" / "s-x-profile-0").mkdir()
        (tmp_path / "runs" / "s-x-profile-0" / profiles.FILE).write_text("{")
        assert compare(run, output=tmp_path / "out") is ExitCode.SLOWER
        assert "(profiled)" not in self.printed(tmp_path / "out")
        assert "ttsbench.sha256" in fingerprint.CODE

    def test_rows_of_the_runs_themselves_do_too_the_newest_first(
        self, keep: Keep, tmp_path: Path, make_slower_profile: Callable[..., Profile],
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        folders = []
        for name, factors in (("before", (1.0,)), ("after", (5.0, 2.0))):
            folder = keep(name, {"upstream": 0.5 if name == "before" else 0.6})
            run: Run = runs.read_run(folder)
            rows = tuple(
                dataclasses.replace(
                    run.cells[0], kind=PROFILE, utterances=(),
                    profile=json.loads(runs.dump(runs.to_json(
                        make_slower_profile("upstream", factor, CODE, f"2026-01-0{number + 1}")
                    ))),
                )
                for number, factor in enumerate(factors)
            )  # fmt: skip
            runs.write_run(folder, dataclasses.replace(run, cells=(*run.cells, *rows)))
            folders.append(folder)
        compare(*folders, output=tmp_path / "out")
        [result] = json.loads((tmp_path / "out" / "comparison.json").read_text())["comparisons"]
        show.show(folders[1], evidence=False)
        printed = capsys.readouterr().out
        assert printed.count("launch_bound_decode") + printed.count("Decoding waits for launches") >= 2
        assert "stack" in printed
        attention = result["profile"]["families"][0]
        assert attention["after_seconds"] == pytest.approx(2 * attention["before_seconds"])


def test_an_empty_report_is_a_page_too() -> None:
    assert "Comparison" in comparison_page.page(Report(()))
    assert verdicts.to_markdown(Report(())).startswith("# Comparison")
