"""One tiny cell through the real worker, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from ttsbench.model import audio, voice
from ttsbench.records import measurements, runs
from ttsbench.records.jobs import Job
from ttsbench.running.cells import common, utterance

MakeJob = Callable[..., Job]
RunCell = Callable[[Job], runs.Cell]


def test_a_cell_holds_everything_a_report_needs(make_job: MakeJob, run_cell: RunCell, tmp_path: Path) -> None:
    cell = run_cell(make_job(texts=("One.", "And another one.")))
    assert (cell.status, cell.reason) == ("ok", "")
    assert [(u.text_index, u.repeat) for u in cell.utterances] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert all(u.tokens == 6 and u.audio_seconds == pytest.approx(6 / 25) for u in cell.utterances)
    assert cell.memory is not None
    assert cell.memory.weights_bytes > 1e6
    assert cell.memory.kv_cache_bytes
    assert cell.evidence["decode"]["loop"] == "LeanLoop"
    assert cell.model["class"] == "ChatterboxTTS"
    assert {"load", "apply", "first_call"} <= set(cell.ladder)
    assert [a.path for a in cell.audio] == ["audio/lean.0.wav", "audio/lean.1.wav"]
    assert all((tmp_path / a.path).exists() and a.finite and 0 < a.peak <= 1 for a in cell.audio)
    assert runs.from_json(runs.Cell, runs.to_json(cell)) == cell


@pytest.mark.parametrize("in_the_way", ["audio", "audio/lean.0.wav/x"])
def test_audio_that_cannot_be_written_costs_no_figure(
    make_job: MakeJob, run_cell: RunCell, tmp_path: Path, in_the_way: str
) -> None:
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).touch()
    cell = run_cell(make_job())
    assert (cell.status, cell.reason, cell.audio) == ("ok", "", ())
    assert cell.utterances
    assert [warning for warning in cell.warnings if warning.startswith("the audio was not kept: ")]


def test_stacks_hear_the_same_random_stream(make_job: MakeJob, run_cell: RunCell) -> None:
    lean = run_cell(make_job())
    upstream = run_cell(make_job(key="upstream", stack="upstream", slots={}, process=1))
    assert [u.tokens_sha256 for u in lean.utterances] == [u.tokens_sha256 for u in upstream.utterances]
    assert lean.utterances[0].tokens_sha256 != lean.utterances[1].tokens_sha256


def test_the_cold_ladder_has_every_rung(make_job: MakeJob, run_cell: RunCell) -> None:
    cell = run_cell(make_job(kind="cold"))
    assert cell.ok
    assert not cell.utterances
    assert set(cell.ladder) == {
        "import", "load", "voice", "apply", "first_call", "second_call", "first_new_shape", "steady",
    }  # fmt: skip


def test_an_unknown_sampling_argument_is_a_row(make_job: MakeJob, run_cell: RunCell) -> None:
    cell = run_cell(make_job(sampling={"top_k": 5.0}))
    assert (cell.status, cell.reason) == ("failed", "ChatterboxTTS.generate takes no top_k")


def test_a_truncated_checkpoint_is_a_row(make_job: MakeJob, run_cell: RunCell, tmp_path: Path) -> None:
    from ttsbench.model import checkpoint

    truncated = tmp_path / "truncated"
    truncated.mkdir()
    for file in checkpoint.ensure("chatterbox", "tiny", "fp32", 0).iterdir():
        if file.is_file():
            (truncated / file.name).write_bytes(file.read_bytes())
    weights = truncated / "t3_cfg.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    cell = run_cell(make_job(weights=str(truncated)))
    assert cell.status == "failed"
    assert "t3_cfg.safetensors" in cell.reason


def test_a_voice_changes_what_is_heard(make_job: MakeJob, run_cell: RunCell) -> None:
    plain = run_cell(make_job())
    other = run_cell(make_job(voice_seconds=2.0))
    assert other.ok
    assert other.ladder["voice"] > 0.01
    assert plain.audio[0].rms != other.audio[0].rms


def test_the_synthetic_voice_is_always_the_same(tmp_path: Path) -> None:
    first, second = (voice.synthesize(tmp_path / name, 1.5) for name in ("a.wav", "b.wav"))
    assert first.read_bytes() == second.read_bytes()
    samples, rate = soundfile.read(first)
    assert samples.size == 1.5 * rate
    assert 0.1 < np.abs(samples).max() < 1.0


@pytest.mark.parametrize(
    ("wave", "expected"),
    [
        (torch.zeros(240), {"finite": True, "silent_share": 1.0, "peak": 0.0}),
        (torch.full((240,), 0.99), {"clipped_share": 1.0, "finite": True}),
        (torch.tensor([0.5, float("nan")] * 120), {"finite": False}),
    ],
)
def test_faulty_audio_is_described(tmp_path: Path, wave: torch.Tensor, expected: dict[str, Any]) -> None:
    described = audio.keep(wave, 0, tmp_path, "x.wav")
    assert {name: pytest.approx(getattr(described, name)) for name in expected} == expected


def test_remarks_name_what_spoiled_a_row(make_job: MakeJob, tmp_path: Path) -> None:
    result = {
        "evidence": {
            "hooks": {"warm": 3, "at_the_end": 9},
            "compiler": {"recompilations_while_timing": 2, "captures_while_timing": 3},
        },
        "guard": measurements.Guard(throttle_reasons=("hardware slowdown",), foreign_processes=("python",)),
    }
    assert common.row_warnings(result) == (
        "forward hooks grew from 3 to 9 over the warm calls",
        "the compiler worked 2 times while the clock ran",
        "3 CUDA graphs were captured while the clock ran",
        "the GPU was throttled: hardware slowdown",
        "another process was on the GPU: python",
    )


def test_no_two_utterances_share_a_random_stream(make_job: MakeJob) -> None:
    points = [(seed, text, repeat) for seed in (0, 1, 1000) for text in range(4) for repeat in (-2, -1, 0, 1, 1000)]
    seeds = [common.utterance_seed(make_job(seed=seed), text, repeat) for seed, text, repeat in points]
    assert len(set(seeds)) == len(points)
    assert seeds == [common.utterance_seed(make_job(seed=s, stack="other", process=3), t, r) for s, t, r in points]


def test_a_busy_host_is_remarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    result = {
        "evidence": {
            "hooks": {"warm": 0, "at_the_end": 0},
            "compiler": {"recompilations_while_timing": 0, "captures_while_timing": 0},
        }
    }
    assert common.row_warnings({**result, "guard": measurements.Guard(load_average=3.9)}) == ()
    busy = common.row_warnings({**result, "guard": measurements.Guard(load_average=9.0)})
    assert busy == ("the host was busy: load average 9.0 on 4 cores",)


def test_a_second_gpu_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise events would be recorded on the first one's stream, and the first one be waited for."""
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    common.use_device("cpu")
    common.use_device("cuda:1")
    assert chosen == ["cuda:1"]


def test_audio_that_is_no_sound_is_a_fault(tmp_path: Path) -> None:
    silent = audio.keep(torch.zeros(240), 0, tmp_path, "x.wav")
    broken = audio.keep(torch.full((240,), torch.nan), 1, tmp_path, "y.wav")
    fine = audio.keep(torch.linspace(-0.5, 0.5, 240), 2, tmp_path, "z.wav")
    assert utterance.no_sound((silent, broken, fine)) == (
        "text 1: the audio holds values that are no numbers",
        "text 0: the audio is silent",
    )


def test_what_imports_ask_of_the_gpu_is_answered_without_touching_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork server that initialized CUDA would make every cell fail; torchao's imports ask both of these."""
    from torch.utils._triton import has_triton

    from ttsbench.running import host, preload

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was touched"))
    monkeypatch.setattr(host, "machine", lambda: SimpleNamespace(compute_capability=(9, 0)))
    with preload.cuda_untouched():
        assert torch.cuda.get_device_capability() == (9, 0)
        assert has_triton.__wrapped__()
