from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ttsbench.cli.profile_printing import show_difference
from ttsbench.errors import ExitCode
from ttsbench.records import profile_rows, profiles, runs
from ttsbench.records.profile_rows import MemoryPoint, Reconciliation, Stage
from ttsbench.records.profiles import Finding, Profile
from ttsbench.reports.pages import profile_plots
from ttsbench.reports.tables import profile_answers, profile_diff, profile_tables, profile_text

MakeProfile = Callable[..., Profile]


def answer(profile: Profile, id_: str) -> profile_answers.Answer:
    return next(answer for answer in profile_answers.answers(profile) if answer.id == id_)


class TestAnswers:
    def test_what_takes_the_time_is_the_dearest_stage_then_the_dearest_kernels(self, make_profile: MakeProfile) -> None:
        result = answer(make_profile(), "time")
        assert result.headline == "decode: 51.7%"
        assert result.detail.startswith(
            "588 ms of 1,138 ms; then cfm 29.1% and voice 7.3%; of the kernels' time: gemm "
        )

    @pytest.mark.parametrize(
        ("busy", "idle", "waiting", "who"),
        [
            (0.9, 0.3, 0.2, "The GPU"),
            (0.3, 1.0, 0.9, "The host"),
            (0.3, 1.0, 0.1, "Neither: the GPU idles with work launched"),
            (0.0, 0.0, 0.0, "The host"),
        ],
    )
    def test_gpu_or_host(
        self, make_profile: MakeProfile, busy: float, idle: float, waiting: float, who: str
    ) -> None:  # fmt: skip
        profile = make_profile(stages=(Stage("decode", 1.3, 1.0, 1.0, busy, idle, waiting),))
        assert answer(profile, "where").headline == who

    def test_where_most_of_the_wall_needs_no_gpu_it_is_the_host(self, make_profile: MakeProfile) -> None:
        decode, watermark = Stage("decode", 0.4, 0.4, 0.4, 0.3, 0.1, 0.0), Stage("watermark", 0.6, 0.6, 0.6)
        result = answer(make_profile(stages=(decode, watermark)), "where")
        assert result.headline == "The host"
        assert result.detail.startswith(
            "60% of the wall is watermark, where nothing runs on the GPU; kernels fill 26% "
        )

    def test_a_cpu_is_the_host(self, make_profile: MakeProfile) -> None:
        profile = make_profile()
        profile = replace(profile, header=replace(profile.header, device="cpu"))
        assert answer(profile, "where").headline == "The host"

    def test_the_limit_is_the_walls_multiple_of_the_stages_floors(self, make_profile: MakeProfile) -> None:
        result = answer(make_profile(), "limit")
        assert result.headline == "21× the floor"  # 1137.5 over 53.5 ms
        assert "decode at 9.0%, launch-bound" in result.detail

    def test_without_a_roofline_there_is_no_limit(self, make_profile: MakeProfile) -> None:
        assert answer(make_profile(roofline=None), "limit").headline == "Not measured"

    def test_first_comes_the_dearest_finding(self, make_profile: MakeProfile) -> None:
        result = answer(make_profile(), "first")
        assert (result.headline, result.detail) == (
            "Decoding waits for launches, not for the GPU",
            "Capture the step: decode: cuda_graph.",
        )
        assert answer(make_profile(findings=()), "first").detail == "4 known faults were looked for and not found"

    def test_evidence_is_written_by_the_unit_in_its_name(self) -> None:
        finding = Finding(
            "x", "X",
            {"gap_seconds": 0.0004, "idle_share": 0.791, "mask_bytes": 3 << 20, "launches_per_step": 1309.2,
             "seconds": 2, "ratio": 1.234, "cfm_ms": 110.0641, "device_us_per_step": 3.25, "none": [],
             "kernels": ["a", "b"], "per_stage": {"cfm": 3}, "graphs": True},
            "",
        )  # fmt: skip
        assert profile_answers.evidence(finding) == [
            ("gap", "0.400 ms"), ("idle", "79.1%"), ("mask", "3.0 MiB"), ("launches per step", "1,309"),
            ("time", "2,000.000 ms"), ("ratio", "1.23"), ("cfm", "110.064 ms"), ("device per step", "3.2 µs"),
            ("none", "none"), ("kernels", "a, b"), ("per stage", "cfm 3"), ("graphs", "True"),
        ]  # fmt: skip


class TestMarkdown:
    def test_it_answers_before_it_lists(self, make_profile: MakeProfile) -> None:
        text = profile_text.markdown(make_profile())
        expected = (
            "# Profile of upstream", "32 decode steps", "inflation: 1.29×", "What takes the time?", "GPU or host?",
            "How far from the limit?", "What to change first?", "## Findings", "1. **Decoding", "2. **The watermark",
            "3. **The sampler", "hooks\\_grow", "## Stages", "| sum | 100.0% | 1,137.50 |", "## Kernel families",
            "## Ops", "the first 12 of 54", "## Against the limit", "## Memory", "### Reconciliation",
            "the trace was cut", "## Ran on",
        )  # fmt: skip
        places = [text.find(words) for words in expected]
        assert places == sorted(places)
        assert -1 not in places

    def test_a_mismatch_and_a_heavy_profiler_are_told_first(self, make_profile: MakeProfile) -> None:
        profile = make_profile(reconciliation=(Reconciliation("ops", 0.9, 1.0),))
        profile = replace(profile, header=replace(profile.header, unprofiled_wall_seconds=(0.4,)))
        text = profile_text.markdown(profile)
        assert (
            0 < text.index("The table ops differs from the raw intervals by 10.0%") < text.index("What takes the time")
        )
        assert "3.67 times as long" in text
        assert "differs from" not in profile_text.markdown(make_profile())

    def test_a_window_that_was_slower_without_the_profiler_has_no_shares(self, make_profile: MakeProfile) -> None:
        """As an H200 once had it: 630 ms without the profiler, 140 with it."""
        profile = make_profile()
        header = replace(profile.header, profiled_wall_seconds=0.14, unprofiled_wall_seconds=(0.63, 0.62, 0.64))
        profile = profiles.decoded(runs.to_json(replace(profile, header=header)), "a profile")
        void = "0.22× as long with the profiler as without it"
        assert void in profile_text.warnings(profile)[0]
        assert [a.headline for a in profile_answers.answers(profile)][:3] == ["Void"] * 3
        text = profile_text.markdown(profile)
        assert "| sum | – |" in text
        assert "of the wall)" not in text
        assert any(void in note for note in profile_diff.compare_profiles(make_profile(), profile).notes)
        quiet = replace(header, unprofiled_wall_seconds=(0.14 / 0.96,))
        assert void not in profile_text.markdown(replace(profile, header=quiet))

    def test_names_do_not_become_markup(self, make_profile: MakeProfile) -> None:
        profile = make_profile()
        kernel = replace(profile.kernels[0], readable="a|b <c>*d*")
        assert r"a\|b \<c\>\*d\*" in profile_text.markdown(replace(profile, kernels=(kernel,)))

    def test_what_was_not_measured_is_left_out(self, make_profile: MakeProfile) -> None:
        text = profile_text.markdown(make_profile(kernels=(), families=(), roofline=None, memory=None, decode=None))
        assert not [title for title in ("Kernels", "Kernel families", "Against", "Memory") if f"## {title}" in text]


class TestPlotData:
    def test_a_thinned_timeline_keeps_its_peak_its_low_and_both_ends(self) -> None:
        points = [MemoryPoint(at / 100, 1000 + at % 7, "cfm") for at in range(50_000)]
        points[31_415] = replace(points[31_415], allocated_bytes=9999)
        points[27_182] = replace(points[27_182], allocated_bytes=1)
        kept = profile_rows.thinned(tuple(points))
        assert len(kept) <= profile_rows.POINTS_MAX
        assert {points[0], points[-1], points[31_415], points[27_182]} <= set(kept)
        assert list(kept) == sorted(kept, key=lambda point: point.seconds)

    def test_what_has_no_place_on_a_logarithmic_plot_is_not_drawn(self, make_profile: MakeProfile) -> None:
        profile = make_profile()
        drawn = profile_plots.roofline_points(profile)
        assert profile.roofline is not None
        assert {point.operations > 0 for point in drawn} == {True}
        assert len(drawn) < len(profile_tables.roofline(profile).rows)


class TestDifference:
    def faster_decode(self, profile: Profile) -> Profile:
        stages = tuple(
            replace(stage, unprofiled_wall_seconds=0.1) if stage.name == "decode" else stage for stage in profile.stages
        )
        ops = tuple(replace(op, self_device_seconds=0.001) if op.name == "aten::sort" else op for op in profile.ops[1:])
        header = replace(profile.header, stack="lean", unprofiled_wall_seconds=(0.6495,))
        return replace(profile, header=header, stages=stages, ops=ops, findings=profile.findings[1:2])

    def test_changes_are_ranked_by_what_they_contribute(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        result = profile_diff.compare_profiles(before, self.faster_decode(before))
        assert result.stages[0].name == "decode"
        assert [change.seconds for change in result.stages] == pytest.approx([-0.488, *[0.0] * 9])
        assert result.ops[0].name == "aten::mm"
        assert (result.ops[0].after_seconds, result.ops[0].calls) == (0.0, -900)
        sizes = [abs(change.seconds) for change in result.ops]
        assert sizes == sorted(sizes, reverse=True)
        assert {change.seconds for change in result.families} == {0.0}
        assert result.seconds == pytest.approx(-0.488)

    def test_it_is_explained_in_a_sentence_both_ways(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        after = self.faster_decode(before)
        assert profile_diff.explanation(profile_diff.compare_profiles(before, after)) == (
            "1,138 ms → 650 ms, 1.75× as fast: decode −488.0 ms (100% of it)"
        )
        assert profile_diff.explanation(profile_diff.compare_profiles(after, before)) == (
            "650 ms → 1,138 ms, 1.75× as long: decode +488.0 ms (100% of it)"
        )
        assert "the same within 1%" in profile_diff.explanation(profile_diff.compare_profiles(before, before))

    def test_the_sentence_gives_a_stage_the_share_that_its_table_gives(self, make_profile: MakeProfile) -> None:
        """Medians of stages do not add up to the median of walls."""
        before = make_profile()
        after = self.faster_decode(before)
        walls = tuple(seconds * 0.9 for seconds in before.header.unprofiled_wall_seconds)
        after = replace(after, header=replace(after.header, unprofiled_wall_seconds=walls))
        result = profile_diff.compare_profiles(before, after)
        assert "decode −488.0 ms (100% of it)" in profile_diff.explanation(result)
        assert "| decode | −488.00 | +100.0% |" in profile_diff.markdown(result)

    def test_findings_that_came_and_went_are_named(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        result = profile_diff.compare_profiles(before, self.faster_decode(before))
        assert [id_ for id_, _ in result.gone] == ["launch_bound_decode", "sort_in_sampler"]
        assert result.new == ()
        back = profile_diff.compare_profiles(self.faster_decode(before), before)
        assert (back.gone, [id_ for id_, _ in back.new]) == ((), ["launch_bound_decode", "sort_in_sampler"])

    def test_what_makes_two_profiles_differ_besides_the_stack_is_told(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        window = replace(before.header.window, decode_steps=64)
        header = replace(
            before.header, device="cpu", device_name="a CPU", window=window, changes_output=("no watermark",)
        )
        result = profile_diff.compare_profiles(before, replace(before, header=header))
        assert result.notes == (
            "device: NVIDIA H200 against a CPU; part of the difference is theirs",
            "decode steps: 32 against 64; part of the difference is theirs",
            "the output differs by design: no watermark",
        )
        # Device seconds of one and host seconds of the other would be no difference.
        assert result.families == ()
        assert result.ops[0].before_seconds == pytest.approx(result.ops[0].after_seconds)

    def test_as_text_it_shows_signs_shares_and_sums(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        text = profile_diff.markdown(profile_diff.compare_profiles(before, self.faster_decode(before)))
        assert "| decode | −488.00 | +100.0% | 588.00 | 100.00 | 0.17× |" in text
        assert "| aten::mm | −110.00 | " in text
        assert "| sum | −488.00 | " in text
        assert "| cfm | 0.00 | 0.0% | 331.00 | 331.00 | 1.00× |" in text
        assert "- gone: The sampler sorts all logits" in text
        # No difference has no shares.
        same = profile_diff.markdown(profile_diff.compare_profiles(before, before))
        assert "| decode | 0.00 | – | 588.00 | 588.00 | 1.00× |" in same

    def test_its_page_is_escaped(self, make_profile: MakeProfile) -> None:
        before = make_profile()
        op = replace(before.ops[0], name="<script>alert(1)</script>")
        html = profile_diff.page(profile_diff.compare_profiles(before, replace(before, ops=(op,))))
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html
        assert html.count("<table") == 3


def test_the_command_prints_the_difference_and_writes_its_page(
    make_profile: MakeProfile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = make_profile(), make_profile()
    slower = replace(after.stages[0], unprofiled_wall_seconds=after.stages[0].unprofiled_wall_seconds + 1.0)
    after = replace(after, stages=(slower, *after.stages[1:]))
    folders = tmp_path / "a", tmp_path / "b"
    for folder, profile in zip(folders, (before, after), strict=True):
        folder.mkdir()
        profiles.write(folder, profile)
    assert show_difference(*folders) == ExitCode.OK
    output = capsys.readouterr().out
    assert f"{slower.name}" in output
    assert "+1,000.00" in output
    assert (folders[1] / profile_diff.FILE).stat().st_size > 1000
    assert (folders[1] / profile_diff.TEXT_FILE).read_text().startswith("# ")
