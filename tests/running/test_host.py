from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ttsbench.errors import UsageError
from ttsbench.optimizations.options import Option
from ttsbench.running import host, sources
from ttsbench.running.host import Machine

TWO_GPUS = Machine(cpu_count=2, memory_bytes=8, cuda_problem="", gpu_count=2)
NO_GPU = Machine(cpu_count=2, memory_bytes=8)


@pytest.fixture
def torch_for_cuda_13(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "torch_build", lambda: {"cuda": "13.0"})


def test_the_fingerprint_is_plain_json_and_imports_no_torch() -> None:
    program = (
        "import json, sys; from ttsbench.running import host; fingerprint = host.fingerprint('cpu')\n"
        "print(json.dumps([fingerprint, 'torch' in sys.modules, 'numpy' in sys.modules]))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    result, torch_imported, numpy_imported = json.loads(answer)
    assert not torch_imported
    assert not numpy_imported
    assert result["python"]["version"] == platform.python_version()
    assert {"chatterbox", "conformer", "perth", "s3tokenizer"} < set(result["sources_sha256"])
    assert result["packages"]["chatterbox-tts"] == "0.1.7"
    assert 1 <= result["cpu"]["usable"] <= result["cpu"]["logical"]


def test_the_fingerprint_does_not_tell_who_ran_it(monkeypatch: pytest.MonkeyPatch, fake_nvml: Any) -> None:
    fake_nvml.add_board(UUID="GPU-1234-5678")
    monkeypatch.setenv("TORCH_HOME", f"{Path.home()}/models")
    monkeypatch.setenv("PYTORCH_TOKEN", "hunter2")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    output = json.dumps(host.fingerprint("cuda:0"))
    secrets = {platform.node(), str(Path.home()), "hunter2", "GPU-1234-5678", getpass.getuser()} - {"", "root"}
    assert [secret for secret in secrets if secret in output] == []
    assert host.variables()["TORCH_HOME"] == "<path>"


def test_variables_that_change_what_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"OMP_NUM_THREADS": "2", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "TORCHDYNAMO_DISABLE": "1"}
    kept |= {"NVIDIA_TF32_OVERRIDE": "0", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MKL_CBWR": "AVX2"}
    for name, value in (kept | {"HF_HUB_OFFLINE_X": "1", "EDITOR": "ed"}).items():
        monkeypatch.setenv(name, value)
    result = host.variables()
    assert kept.items() <= result.items()
    assert not {"HF_HUB_OFFLINE_X", "EDITOR", "PATH"} & set(result)


def test_the_gpu_is_described_and_what_it_does_not_answer_is_none(fake_nvml: Any) -> None:
    fake_nvml.add_board(EnforcedPowerLimit=700_000, EccMode=(1, 1), MaxClockInfo=lambda kind: {1: 1980, 2: 3201}[kind])
    result = host.gpu("cuda:0")
    assert result is not None
    assert result["name"] == "NVIDIA H200"
    assert result["power_limit_watts"] == 700.0
    assert result["compute_capability"] == "9.0"
    assert result["cuda_driver"] == "13.0"
    assert (result["sm_clock_max_mhz"], result["memory_clock_max_mhz"]) == (1980, 3201)
    assert result["ecc"] is True
    assert result["mig"] is None
    assert host.gpu("cpu") is None
    assert host.gpu("cuda:1") is None


def test_a_machine_with_a_gpu(fake_nvml: Any, torch_for_cuda_13: None) -> None:
    fake_nvml.add_board()
    fake_nvml.add_board()
    result = host.machine()
    assert result.has_cuda
    assert (result.gpu_count, result.gpu_name, result.compute_capability) == (2, "NVIDIA H200", (9, 0))
    assert result.driver == "580.1"


def test_a_driver_that_does_not_answer_is_the_reason(fake_nvml: Any) -> None:
    result = host.machine()
    assert not result.has_cuda
    assert result.cuda_problem == "no NVIDIA driver answers (Driver Not Loaded)"
    assert (result.gpu_count, result.gpu_name, result.driver) == (0, "", "")


def test_a_hidden_gpu_is_the_reason(fake_nvml: Any, torch_for_cuda_13: None, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml.add_board()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert host.machine().cuda_problem == "CUDA_VISIBLE_DEVICES leaves no GPU"


@pytest.mark.parametrize(
    ("build", "driver", "problem"),
    [
        ({}, 13000, "the installed torch is a build without CUDA"),
        ({"cuda": "13.0"}, 12080, "the installed torch is built for CUDA 13.0 and the driver takes at most 12.8"),
        ({"cuda": "12.8"}, 12040, ""),
        ({"cuda": "12.8"}, 13000, ""),
    ],
)
def test_torch_and_driver_must_fit(
    fake_nvml: Any, monkeypatch: pytest.MonkeyPatch, build: dict[str, str], driver: int, problem: str
) -> None:
    fake_nvml.add_board()
    fake_nvml.system["CudaDriverVersion"] = driver
    monkeypatch.setattr(sources, "torch_build", lambda: build)
    assert host.machine().cuda_problem == problem


@pytest.mark.parametrize(
    ("asked_device", "machine", "device"),
    [
        ("auto", NO_GPU, "cpu"),
        ("auto", TWO_GPUS, "cuda:0"),
        ("cpu", TWO_GPUS, "cpu"),
        ("cuda", TWO_GPUS, "cuda:0"),
        ("cuda:1", TWO_GPUS, "cuda:1"),
    ],
)
def test_a_device_is_resolved(asked_device: str, machine: Machine, device: str) -> None:
    assert host.resolve_device(asked_device, machine) == device


@pytest.mark.parametrize(
    ("asked_device", "machine", "words"),
    [
        ("cuda", NO_GPU, "no NVIDIA driver answers"),
        ("cuda:0", NO_GPU, "no NVIDIA driver answers"),
        ("cuda:2", TWO_GPUS, "the last one here is cuda:1"),
        ("cuda:", TWO_GPUS, "Allowed: auto, cpu, cuda, cuda:N"),
        ("cuda:-1", TWO_GPUS, "Allowed: auto, cpu, cuda, cuda:N"),
        ("cuda:0:0", TWO_GPUS, "Allowed: auto, cpu, cuda, cuda:N"),
        ("gpu", TWO_GPUS, "Allowed: auto, cpu, cuda, cuda:N"),
        ("cpu:0", TWO_GPUS, "Allowed: auto, cpu, cuda, cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_a_usage_error(asked_device: str, machine: Machine, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        host.resolve_device(asked_device, machine)
    assert words in str(caught.value)


def test_what_is_missing_says_why_and_how_to_get_it() -> None:
    graphs = Option("cuda_graph", "", needs_cuda=True, needs_package="no-such-package", how_to_get="pip install it")
    assert host.missing(graphs, NO_GPU) == (
        "needs an NVIDIA GPU: no NVIDIA driver answers; "
        "needs the package no-such-package, which is not installed; pip install it"
    )
    assert host.missing(graphs, TWO_GPUS).startswith("needs the package")
    assert host.missing(Option("plain", "", how_to_get="it is there"), NO_GPU) == ""


@pytest.mark.parametrize("name", ["liger-kernel", "liger_kernel", "PyYAML", "yaml"])
def test_a_package_is_found_by_either_name(name: str) -> None:
    assert NO_GPU.has_package(name)


def test_a_package_is_looked_for_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "explosive_package.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    assert NO_GPU.has_package("explosive-package")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_usable_cpus_follow_the_affinity() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from ttsbench.running import host; print(host.usable_cpus())"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "1\n"
