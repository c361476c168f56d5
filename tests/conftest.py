"""Shared pieces: jobs and records that tests vary by a field or two, and a driver that answers what it is told."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ttsbench import environment, records
from ttsbench.instruments import nvml
from ttsbench.jobs import Job

# Before torch is imported: on a busy machine two OpenMP threads wait for each other, 5-20 times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before triton is imported: where torch can use no GPU, kernels run under Triton's interpreter.
if environment.machine().cuda_problem:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """A job of the tiny model on the CPU."""

    def make(**changes: Any) -> Job:
        values: dict[str, Any] = {
            "key": "lean", "kind": "timed", "stack": "lean", "slots": {"decode": "lean"}, "point": {}, "process": 0,
            "order": 0, "start_method": "forkserver", "device": "cpu", "family": "chatterbox", "weights": "synthetic",
            "size": "tiny", "dtype": "fp32", "model_seed": 0, "texts": ("One short sentence.",), "fixed_tokens": 6,
            "replay_tokens": (), "voice_wav": "", "voice_seconds": None, "language": None, "sampling": {}, "seed": 0,
            "warmup": 1, "repeats": 2, "passes": ("time", "memory"), "timeout_seconds": 60.0, "keep_audio": True,
            "reference": "", "limits": {},
        }  # fmt: skip
        return Job(**{**values, **changes})

    return make


@pytest.fixture
def make_utterance() -> Callable[..., records.Utterance]:
    """One second of audio in half a second of wall time."""

    def make(**changes: Any) -> records.Utterance:
        wall_seconds = changes.get("wall_seconds", 0.5)
        values: dict[str, Any] = {
            "text_index": 0, "repeat": 0, "seed": 0, "wall_seconds": wall_seconds, "audio_seconds": 1.0, "tokens": 25,
            "tokens_sha256": "0" * 64, "first_sample_seconds": wall_seconds, "first_playable_seconds": wall_seconds,
            "first_audible_seconds": wall_seconds,
            "stages": {"decode": records.StageTime(0.4 * wall_seconds), "residual": records.StageTime(0.01)},
        }  # fmt: skip
        return records.Utterance(**{**values, **changes})

    return make


@pytest.fixture
def make_cell(make_utterance: Callable[..., records.Utterance]) -> Callable[..., records.Cell]:
    """A cell that ran, with three equal utterances."""

    def make(**changes: Any) -> records.Cell:
        values: dict[str, Any] = {
            "key": "upstream", "kind": "timed", "stack": "upstream", "slots": {"decode": "upstream"}, "point": {},
            "process": 0, "order": 0, "status": "ok", "utterances": (make_utterance(),) * 3,
        }  # fmt: skip
        return records.Cell(**{**values, **changes})

    return make


@pytest.fixture
def make_run(make_cell: Callable[..., records.Cell]) -> Callable[..., records.Run]:
    """A run of one cell."""

    def make(**changes: Any) -> records.Run:
        values: dict[str, Any] = {
            "schema_version": records.SCHEMA_VERSION, "ttsbench_version": "0", "run_id": "r", "scenario": "s",
            "baseline": "upstream", "started_utc": "2026-01-01T00:00:00+00:00",
            "finished_utc": "2026-01-01T00:01:00+00:00", "status": "complete",
            "environment": {"python": "3.11", "gpu": {"name": "none"}}, "scenario_given": "name: s", "overrides": (),
            "scenario_understood": {}, "cells": (make_cell(),),
        }  # fmt: skip
        return records.Run(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def load_tiny() -> Callable[..., Any]:
    """The real modules at tiny size, fresh each time: options change the live object."""
    from ttsbench import checkpoint

    def load(family: str = "chatterbox", device: str = "cpu") -> Any:
        return checkpoint.load(checkpoint.ensure(family, "tiny", "fp32", 0), family, device)

    return load


@pytest.fixture
def make_stop_likely() -> Callable[[Any], None]:
    """So likely that speech ends by itself, long before the limit."""
    import torch

    def make(t3: Any) -> None:
        head = t3.speech_head
        bias = torch.zeros_like(head.weight[:, 0]) if head.bias is None else head.bias.detach().clone()
        bias[t3.hp.stop_speech_token] = head.weight.norm(dim=1).mean() * 6
        head.bias = torch.nn.Parameter(bias)

    return make


class FakeNvml:
    """Stands in for pynvml: `system` and each of `boards` map a question to its answer or to a function of the rest."""

    class NVMLError(Exception):
        """Whatever is not in the tables is not supported."""

    def __init__(self) -> None:
        self.system: dict[str, Any] = {"DriverVersion": "580.1", "CudaDriverVersion": 13000}
        self.boards: list[dict[str, Any]] = []
        self.opened = 0

    def add_board(self, **changes: Any) -> dict[str, Any]:
        board: dict[str, Any] = {
            "Name": "NVIDIA H200", "UUID": f"GPU-{len(self.boards)}aaa-bbb", "CudaComputeCapability": (9, 0),
            "MemoryInfo": SimpleNamespace(total=150_000_000_000, used=3_000_000_000, free=147_000_000_000),
            "ClockInfo": 1980, "Temperature": 40, "CurrentClocksEventReasons": 0, "ComputeRunningProcesses": [],
        }  # fmt: skip
        self.boards.append(board | changes)
        return self.boards[-1]

    def nvmlInit(self) -> None:  # noqa: N802  (the driver's own name)
        if not self.boards:
            raise self.NVMLError("Driver Not Loaded")
        self.opened += 1

    def __getattr__(self, function: str) -> Callable[..., Any]:
        def answer(*arguments: Any) -> Any:
            if function == "nvmlDeviceGetCount":
                return len(self.boards)
            if function == "nvmlDeviceGetHandleByIndex":
                return arguments[0]
            table, rest = self.system, arguments
            if function.startswith("nvmlDeviceGet"):
                table, rest = (self.boards[arguments[0]], arguments[1:]) if arguments[0] in (0, 1, 2, 3) else ({}, ())
            question = function.removeprefix("nvmlDeviceGet").removeprefix("nvmlSystemGet")
            if question not in table:
                raise self.NVMLError("Not Supported")
            return table[question](*rest) if callable(table[question]) else table[question]

        return answer


@pytest.fixture
def fake_nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    """A driver without boards, until a test adds some."""
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml._library.cache_clear()
    yield fake
    nvml._library.cache_clear()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped, with the reason, where torch can use none."""
    if item.get_closest_marker("gpu") is not None and (problem := environment.machine().cuda_problem):
        pytest.skip(problem)
