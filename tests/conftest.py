"""Shared pieces: records that tests vary by a field or two, and a driver that answers what it is told."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ttsbench.instruments import nvml
from ttsbench.records import measurements, profiles, runs
from ttsbench.records import profile_rows as rows
from ttsbench.running import host

pytest_plugins = ("browser", "cells", "pipelines", "runs")
# What tests import by name, and bring fixtures from: so that an assertion in them says what it saw.
pytest.register_assert_rewrite("recorded_traces", "refusals", "tiny_s3gen")

# Before torch is imported: on a busy machine two OpenMP threads wait for each other, 5-20 times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The tests start hundreds of processes, each of which would compile the whole package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Calibrations of whoever runs the tests are none of theirs.
os.environ["TTSBENCH_DATA"] = os.devnull

# Before triton is imported: where torch can use no GPU, kernels run under Triton's interpreter.
if host.machine().cuda_problem:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell's background jobs ignore Ctrl-C, and so would every process that the tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def make_utterance() -> Callable[..., measurements.Utterance]:
    """One second of audio in half a second of wall time."""

    def make(**changes: Any) -> measurements.Utterance:
        wall_seconds = changes.get("wall_seconds", 0.5)
        values: dict[str, Any] = {
            "text_index": 0, "repeat": 0, "seed": 0, "wall_seconds": wall_seconds, "audio_seconds": 1.0, "tokens": 25,
            "tokens_sha256": "0" * 64, "first_sample_seconds": wall_seconds, "first_playable_seconds": wall_seconds,
            "first_audible_seconds": wall_seconds,
            "stages": {"decode": measurements.StageTime(0.4 * wall_seconds), "residual": measurements.StageTime(0.01)},
        }  # fmt: skip
        return measurements.Utterance(**{**values, **changes})

    return make


@pytest.fixture
def make_cell(make_utterance: Callable[..., measurements.Utterance]) -> Callable[..., runs.Cell]:
    """A cell that ran, with three equal utterances."""

    def make(**changes: Any) -> runs.Cell:
        values: dict[str, Any] = {
            "key": "upstream", "kind": "timed", "stack": "upstream", "slots": {"decode": "upstream"}, "point": {},
            "process": 0, "order": 0, "status": "ok", "utterances": (make_utterance(),) * 3,
        }  # fmt: skip
        return runs.Cell(**{**values, **changes})

    return make


@pytest.fixture
def make_run(make_cell: Callable[..., runs.Cell]) -> Callable[..., runs.Run]:
    """A run of one cell."""

    def make(**changes: Any) -> runs.Run:
        values: dict[str, Any] = {
            "schema_version": runs.SCHEMA_VERSION, "ttsbench_version": "0", "run_id": "r", "scenario": "s",
            "baseline": "upstream", "started_utc": "2026-01-01T00:00:00+00:00",
            "finished_utc": "2026-01-01T00:01:00+00:00", "status": "complete",
            "environment": {"python": "3.11", "gpu": {"name": "none"}}, "scenario_given": "name: s", "overrides": (),
            "scenario_understood": {}, "cells": (make_cell(),),
        }  # fmt: skip
        return runs.Run(**{**values, **changes})

    return make


# An utterance of `upstream` on an H200: wall, unprofiled wall, busy, idle and host-bound ms, launches, syncs, floor ms.
STAGES_OF_UPSTREAM: dict[str, tuple[float, float, float, float, float, int, int, float]] = {
    "text": (1.4, 1.1, 0.0, 0.0, 0.0, 0, 0, 0.0),
    "voice": (96.0, 83.0, 11.0, 62.0, 40.0, 620, 9, 1.2),
    "prefill": (31.0, 24.0, 6.2, 22.0, 19.0, 1480, 2, 1.6),
    "decode": (812.0, 588.0, 171.0, 640.0, 602.0, 41900, 34, 15.4),
    "flow_encoder": (41.0, 33.0, 7.0, 33.0, 27.0, 1310, 3, 0.4),
    "cfm": (402.0, 331.0, 168.0, 231.0, 180.0, 14600, 144, 33.0),
    "vocoder": (54.0, 46.0, 14.0, 39.0, 30.0, 1900, 4, 1.9),
    "copy_to_host": (0.4, 0.4, 0.02, 0.3, 0.0, 1, 1, 0.0),
    "watermark": (27.0, 27.0, 0.0, 0.0, 0.0, 0, 0, 0.0),
    "residual": (5.0, 4.0, 0.0, 0.0, 0.0, 0, 0, 0.0),
}
KERNELS_OF_UPSTREAM = (
    ("sgemm 128×32, split-K", "gemm", "aten::mm", "mlp.down_proj"),
    ("gemv2T", "gemm", "aten::addmm", "self_attn.q_proj"),
    ("fmha cutlassF fp32", "attention", "aten::_scaled_dot_product_efficient_attention", "self_attn"),
    ("cat, contiguous", "copy", "aten::cat", "self_attn"),
    ("mul", "elementwise", "aten::mul", "input_layernorm"),
    ("mean", "reduction", "aten::mean", "input_layernorm"),
    ("radix sort, 8194 keys", "sampling", "aten::sort", ""),
    ("implicit conv 1d", "convolution", "aten::cudnn_convolution", "conv"),
    ("layer norm", "normalization", "aten::native_layer_norm", "norm1"),
)


@pytest.fixture
def make_profile() -> Callable[..., profiles.Profile]:
    """A profile as `upstream` on an H200 has it: decoding waits for launches, S3Gen is busy with the prompt."""
    return lambda **changes: replace(_profile(random.Random(0)), **changes)


def _profile(random_: random.Random) -> profiles.Profile:
    value = STAGES_OF_UPSTREAM.items()
    stages = tuple(
        rows.Stage(
            name, wall / 1e3, plain / 1e3, plain / 1137.5, busy / 1e3, idle / 1e3, bound / 1e3, launches=launches,
            syncs=syncs, copies=syncs, kernels=launches, peak_memory_bytes=3_400_000_000 + 1000 * launches,
        )
        for name, (wall, plain, busy, idle, bound, launches, syncs, _) in value
    )  # fmt: skip
    kernels = tuple(
        rows.KernelRow(
            name=f"void at::native::{words.split(',')[0].replace(' ', '_')}_kernel<float, {number}, 4>(float const*)",
            readable=words, family=family, stage=stage.name, calls=1 + stage.launches // 9,
            seconds=stage.busy_seconds * (0.34 * 0.7**number), bytes=int(4e8 * 0.5**number) if number < 8 else None,
            operations=int(9e10 * 0.1**number) if number < 3 else 0 if number < 8 else None, op=op, module=module,
        )
        for stage in stages if stage.launches > 100
        for number, (words, family, op, module) in enumerate(KERNELS_OF_UPSTREAM)
    )  # fmt: skip
    kernels = tuple(sorted(kernels, key=lambda kernel: -kernel.seconds))
    whole = sum(kernel.seconds for kernel in kernels)
    by_family = {f: [k for k in kernels if k.family == f] for f in dict.fromkeys(kernel.family for kernel in kernels)}
    return profiles.Profile(
        schema_version=profiles.SCHEMA_VERSION,
        header=profiles.ProfileHeader(
            scenario="chatterbox", stack="upstream", slots={"decode": "upstream", "dtype": "fp32"},
            family="chatterbox", size="full", device="cuda:0", device_name="NVIDIA H200",
            environment={"gpu": {"name": "NVIDIA H200", "driver": "580.1"}, "torch": "2.11.0+cu130"},
            window=profiles.ProfiledWindow(1, 32, 1, 1.28, prompt_frames=500, speech_frames=64),
            profiled_wall_seconds=1.4698, unprofiled_wall_seconds=(1.131, 1.1375, 1.142),
            started_utc="2026-01-01T00:00:00+00:00", ttsbench_version="0.1.0", with_memory=True,
        ),
        stages=stages,
        ops=tuple(
            rows.Op(
                op, 900 * (number + 1), 0.09 * 0.8**number, 0.14 * 0.8**number, 0.11 * 0.7**number, 0.12 * 0.7**number,
                (rows.ShapeCost("[2, 1, 1024] [1024, 4096]", 640, 0.03, 0.05),),
            )
            for number, op in enumerate(["aten::mm", "aten::copy_", *(op for *_, op, _ in KERNELS_OF_UPSTREAM[1:])])
        ),
        modules=tuple(
            rows.Module(f"t3.tfmr.layers.{layer}.{part}", kind, "decode", 32, 3e-4, 4e-3, 9e-4 / (layer + 1), 2e-3)
            for layer in range(30)
            for part, kind in (("self_attn", "LlamaAttention"), ("mlp", "LlamaMLP"))
        ),
        kernels=kernels,
        families=tuple(
            rows.KernelFamily(f, sum(k.calls for k in ks), s := sum(k.seconds for k in ks), s / whole)
            for f, ks in by_family.items()
        ),
        decode=rows.DecodeSteps(
            32, 0.0254, 0.0184, 0.00534, 0.02, 0.0188, 1309.0, 0.0, 1.06, 1.0, 1309.0, 1290.0, 1210.0
        ),
        reconciliation=(rows.Reconciliation("ops", 0.371, 0.377), rows.Reconciliation("stages", 0.377, 0.377)),
        coverage=(rows.Coverage("stage", 0.377, 0.377), rows.Coverage("op", 0.371, 0.377)),
        roofline=rows.Roofline(
            rows.Ceilings(4.2e12, {"fp32": 51e12, "tf32": 420e12, "bf16": 790e12}),
            (
                *(_stage_point(name, *row) for name, row in value if row[2]),
                *(_kernel_point(kernel) for kernel in kernels if kernel.bytes),
            ),
            "fp32", 0.93,
        ),
        memory=rows.ProfileMemory(
            3_560_000_000,
            tuple(
                rows.MemoryPart(name, size)
                for name, size in (("weights", 3_150_000_000), ("kv_cache", 62_000_000), ("activations", 348_000_000))
            ),
            {"decode": 3_300_000_000, "cfm": 3_560_000_000},
            tuple(
                rows.MemoryPoint(at / 400, 3_150_000_000 + at * 150_000 + random_.randrange(200_000_000), stage)
                for at, stage in enumerate(["prefill"] * 12 + ["decode"] * 320 + ["cfm"] * 200 + ["vocoder"] * 48)
            ),
            3_900_000_000,
        ),
        flames=tuple(_flames()),
        gaps=tuple(
            rows.Gap(at * 7 % 300 / 300, gap := 10 ** (-3.4 - at / 140), gap * random_.choice((1.0, 0.9, 0.0)),
                         "decode" if at * 7 % 300 < 240 else "cfm", "mul", "sgemm 128×32, split-K", "aten::mm")
            for at in range(300)
        ),
        findings=(
            profiles.Finding("launch_bound_decode", "Decoding waits for launches, not for the GPU",
                             {"launches_per_step": 1309.0, "idle_share": 0.79, "largest_gap_seconds": 0.0004},
                             "Capture the step: decode: cuda_graph.", "decode", 0.52),
            profiles.Finding("watermark_on_host", "The watermark runs on the host",
                             {"seconds": 0.027, "device_busy_seconds": 0.0}, "Use watermark: gpu.", "watermark", 0.024),
            profiles.Finding("sort_in_sampler", "The sampler sorts all logits", {"calls": 32, "logits": 8194},
                             "Use sampler: lean.", "decode"),
        ),
        looked_for=("launch_bound_decode", "watermark_on_host", "sort_in_sampler", "hooks_grow"),
        files=("profile.json", "trace.json.gz"),
        notes=("the trace was cut to 256 MB",),
    )  # fmt: skip


def _stage_point(name: str, *row: float) -> rows.RooflinePoint:
    seconds, floor = row[2] / 1e3, row[7] / 1e3
    bound = "launch" if row[4] > row[2] else "memory"
    return rows.RooflinePoint(
        name, "stage", name, int(floor * 4.2e12), int(floor * 4.2e12 * (1 + len(name))), seconds, floor, bound
    )


def _kernel_point(kernel: rows.KernelRow) -> rows.RooflinePoint:
    size, operations = kernel.bytes or 0, kernel.operations or 0
    floor = max(size / 4.2e12, operations / 51e12)
    return rows.RooflinePoint(
        kernel.readable, "kernel", kernel.stage, size, operations, kernel.seconds, floor, "memory"
    )


def _flames() -> Iterator[rows.Flame]:
    for kind, scale in (("host", 1.0), ("device", 0.3)):
        for layer in range(30):
            for part, op, microseconds in (("self_attn", "aten::mm", 5200), ("mlp", "aten::mm", 6100)):
                path = ("decode", f"t3.tfmr.layers.{layer}", part, op, "cudaLaunchKernel")
                yield rows.Flame(kind, path, microseconds * scale)
        for step in range(10):
            yield rows.Flame(kind, ("cfm", "flow.decoder.estimator", f"block {step}", "aten::conv1d"), 21_000 * scale)
        yield rows.Flame(kind, ("vocoder", "mel2wav", "aten::weight_norm"), 30_000 * scale)
        yield rows.Flame(kind, ("decode", "sampler", "aten::sort"), 38_000 * scale)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> type:
    """A captured graph as far as a CPU can play one: recording runs nothing, a replay works on the static inputs."""
    from ttsbench.optimizations.parts import graphs

    class LateRecording:
        def __init__(self, work: Any, inputs: tuple[Any, ...], pool: Any) -> None:
            self._work, self._inputs = work, inputs
            self._output: Any = None

        def replay(self) -> Any:
            result = self._work(*self._inputs)
            self._output = result if self._output is None else self._output.copy_(result)
            return self._output

    monkeypatch.setattr(graphs, "CudaRecording", LateRecording)
    return LateRecording


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
    """Tests marked `gpu` are skipped where torch can use none, those marked `alone` where others run beside them."""
    if item.get_closest_marker("alone") is not None and "alone" not in item.config.option.markexpr:
        pytest.skip("needs the machine to itself: make alone")
    if item.get_closest_marker("gpu") is not None and (problem := host.machine().cuda_problem):
        pytest.skip(problem)


@pytest.fixture(scope="session")
def first_commit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that holds this very code, as one commit."""
    folder = tmp_path_factory.mktemp("repository") / "ttsbench"
    folder.mkdir()
    for name in ("cli", "optimizations", "reports", "scenarios", "ttsbench"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.lock", folder)
    for command in ("init -q -b main", "config user.email t@example.org", "config user.name Tester", "add -A"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "As it is"], cwd=folder, check=True)
    return folder


@pytest.fixture
def repository(first_commit: Path, tmp_path: Path) -> Path:
    """A copy that a test may change and commit to."""
    return Path(shutil.copytree(first_commit, tmp_path / "repository", symlinks=True))


PRETENDED = """
name: pretended
fake: {process_noise: 0.004, call_noise: 0.002}
workload: {texts: [One.], length: {fixed: 25}}
stacks: {upstream: {}}
measure: {processes: 7, repeats: 5, passes: [time]}
"""
# Of the fake engine, what one stage takes.
STAGE = "usual * share * self._factor(name) for name"


@dataclass
class Bench:
    """A repository, a scenario and the command in it."""

    repository: Path
    scenario: Path

    def __call__(
        self, *arguments: object, seconds_max: float | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        command = [sys.executable, "-m", "ttsbench", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.repository, capture_output=True, text=True, check=False, env=environment,
            timeout=seconds_max,
        )  # fmt: skip

    def gate(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        return self("gate", self.scenario, *arguments, **options)

    def change(self, file: str, old: str, new: str) -> None:
        path = self.repository / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def plant(self, factor: float) -> None:
        """Decoding takes so many times as long."""
        self.change(
            "ttsbench/running/fake_engine.py",
            STAGE,
            STAGE.replace(" for", f" * ({factor} if name == 'decode' else 1) for"),
        )

    def commit(self, message: str) -> str:
        self.git("commit", "-q", "-a", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.repository, capture_output=True, text=True, check=True
        ).stdout

    def worktrees(self) -> int:
        return len(self.git("worktree", "list").splitlines())

    def folder(self) -> Path:
        [result] = (self.repository / "runs").glob("*-gate-*")
        return result


@pytest.fixture
def bench(repository: Path, tmp_path: Path) -> Bench:
    (tmp_path / "pretended.yaml").write_text(PRETENDED)
    return Bench(repository, tmp_path / "pretended.yaml")
