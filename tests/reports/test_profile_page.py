from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ttsbench.records import files, runs
from ttsbench.records.jobs import PROFILE, Job, ProfileJob
from ttsbench.records.profile_rows import Gap, MemoryPoint
from ttsbench.records.profiles import Profile
from ttsbench.reports.pages import profile_page, profile_plots
from ttsbench.reports.tables import profile_diff, profile_text

if TYPE_CHECKING:
    from browser import Browser

PHONE = 360


def put(profile: Profile, folder: Path) -> Path:
    """As the command writes it."""
    return files.write(folder / profile_page.FILE, profile_page.page(profile))


@pytest.fixture
def written(make_profile: Callable[..., Profile], tmp_path: Path) -> Path:
    return put(make_profile(), tmp_path)


def header(table: str, number: int) -> str:
    return f"#table-{table} thead th:nth-child({number + 1}) button"


class TestTables:
    def test_a_header_sorts_its_table_and_sorts_it_back(
        self, browser: Browser, written: Path, make_profile: Callable[..., Profile]
    ) -> None:
        browser.open(written)
        names = [op.name for op in make_profile().ops]
        assert browser.column("ops", 0) == names
        browser.click(header("ops", 2))
        assert browser.column("ops", 0) == names[::-1]
        browser.click(header("ops", 2))
        assert browser.column("ops", 0) == names
        sorted_by = "[...document.querySelectorAll('#table-ops th[aria-sort]')].map(th => [th.innerText, th.ariaSort])"
        assert browser.run(sorted_by) == [["calls", "ascending"]]

    def test_words_sort_from_a_to_z_and_figures_by_value(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.click(header("ops", 0))
        assert browser.column("ops", 0) == sorted(browser.column("ops", 0), key=str.lower)
        browser.click(header("stages", 2))
        walls = [float(text.replace(",", "")) for text in browser.column("stages", 2)]
        assert walls == sorted(walls, reverse=True)
        assert browser.run("document.querySelector('#table-stages tfoot').innerText").startswith("sum")

    def test_what_is_missing_comes_last_whichever_way(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.click("#tab-kernels")
        for _ in range(2):
            browser.click(header("kernels", 6))
            rates = browser.column("kernels", 6)
            assert rates.count("–") > 3
            assert "–" not in rates[: -rates.count("–")]

    def test_a_filter_leaves_rows_that_hold_every_word(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.click("#tab-kernels")
        browser.click("#filter-kernels")
        browser.type("radix CFM")
        assert browser.column("kernels", 0) == ["radix sort, 8194 keys"]
        assert browser.run("document.getElementById('filter-kernels-count').innerText") == "1 of 54 rows"
        browser.press("Escape")
        assert len(browser.column("kernels", 0)) == 54

    def test_tabs_show_one_table_and_follow_the_arrow_keys(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        shown = "[...document.querySelectorAll('[role=tabpanel]:not([hidden])')].map(panel => panel.id)"
        assert browser.run(shown) == ["panel-ops"]
        browser.click("#tab-kernels")
        assert browser.run(shown) == ["panel-kernels"]
        browser.press("ArrowRight")
        assert browser.run(shown) == ["panel-modules"]
        assert browser.run("document.activeElement.id") == "tab-modules"

    def test_an_op_unfolds_its_shapes_and_a_kernel_its_true_name(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.click("#table-ops tbody summary")
        assert "[2, 1, 1024] [1024, 4096]: 640 calls, 50.000 ms" in browser.column("ops", 0)[0]
        browser.click("#tab-kernels")
        browser.click("#table-kernels tbody summary")
        assert "void at::native::sgemm" in browser.column("kernels", 0)[0]

    def test_every_table_has_a_caption_and_headers_with_a_scope(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        assert browser.run("[...document.querySelectorAll('table')].filter(table => !table.caption).length") == 0
        assert browser.run("document.querySelectorAll('th:not([scope])').length") == 0


class TestPlots:
    def test_all_are_there_with_all_their_points(
        self, browser: Browser, written: Path, make_profile: Callable[..., Profile]
    ) -> None:
        profile = make_profile()
        browser.open(written)
        amount = browser.how_many
        assert amount("#shares-plot .part") == amount("#stages-plot .stage") == len(profile.stages) == 10
        assert amount("#roofline-plot .point.stage") == 6
        assert amount("#roofline-plot .point") == len(profile_plots.roofline_points(profile)) == 24
        assert amount("#roofline-plot .ceiling") == 4
        assert amount("#breakdown-plot .part") == 3
        assert browser.run("document.querySelector('#memory-plot .line').getAttribute('d').split('H').length") == 580

    def test_a_stage_bar_is_as_long_as_its_time(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        lengths = browser.run("""Object.fromEntries([...document.querySelectorAll('#stages-plot .stage')].map(stage => [
            stage.querySelector('.name').textContent,
            [...stage.querySelectorAll('[class^=state]')].map(bar => [bar.classList[0], bar.getBBox().width])]))""")
        decode, cfm = dict(lengths["decode"]), dict(lengths["cfm"])
        assert decode["state-wait"] / decode["state-busy"] == pytest.approx(602 / 171, rel=0.01)
        assert sum(cfm.values()) / sum(decode.values()) == pytest.approx(402 / 812, rel=0.01)
        assert [state for state, _ in lengths["watermark"]] == ["state-host"]

    def test_a_point_tells_what_it_is(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.run("[...document.querySelectorAll('.point')].find(p => p.ariaLabel.startsWith('decode')).focus()")
        hint = "[...document.querySelectorAll('.point')].find(p => p.ariaLabel.startsWith('decode')).dataset.hint"
        assert "9.0% of the limit" in browser.run(hint)
        assert "launch-bound" in browser.run(hint)

    def test_they_are_drawn_anew_when_the_width_changes(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        wide = browser.run("document.querySelector('#roofline-plot svg').getBoundingClientRect().width")
        browser.resize(PHONE)
        narrow = browser.run("document.querySelector('#roofline-plot svg').getBoundingClientRect().width")
        assert narrow < PHONE < wide


class TestPage:
    def test_nothing_is_asked_of_any_network_and_nothing_goes_wrong(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        browser.open(written, PHONE, "dark")
        assert set(browser.requested) == {written.as_uri()}
        assert browser.messages == []

    @pytest.mark.parametrize("hostile", [False, True])
    def test_a_phone_shows_it_without_scrolling_sideways(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path, hostile: bool
    ) -> None:
        profile = renamed(make_profile(), "Kernel_without_any_place_to_break_it" * 12) if hostile else make_profile()
        browser.open(put(profile, tmp_path), PHONE)
        for tab in ("ops", "kernels", "modules", "families"):
            browser.click(f"#tab-{tab}")
            assert browser.run("document.documentElement.scrollWidth") <= PHONE, tab
        # Wide tables scroll in their own box.
        wide = "(box => [box.scrollWidth > box.clientWidth, box.clientWidth < 360])"
        assert browser.run(f"{wide}(document.querySelector('#table-stages').parentElement)") == [True, True]

    def test_light_and_dark_differ_and_both_can_be_read(self, browser: Browser, written: Path) -> None:
        pages = {}
        for scheme in ("light", "dark"):
            browser.open(written, scheme=scheme)
            colours = browser.colours()
            pages[scheme] = browser.luminance(colours["surface"])
            for name in ("text", "quiet", "accent", "warn"):
                assert browser.contrast(colours[name], colours["surface"]) >= 4.5, (scheme, name)
                assert browser.contrast(colours[name], colours["page"]) >= 4.5, (scheme, name)
            for name in (*profile_plots.COLOURED_STAGES, "other"):
                assert browser.contrast(colours[f"stage-{name}"], colours["surface"]) >= 3, (scheme, name)
                assert browser.contrast(colours[f"stage-{name}"], colours["on-colour"]) >= 4, (scheme, name)
        assert pages["light"] > 0.8
        assert pages["dark"] < 0.05

    def test_no_name_breaks_out_of_the_page(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path
    ) -> None:
        hostile = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>\u2028]]>{{ 7*7 }}"
        browser.open(put(renamed(make_profile(), hostile), tmp_path))
        assert browser.run("window.hurt") is None
        assert browser.how_many("img") == 0
        assert browser.run("document.querySelector('h1').innerText").startswith("</script><script>window.hurt")
        assert all("{{ 7*7 }}" in name for name in browser.column("stages", 0))
        assert all("{{ 7*7 }}" in name for name in browser.column("ops", 0))
        assert [output for output in browser.messages if "Content Security" not in output] == []
        assert set(browser.requested) == {(tmp_path / profile_page.FILE).as_uri()}

    def test_a_huge_profile_stays_under_5_mb_and_says_what_it_left_out(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path
    ) -> None:
        profile = make_profile()
        kernels = tuple(
            replace(profile.kernels[0], name=f"<&{number}" * 900, readable=f"<kernel {number}>" * 40)
            for number in range(5000)
        )
        gaps = tuple(Gap(at / 1e3, 1e-5, 0.0, "decode", "<" * 300, f"{at}" * 90) for at in range(20_000))
        timeline = tuple(MemoryPoint(at / 1e3, at * 977 % 100_003, "decode") for at in range(200_000))
        assert profile.memory is not None
        memory = replace(profile.memory, timeline=timeline)
        page = put(replace(profile, kernels=kernels, gaps=gaps, memory=memory), tmp_path)
        assert page.stat().st_size < 5_000_000
        browser.open(page)
        assert re.search(r"the first \d+ of 5,000 rows", browser.run("document.body.textContent"))
        assert browser.messages == []

    def test_void_shares_are_neither_drawn_nor_in_a_table(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path
    ) -> None:
        profile = make_profile()
        profile = replace(profile, header=replace(profile.header, unprofiled_wall_seconds=(6.3,)))
        browser.open(put(profile, tmp_path))
        assert browser.how_many("#shares-plot") == 0
        assert browser.how_many("#stages-plot .stage") == 10
        assert set(browser.column("stages", 1)) == {"–"}
        assert browser.run("document.querySelector('#answer-time .headline').innerText") == "Void"
        assert browser.messages == []

    def test_a_cpu_has_no_device_figures_and_no_empty_sections(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path
    ) -> None:
        profile = on_a_cpu(make_profile())
        browser.open(put(profile, tmp_path))
        assert browser.run("document.querySelector('#answer-where .headline').innerText") == "The host"
        assert [id_ for id_ in ("roofline", "gaps", "memory") if browser.how_many(f"#{id_}")] == []
        assert browser.how_many("[role=tab]") == 2
        assert browser.how_many("#stages-plot .state-host") == 10
        assert "device" not in browser.run("document.querySelector('#table-ops thead').innerText")
        assert browser.messages == []

    def test_without_scripts_the_figures_are_still_there(self, written: Path) -> None:
        text = written.read_text(encoding="utf-8")
        page = text[: text.index('<script type="application/json"')]
        assert all(
            words in page for words in ("aten::mm", "110.000", "sgemm 128×32, split-K", "Reconciliation", "51.7%")
        )

    def test_it_opens_with_the_four_answers_and_the_dearest_finding(self, browser: Browser, written: Path) -> None:
        browser.open(written)
        headlines = browser.run("[...document.querySelectorAll('.answers .headline')].map(dd => dd.innerText)")
        assert headlines == [
            "decode: 51.7%",
            "The host",
            "21× the floor",
            "Decoding waits for launches, not for the GPU",
        ]
        order = "[...document.querySelectorAll('[data-finding]')].map(li => li.dataset.finding)"
        assert browser.run(order) == ["launch_bound_decode", "watermark_on_host", "sort_in_sampler"]
        assert "hooks_grow" in browser.run("document.getElementById('findings').innerText")


class TestRealProfile:
    def test_a_profile_of_the_tiny_model_opens_as_a_page_and_as_text(
        self, browser: Browser, make_job: Callable[..., Job], run_cell: Callable[[Job], runs.Cell], tmp_path: Path
    ) -> None:
        window = ProfileJob("quickstart", 4, memory=True, trace_bytes_max=10_000_000)
        slots = {"decode": "upstream"}
        job = make_job(key="upstream", stack="upstream", slots=slots, kind=PROFILE, passes=(), window=window)
        cell = run_cell(job)
        assert cell.ok, cell.reason
        profile = runs.from_json(Profile, cell.profile)
        browser.open(put(profile, tmp_path))
        assert browser.column("stages", 0) == [stage.name for stage in profile.stages]
        names = browser.column("ops", 0)
        browser.click(header("ops", 2))
        calls = [int(text.replace(",", "")) for text in browser.column("ops", 2)]
        assert calls == sorted(calls, reverse=True)
        assert sorted(browser.column("ops", 0)) == sorted(names)
        assert "speedscope.app" in browser.run("document.querySelector('footer').innerText")
        assert browser.how_many("#memory-plot .line") == 1
        assert browser.messages == []
        assert profile_text.markdown(profile).count("What takes the time?") == 1


def renamed(profile: Profile, name: str) -> Profile:
    """Every word that comes from elsewhere ends with this name."""
    data = runs.to_json(profile)

    def rename(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {inner: rename(entry, inner) for inner, entry in value.items()}
        if isinstance(value, list | tuple):
            return [rename(entry, key) for entry in value]
        return name if isinstance(value, str) and key not in ("device", "kind", "dtype") else value

    return runs.from_json(Profile, rename(data))


def on_a_cpu(profile: Profile) -> Profile:
    device: dict[str, Any] = {
        "busy_seconds": 0.0,
        "idle_seconds": 0.0,
        "host_bound_seconds": 0.0,
        "launches": 0,
        "peak_memory_bytes": None,
    }
    return replace(
        profile,
        header=replace(profile.header, device="cpu", device_name="a CPU"),
        stages=tuple(replace(stage, **device) for stage in profile.stages),
        flames=tuple(flame for flame in profile.flames if flame.kind == "host"),
        kernels=(), families=(), gaps=(), coverage=(), roofline=None, memory=None, decode=None,
    )  # fmt: skip


class TestDifference:
    def test_its_page_shows_ranked_tables_that_sort(
        self, browser: Browser, make_profile: Callable[..., Profile], tmp_path: Path
    ) -> None:
        before = make_profile()
        header = replace(before.header, stack="<b>lean", unprofiled_wall_seconds=(0.9,))
        stages = tuple(replace(s, unprofiled_wall_seconds=s.unprofiled_wall_seconds * 0.7) for s in before.stages)
        result = profile_diff.compare_profiles(before, replace(before, header=header, stages=stages))
        profile_diff.write(result, tmp_path)
        browser.open(tmp_path / profile_diff.FILE, PHONE)
        assert browser.run("document.querySelector('h1').innerText") == "upstream → <b>lean"
        assert browser.column("stages", 0)[:2] == ["decode", "cfm"]
        assert browser.column("stages", 1)[:2] == ["−176.40", "−99.30"]
        browser.click("#table-stages thead th:first-child button")
        assert browser.column("stages", 0) == sorted(browser.column("stages", 0))
        assert browser.run("document.documentElement.scrollWidth") <= PHONE
        assert browser.messages == []
