"""What this machine is and has: the fingerprint that a run keeps, and the facts that planning needs. Imports no torch.

The fingerprint says what can change a figure and nothing that tells who ran it: no host name, no user name, no path.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttsbench.errors import UsageError
from ttsbench.instruments import nvml
from ttsbench.optimizations.options import Option
from ttsbench.running import sources

PACKAGES = (
    "chatterbox-tts",
    "conformer",
    "diffusers",
    "flash-attn",
    "librosa",
    "liger-kernel",
    "numba",
    "numpy",
    "nvidia-cublas",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "nvidia-cufft",
    "nvidia-ml-py",
    "ray",
    "resemble-perth",
    "s3tokenizer",
    "safetensors",
    "scipy",
    "soxr",
    "tokenizers",
    "torch",
    "torchao",
    "torchaudio",
    "transformers",
    "triton",
)
VARIABLES = re.compile(
    r"(CUBLAS|CUDA_|CUDNN|GOMP_|KMP_|MALLOC_|MKL_|NUMBA_|OMP_|OPENBLAS_|PYTORCH_|TORCH|TRITON_)\w*"
    r"|HF_HUB_OFFLINE|LD_PRELOAD|NVIDIA_TF32_OVERRIDE|PYTHONHASHSEED|TOKENIZERS_PARALLELISM|TRANSFORMERS_OFFLINE"
)
SECRETS = re.compile(r"TOKEN(?!IZERS)|KEY|SECRET|PASS|CREDENTIAL|AUTH")


@dataclass(frozen=True)
class Machine:
    """What planning and `doctor` need to know; the GPU is the first that CUDA may use."""

    cpu_count: int
    memory_bytes: int
    cuda_problem: str = "no NVIDIA driver answers"
    gpu_count: int = 0
    gpu_name: str = ""
    compute_capability: tuple[int, int] | None = None
    gpu_memory_bytes: int | None = None
    driver: str = ""

    @property
    def has_cuda(self) -> bool:
        """Whether the installed torch can use a GPU here."""
        return not self.cuda_problem

    def has_package(self, name: str) -> bool:
        """Whether it is installed, by its name on an index or in an import; nothing is imported."""
        return version_of(name) is not None or importlib.util.find_spec(name.replace("-", "_")) is not None


def machine() -> Machine:
    """The facts of this machine, CUDA_VISIBLE_DEVICES applied."""
    boards = nvml.boards()
    facts: dict[str, Any] = {}
    if boards:
        facts = {
            "gpu_name": boards[0].name or "",
            "compute_capability": boards[0].compute_capability,
            "gpu_memory_bytes": boards[0].memory_bytes,
        }
    return Machine(
        cpu_count=usable_cpus(),
        memory_bytes=memory_bytes(),
        cuda_problem=cuda_problem(len(boards)),
        gpu_count=len(boards),
        driver=nvml.ask("nvmlSystemGetDriverVersion") or "",
        **facts,
    )


def cuda_problem(gpu_count: int) -> str:
    """Why the installed torch can use no GPU here; empty when it can."""
    built_for = sources.torch_build().get("cuda", "")
    driver_takes = nvml.ask("nvmlSystemGetCudaDriverVersion")
    if problem := nvml.problem():
        return problem
    if not gpu_count:
        hidden = "CUDA_VISIBLE_DEVICES" in os.environ
        return "CUDA_VISIBLE_DEVICES leaves no GPU" if hidden else "the NVIDIA driver knows no GPU"
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if not built_for:
        return "the installed torch is a build without CUDA"
    # Within a major version, old drivers run newer builds.
    if driver_takes is not None and driver_takes // 1000 < int(built_for.partition(".")[0]):
        takes = f"{driver_takes // 1000}.{driver_takes % 1000 // 10}"
        return f"the installed torch is built for CUDA {built_for} and the driver takes at most {takes}"
    return ""


def missing(option: Option, machine: Machine) -> str:
    """Why an option cannot run on this machine, and how to get it; empty when it can."""
    reasons = []
    if option.needs_cuda and not machine.has_cuda:
        reasons.append(f"needs an NVIDIA GPU: {machine.cuda_problem}")
    if option.needs_package and not machine.has_package(option.needs_package):
        reasons.append(f"needs the package {option.needs_package}, which is not installed")
    capability = machine.compute_capability
    if machine.has_cuda and capability is not None and capability < option.needs_capability:
        has, needs = (".".join(map(str, pair)) for pair in (capability, option.needs_capability))
        reasons.append(f"needs a GPU of compute capability {needs}, and this one has {has}")
    if reasons and option.how_to_get:
        reasons.append(option.how_to_get)
    return "; ".join(reasons)


def resolve_device(name: str, machine: Machine) -> str:
    """`cpu` or `cuda:N`, from what a scenario asks for."""
    kind, _, index = name.partition(":")
    if name == "auto":
        return "cuda:0" if machine.has_cuda else "cpu"
    if name == "cpu":
        return "cpu"
    if kind != "cuda" or not (index.isdecimal() or name == "cuda"):
        raise UsageError(f"device {name!r} is none", mend="Allowed: auto, cpu, cuda, cuda:N")
    if not machine.has_cuda:
        raise UsageError(
            f"device {name} is asked for, and there is none: {machine.cuda_problem}",
            mend="Use --set device=cpu, or see `ttsbench doctor`",
        )
    if int(index or 0) >= machine.gpu_count:
        last = f"cuda:{machine.gpu_count - 1}"
        raise UsageError(f"device {name} is asked for, and the last one here is {last}", mend="Allowed: cuda, cuda:N")
    return f"cuda:{int(index or 0)}"


def fingerprint(device: str) -> dict[str, Any]:
    """All of what this machine is that can change a figure measured on this device, as plain data."""
    return {
        "device": device,
        "gpu": gpu(device),
        "cpu": cpu(),
        "memory_bytes": memory_bytes(),
        "os": {"name": _os_name(), "kernel": f"{platform.system()} {platform.release()}", "libc": _libc()},
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "packages": {name: version for name in PACKAGES if (version := version_of(name)) is not None},
        "torch_build": sources.torch_build(),
        "ttsbench": sources.own(),
        "sources_sha256": sources.hashes(),
        "variables": variables(),
    }


def gpu(device: str) -> dict[str, Any] | None:
    board = nvml.board(device)
    if board is None:
        return None
    cuda, capability = nvml.ask("nvmlSystemGetCudaDriverVersion"), board.compute_capability
    limit_milliwatts, uuid = board.ask("EnforcedPowerLimit"), board.uuid
    return {
        "name": board.name,
        "uuid_sha256": None if uuid is None else hashlib.sha256(uuid.encode()).hexdigest()[:16],
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "memory_bytes": board.memory_bytes,
        "driver": nvml.ask("nvmlSystemGetDriverVersion"),
        "cuda_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        "power_limit_watts": None if limit_milliwatts is None else limit_milliwatts / 1000,
        "sm_clock_max_mhz": board.ask("MaxClockInfo", 1),
        "memory_clock_max_mhz": board.ask("MaxClockInfo", 2),
        "ecc": _switch(board.ask("EccMode")),
        "mig": _switch(board.ask("MigMode")),
    }


def cpu() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and how it is clocked."""
    described = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    cores = set(re.findall(r"^physical id\s*:\s*(\d+)$(?:.|\n)*?^core id\s*:\s*(\d+)$", described, re.MULTILINE))
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    return {
        "model": model[1] if model else platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "logical": os.cpu_count(),
        "physical": len(cores) or None,
        "usable": usable_cpus(),
        "quota": int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
    }


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def variables() -> dict[str, str]:
    """Environment variables that change what runs. Of a path only the fact that there is one: it may name a user."""
    return {
        name: "<path>" if "/" in value else value
        for name, value in sorted(os.environ.items())
        if VARIABLES.fullmatch(name) and not SECRETS.search(name)
    }


def _switch(answer: Any) -> bool | None:
    """Present and pending state; the present one counts."""
    return None if answer is None else bool(answer[0])


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def _libc() -> str:
    return " ".join(platform.libc_ver()).strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def describe(machine: Machine) -> list[str]:
    """The machine in a few lines, for `doctor`."""
    gigabytes = f"{machine.memory_bytes / 2**30:.0f} GiB of memory"
    lines = [f"CPU: {cpu()['model']}, {machine.cpu_count} usable, {gigabytes}"]
    if machine.has_cuda:
        capability = ".".join(map(str, machine.compute_capability or ("?",)))
        memory = f", {machine.gpu_memory_bytes / 2**30:.0f} GiB" if machine.gpu_memory_bytes else ""
        lines.append(f"GPU: {machine.gpu_name}{memory}, compute capability {capability}, driver {machine.driver}")
    else:
        lines.append(f"GPU: none to use: {machine.cuda_problem}")
    return lines + [
        f"{name}: {version_of(name) or 'not installed'}" for name in ("torch", "transformers", "chatterbox-tts")
    ]
