from __future__ import annotations

import base64
import dataclasses
import math
import random
import re
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ttsbench.records import files, measurements, runs
from ttsbench.records.measurements import Audio, Quality, StageTime, Utterance
from ttsbench.records.runs import Cell, Run
from ttsbench.reports.decide.statistics import Estimate
from ttsbench.reports.pages import players, report_markdown, report_page, run_plots, samples_plot, tradeoff_plot
from ttsbench.reports.pages.tradeoff_plot import StackTradeoff
from ttsbench.reports.tables import run_tables

if TYPE_CHECKING:
    from browser import Browser

ROOT = Path(__file__).parents[2]
PHONE = 390
HOSTILE = "</script><script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>\u202e{{ 7*7 }}"
LONG = "a-stack-whose-name-has-no-place-to-break-it" * 6
STACKS = {"upstream": 0.5, "lean": 0.4, "bare": 0.3}
PROCESSES, CALLS = 6, 4
Make = Callable[..., Any]


def tone(file: Path, seconds: float = 0.2) -> None:
    """As a run keeps its waves."""
    file.parent.mkdir(exist_ok=True)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(24000)
        count = round(24000 * seconds)
        out.writeframes(struct.pack(f"<{count}h", *(round(9000 * math.sin(at / 20)) for at in range(count))))


def heard(path: str, text: int = 0) -> Audio:
    return Audio(text, path, 24000, 0.2, finite=True, peak=0.3, rms=0.2, silent_share=0.0, clipped_share=0.0)


def judged(**changes: Any) -> Quality:
    values: dict[str, Any] = {
        "text_index": 0, "tokens": 25, "same_tokens": 25, "logits_relative_error": 1e-7, "kl_mean": 1e-15,
        "kl_max": 1e-14, "top1_agreement": 1.0, "mel_distance": 0.0, "mel_relative_error": 0.0, "wave_snr_db": 200.0,
        "finite": True, "silent": False,
    }  # fmt: skip
    return Quality(**{**values, **changes})


def stages_of(wall_seconds: float) -> dict[str, StageTime]:
    """Three quarters of it decoding."""
    shares = {"prefill": 0.05, "decode": 0.75, "cfm": 0.15}
    times = {name: StageTime(share * wall_seconds) for name, share in shares.items()}
    return times | {"residual": StageTime(0.05 * wall_seconds)}


@pytest.fixture
def make_report(make_run: Make, make_cell: Make, make_utterance: Make, tmp_path: Path) -> Callable[..., Path]:
    """A run of three stacks with waves, cold starts, memory and quality, and its page."""

    def cell(stack: str, wall_seconds: float, process: int) -> Cell:
        luck = random.Random(f"{stack}/{process}").gauss(1, 0.001)
        seconds = [luck * wall_seconds * (1 + 0.001 * call) for call in range(CALLS)]
        if stack == "upstream" and process == 2:
            seconds[3] *= 3
        result: Cell = make_cell(
            key=stack, stack=stack, process=process, order=process,
            utterances=tuple(make_utterance(wall_seconds=s, stages=stages_of(s)) for s in seconds),
            memory=measurements.Memory(round(luck * wall_seconds * 2**31), 2**30),
            quality=(judged(mel_distance=0.02 if stack == "lean" else 0.0),),
            changes_output=("the audio carries no watermark",) if stack == "bare" else (),
            evidence={"loop": {"class": stack, "steps": 25}},
            audio=(heard(f"audio/{list(STACKS).index(stack)}.wav"),) if process == 0 else (),
        )  # fmt: skip
        return result

    def make(rename: Callable[[str], str] = str, **changes: Any) -> Path:
        cells = [cell(stack, seconds, process) for stack, seconds in STACKS.items() for process in range(PROCESSES)]
        cells += [
            dataclasses.replace(cells[0], kind="cold", utterances=(), audio=(), stack=stack, key=stack,
                                ladder={"import": 6.0, "load": 1.5, "first_call": seconds * 2, "steady": seconds})
            for stack, seconds in STACKS.items()
        ]  # fmt: skip
        named = tuple(dataclasses.replace(c, stack=rename(c.stack), key=rename(c.key)) for c in cells)
        for number in range(len(STACKS)):
            tone(tmp_path / "audio" / f"{number}.wav")
        run = make_run(cells=named, baseline=rename("upstream"), **changes)
        file: Path = tmp_path / report_page.FILE
        return files.write(file, report_page.page(run, tmp_path))

    return make


class TestPlots:
    def test_all_are_there_with_all_their_marks(self, browser: Browser, make_report: Callable[..., Path]) -> None:
        browser.open(make_report())
        assert browser.how_many("#speed-and-memory .plot .place") == 3
        assert browser.how_many("#speed-and-memory .plot .place.changes") == 1
        assert (
            browser.how_many("#speed-and-memory .front.same")
            == browser.how_many("#speed-and-memory .front.changes")
            == 1
        )
        assert browser.how_many("#where-the-time-goes .plot .part") == len(STACKS) * 4
        assert browser.how_many("#every-sample .lane .sample") == len(STACKS) * PROCESSES * CALLS
        assert browser.how_many("#every-sample .lane .middle") == len(STACKS) * PROCESSES
        assert browser.how_many("#every-sample .lane .odd") == 1
        assert browser.how_many("#time-to-first-audio .first-audio") == 3
        assert browser.how_many("#cold-start .plot .part") == len(STACKS) * 3
        assert browser.messages == []

    def test_the_stages_of_a_bar_add_up_to_its_wall_time(
        self, browser: Browser, make_report: Callable[..., Path]
    ) -> None:
        browser.open(make_report())
        rects = "[...document.querySelectorAll('#where-the-time-goes .part rect')]"
        bars = browser.run(f"{rects}.map(bar => bar.getBBox().width)")
        whole = [sum(bars[4 * row : 4 * row + 4]) for row in range(3)]
        # The third process's spike is in the mean.
        assert whole[1] / whole[2] == pytest.approx(0.4 / 0.3, rel=0.02)
        assert bars[5] / whole[1] == pytest.approx(0.75, rel=0.02)

    def test_stages_that_run_side_by_side_stay_within_the_drawing(
        self, browser: Browser, make_run: Make, make_cell: Make, make_utterance: Make, tmp_path: Path
    ) -> None:
        """Of a stream they take more than the wall between them."""
        times = {"decode": StageTime(0.8), "cfm": StageTime(0.7), "residual": StageTime(0.0)}
        run = make_run(cells=(make_cell(utterances=(make_utterance(wall_seconds=1.0, stages=times),)),))
        file = files.write(tmp_path / report_page.FILE, report_page.page(run, tmp_path))
        browser.open(file)
        ends = browser.run("""[...document.querySelectorAll('#where-the-time-goes .plot .part rect')].map(
            bar => bar.getBoundingClientRect().right - bar.closest('svg').getBoundingClientRect().right)""")
        assert len(ends) == 3
        assert max(ends) < -60  # its length stands behind it
        assert "1.50 s in 1.00 s" in browser.run("document.querySelector('#where-the-time-goes .plot').textContent")

    def test_a_sample_tells_its_process_and_that_it_is_an_outlier(
        self, browser: Browser, make_report: Callable[..., Path]
    ) -> None:
        browser.open(make_report())
        hint = browser.run("document.querySelector('#every-sample .lane .odd').dataset.hint")
        assert hint.splitlines() == ["1.5 RTF, an outlier", "upstream", "process 3", "text 1"]

    def test_they_follow_the_width(self, browser: Browser, make_report: Callable[..., Path]) -> None:
        browser.open(make_report())
        browser.resize(PHONE)
        widths = browser.run("[...document.querySelectorAll('.plot')].map(plot => plot.getBoundingClientRect().width)")
        assert len(widths) == 5
        assert all(250 < width < PHONE for width in widths)
        assert not browser.scrolls_sideways()

    def test_the_device_has_a_clock_of_its_own(
        self, browser: Browser, make_run: Make, make_cell: Make, make_utterance: Make, tmp_path: Path
    ) -> None:
        stages = {"decode": StageTime(0.1, 0.3), "cfm": StageTime(0.3, 0.1)}
        cell = make_cell(utterances=(make_utterance(wall_seconds=0.5, stages=stages),) * 3)
        page = report_page.page(make_run(cells=(cell,)), tmp_path)
        browser.open(files.write(tmp_path / "r.html", page))
        plots = "[...document.querySelectorAll('#where-the-time-goes .plot')]"
        bars = f"{plots}.map(plot => [...plot.querySelectorAll('.part rect')].map(bar => bar.getBBox().width))"
        device, host = browser.run(bars)
        decode, cfm, residual = device
        assert decode == pytest.approx(3 * cfm, rel=0.05)
        assert residual == pytest.approx(cfm, rel=0.05)
        decode, cfm, _ = host
        assert cfm == pytest.approx(3 * decode, rel=0.05)


class TestPage:
    def test_verdicts_come_first_in_words(self, browser: Browser, make_report: Callable[..., Path]) -> None:
        browser.open(make_report())
        cards = browser.run("[...document.querySelectorAll('.card')].map(card => card.innerText)")
        assert len(cards) == 2
        assert re.match(r"faster\s+lean\s+against upstream\s+1.2\d× as fast", cards[0])
        assert re.search(r"RTF (19|20)\.\d% less \(", cards[0])
        assert "0.80 GiB at peak, −20.0% against 1.00" in cards[0]
        assert "25 of 25 tokens as the reference's, top-1 100.0%, mel distance 2.0e-02" in cards[0]
        assert "the audio carries no watermark" in cards[1]
        assert browser.run("document.querySelector('main > section').id") == "verdicts"

    def test_nothing_is_asked_of_any_network_and_nothing_goes_wrong(
        self, browser: Browser, make_report: Callable[..., Path]
    ) -> None:
        page = make_report()
        for width, scheme in ((1280, "light"), (PHONE, "dark")):
            browser.open(page, width, scheme)
            assert not browser.scrolls_sideways()
        assert {url for url in browser.requested if not url.startswith("data:")} == {page.as_uri()}
        assert browser.messages == []

    @pytest.mark.parametrize("name", [HOSTILE, LONG])
    def test_no_name_breaks_out_of_the_page(
        self, browser: Browser, make_report: Callable[..., Path], name: str
    ) -> None:
        page = make_report(
            rename=lambda stack: f"{stack}{name}", scenario=name, run_id=name, status=name,
            environment={name: {name: name}}, warnings=(name,), overrides=(name,),
            scenario_understood={"description": name, "workload": {"texts": [name]}},
        )  # fmt: skip
        browser.open(page, PHONE)
        assert not browser.scrolls_sideways()
        assert browser.run("window.hurt") is None
        assert browser.how_many("img") == 0
        assert browser.how_many("#speed-and-memory .plot .place") == 3
        assert [output for output in browser.messages if "Content Security" not in output] == []
        assert {url for url in browser.requested if not url.startswith("data:")} == {page.as_uri()}
        assert "\u202e" not in browser.run("document.querySelector('main').innerText")

    def test_tones_can_be_read_in_light_and_in_dark(self, browser: Browser, make_report: Callable[..., Path]) -> None:
        page = make_report()
        for scheme in ("light", "dark"):
            browser.open(page, scheme=scheme)
            colours = browser.colours()
            for tone_ in ("good", "bad", "open", "even"):
                for ground in ("surface", f"{tone_}-soft"):
                    assert browser.contrast(colours[tone_], colours[ground]) >= 4.5, (scheme, tone_, ground)
            for rung in range(6):
                assert browser.contrast(colours[f"rung-{rung}"], colours["on-colour"]) >= 4, (scheme, rung)

    def test_without_scripts_the_figures_are_still_there(self, make_report: Callable[..., Path]) -> None:
        text = make_report().read_text(encoding="utf-8")
        words = text[: text.index('<script type="application/json"')]
        assert all(figure in words for figure in ("× as fast", "0.40", "2.0e-02", "loop", "6.00"))

    @pytest.mark.parametrize("name", ["h200-fastest", "h200-claims-d", "h200-chatterbox-cold"])
    def test_records_of_a_gpu_open(self, browser: Browser, tmp_path: Path, name: str) -> None:
        folder = ROOT / "docs" / "results" / name
        page = report_page.page(runs.read_run(folder), folder)
        browser.open(files.write(tmp_path / "r.html", page), PHONE)
        assert browser.messages == []
        assert not browser.scrolls_sideways()
        sections = browser.run("[...document.querySelectorAll('main > section')].map(section => section.id)")
        assert "every-sample" in sections
        assert ("claims" in sections) == (name == "h200-claims-d")
        assert ("cold-start" in sections) == (name == "h200-chatterbox-cold")

    def test_a_run_in_which_nothing_ran_still_has_a_page(self, make_run: Make, make_cell: Make, tmp_path: Path) -> None:
        run = make_run(cells=(make_cell(status="crashed", reason="<b>why", utterances=()),), status="interrupted")
        page = report_page.page(run, tmp_path)
        assert "<strong>crashed</strong>, &lt;b&gt;why" in page
        assert "this run is interrupted" in page
        assert "There is nothing to decide" in page


class TestAudio:
    DURATIONS = """Promise.all([...document.querySelectorAll('audio')].map(audio => new Promise(done => {
        if (audio.readyState) done(audio.duration);
        audio.addEventListener('loadedmetadata', () => done(audio.duration));
        audio.addEventListener('error', () => done(audio.error.message)); })))"""

    def test_a_player_per_stack_holds_its_wave(self, browser: Browser, make_report: Callable[..., Path]) -> None:
        browser.open(make_report())
        assert browser.run(self.DURATIONS) == [pytest.approx(0.2)] * 3
        sources = browser.run("[...document.querySelectorAll('audio')].map(audio => audio.src.slice(0, 15))")
        assert sources == ["data:audio/wav;"] * 3

    def test_what_does_not_fit_is_heard_from_beside_the_page(
        self, browser: Browser, make_report: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(players, "EMBEDDED_BYTES_MAX", 14_000)  # one of 9,644 bytes
        page = make_report()
        browser.open(page)
        assert browser.run(self.DURATIONS) == [pytest.approx(0.2)] * 3
        sources = browser.run("[...document.querySelectorAll('audio')].map(audio => audio.getAttribute('src'))")
        assert [source[:11] for source in sources] == ["data:audio/", "audio/1.wav", "audio/2.wav"]
        assert "heard where audio/ lies beside it" in browser.run("document.getElementById('listen').innerText")
        assert browser.messages == []

    @pytest.mark.parametrize(
        "path", ["../secret.wav", "/etc/passwd", "audio/../secret.wav", "audio/link.wav", "audio/text.wav",
                 "audio/missing.wav", "javascript:alert(1)", "audio/0.wav\x00", ""],
    )  # fmt: skip
    def test_a_record_puts_no_other_file_into_its_page(
        self, make_run: Make, make_cell: Make, tmp_path: Path, path: str
    ) -> None:
        folder = tmp_path / "run"
        tone(folder.parent / "secret.wav")
        (folder / "audio").mkdir(parents=True)
        (folder / "audio" / "link.wav").symlink_to(tmp_path / "secret.wav")
        (folder / "audio" / "text.wav").write_text("secret")
        run = make_run(cells=(make_cell(audio=(heard(path),)),))
        assert players.players(run, folder, folder) == []

    def test_the_first_text_of_all_stacks_comes_before_the_second_of_any(
        self, make_run: Make, make_cell: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cells = []
        for stack in ("a", "b"):
            for text in (0, 1):
                tone(tmp_path / "audio" / f"{stack}.{text}.wav")
            waves = tuple(heard(f"audio/{stack}.{text}.wav", text) for text in (0, 1))
            cells.append(make_cell(key=stack, stack=stack, audio=waves))
        item = len(base64.b64encode((tmp_path / "audio" / "a.0.wav").read_bytes()))
        monkeypatch.setattr(players, "EMBEDDED_BYTES_MAX", 2 * item)
        result = players.players(make_run(cells=tuple(cells)), tmp_path, tmp_path / "elsewhere")
        assert [(player.stack, player.embedded) for player in result] == [
            ("a", True), ("a", False), ("b", True), ("b", False),
        ]  # fmt: skip
        assert result[1].source == "../audio/a.1.wav"


class TestData:
    def stack(self, label: str, speed: float, memory: float, output: str = "same") -> StackTradeoff:
        ends = [Estimate(value, value, value, 1) for value in (speed, memory)]
        return StackTradeoff(label, False, output, "", *ends)

    def test_the_front_holds_whom_nobody_beats(self) -> None:
        draw = random.Random(1)
        for _ in range(50):
            among = [self.stack(str(n), draw.randrange(6), draw.randrange(6)) for n in range(draw.randrange(1, 9))]
            line = tradeoff_plot.front(among)

            def beaten(place: StackTradeoff, among: list[StackTradeoff] = among) -> bool:
                mine = (place.speed.median, place.memory.median)
                others = [(other.speed.median, other.memory.median) for other in among]
                return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in others)

            assert not any(map(beaten, line))
            kept = {(place.speed.median, place.memory.median) for place in line}
            assert all(beaten(p) for p in among if (p.speed.median, p.memory.median) not in kept)

    def test_what_fails_is_on_no_front_and_what_changes_the_output_on_one_of_its_own(self) -> None:
        among = [self.stack("sound", 2, 2), self.stack("other", 1, 1, "changes"), self.stack("wrong", 0, 0, "fails")]
        result = tradeoff_plot.fronts(among)
        assert [stack.label for stack in result["same"]] == ["sound"]
        assert [stack.label for stack in result["changes"]] == ["other"]
        assert tradeoff_plot.fronts(among[:1])["changes"] == []

    def test_stages_and_residual_are_the_wall_time(self, make_cell: Make, make_utterance: Make, make_run: Make) -> None:
        walls = (0.4, 0.5, 0.9)
        utterances = tuple(make_utterance(wall_seconds=wall, stages=stages_of(wall)) for wall in walls)
        [[stack]] = run_tables.results(make_run(cells=(make_cell(utterances=utterances),)))
        [bar] = run_plots.stage_bars([stack], device=False)
        assert bar.length == pytest.approx(bar.wall) == pytest.approx(0.6)

    def test_outliers_are_against_their_own_text(self, make_cell: Make, make_utterance: Make) -> None:
        def utterances(factor: float) -> tuple[Utterance, ...]:
            return tuple(
                make_utterance(text_index=text, wall_seconds=(1 + 9 * text) * (1 + 0.01 * n) * factor)
                for text in (0, 1) for n in range(8)
            )  # fmt: skip

        spiky = (*utterances(1.0)[:7], make_utterance(wall_seconds=5.0), *utterances(1.0)[8:])
        assert samples_plot.outliers([make_cell(utterances=utterances(1.0)), make_cell(utterances=spiky)]) == [
            set(), {7},
        ]  # fmt: skip
        assert samples_plot.outliers([make_cell(utterances=spiky[4:8])]) == [set()]

    def test_too_many_samples_are_thinned_and_every_outlier_stays(
        self, make_cell: Make, make_utterance: Make, make_run: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(samples_plot, "SAMPLES_MAX", 50)
        utterances = tuple(make_utterance(wall_seconds=0.5 + 0.0001 * (n % 7)) for n in range(499))
        run: Run = make_run(cells=(make_cell(utterances=(*utterances, make_utterance(wall_seconds=9.0))),))
        [plot] = samples_plot.plots(run)
        assert "one call of 10 (samples.csv has all)" in plot.svg
        assert plot.svg.count("text 1</title>") == 51
        assert plot.svg.count("9 RTF, an outlier") == 1

    def test_a_forward_is_a_sample_too(self) -> None:
        run = runs.read_run(ROOT / "docs" / "results" / "h200-claims-d")
        drawn = sum(plot.svg.count("text 1</title>") for plot in samples_plot.plots(run))
        assert drawn == sum(len(cell.forwards) for cell in run.cells if cell.ok and cell.kind == "timed")


class TestManyCells:
    def test_a_page_holds_the_first_rows_and_says_where_the_rest_is(
        self, make_run: Make, make_cell: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PLOTS_MAX", "TABLES_MAX", "ROWS_MAX", "CARDS_MAX", "LINES_MAX"):
            monkeypatch.setattr(report_page, name, 2)
        monkeypatch.setattr(run_plots, "POINTS_MAX", 2)
        monkeypatch.setattr(run_plots, "STACKS_MAX", 3)
        cells = tuple(
            make_cell(stack=stack, key=f"{stack} {seed}", point={"workload.seed": seed}, warnings=("hot",))
            for seed in range(4)
            for stack in ("upstream", "a", "b", "c")
        )
        run = make_run(cells=(*cells, make_cell(stack="d", status="oom", reason="full", utterances=())))
        page = report_page.page(run, tmp_path)
        assert "2 further tables are in report.md." in page
        assert "the first 2 of 4 rows" in page
        assert "10 further verdicts" in page
        assert "further ones are left out here; see report.md" in page
        assert "the first 3 of 4 stacks; point 1 of 4, further ones only in the tables" in page
        assert report_markdown.report(run).count("workload.seed=3") > 2
