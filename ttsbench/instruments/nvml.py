"""NVIDIA's management library behind one door: what the driver does not answer is None. Imports no torch."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any

# Bits of NVML's clock event reasons that slow a run down; idling and clocks set by hand are no harm.
THROTTLE_REASONS = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
# NVML's performance policies whose counters say for how long they held the clocks back.
HOLD_BACKS = {0: "the power cap", 1: "heat", 3: "the board's limit"}


@dataclass(frozen=True)
class Board:
    """One GPU, or one slice of it; every answer may be None."""

    handle: Any

    def ask(self, question: str, *arguments: Any) -> Any:
        """The answer of nvmlDeviceGet<question>."""
        return ask(f"nvmlDeviceGet{question}", self.handle, *arguments)

    @property
    def name(self) -> str | None:
        return _text(self.ask("Name"))

    @property
    def uuid(self) -> str | None:
        return _text(self.ask("UUID"))

    @property
    def compute_capability(self) -> tuple[int, int] | None:
        answer = self.ask("CudaComputeCapability")
        return None if answer is None else (int(answer[0]), int(answer[1]))

    @property
    def memory_bytes(self) -> int | None:
        answer = self.ask("MemoryInfo")
        return None if answer is None else int(answer.total)

    @property
    def used_bytes(self) -> int | None:
        answer = self.ask("MemoryInfo")
        return None if answer is None else int(answer.used)

    @property
    def sm_clock_mhz(self) -> int | None:
        return _whole(self.ask("ClockInfo", 1))

    @property
    def temperature_c(self) -> int | None:
        return _whole(self.ask("Temperature", 0))

    @property
    def energy_joules(self) -> float | None:
        """Since the driver was loaded; Volta and newer, whole boards only."""
        millijoules = self.ask("TotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1000

    @property
    def throttle_reasons(self) -> tuple[str, ...]:
        bits = self.ask("CurrentClocksEventReasons")
        if bits is None:  # the name before driver 535
            bits = self.ask("CurrentClocksThrottleReasons")
        return tuple(reason for bit, reason in THROTTLE_REASONS.items() if (bits or 0) & bit)

    @property
    def held_back_nanoseconds(self) -> dict[str, int]:
        """Since the driver was loaded, by what held the clocks back; it counts also while nobody looks."""
        answers = {policy: self.ask("ViolationStatus", number) for number, policy in HOLD_BACKS.items()}
        return {policy: int(answer.violationTime) for policy, answer in answers.items() if answer is not None}

    @property
    def processes(self) -> dict[int, int | None]:
        """Device bytes by process id, of those that compute; in a container the ids may be the host's."""
        return {int(p.pid): _whole(p.usedGpuMemory) for p in self.ask("ComputeRunningProcesses") or ()}


def problem() -> str:
    return _library(os.getpid())[1]


def ask(function: str, *arguments: Any) -> Any:
    """The answer of one function of pynvml, or None where there is none to be had."""
    library, _ = _library(os.getpid())
    if library is None:
        return None
    try:
        return getattr(library, function)(*arguments)
    except library.NVMLError:
        return None


def boards() -> tuple[Board, ...]:
    """The boards that CUDA may use. Numbered as NVML does, by bus, which is CUDA's way where all boards are alike, and
    otherwise with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    handles = [ask("nvmlDeviceGetHandleByIndex", index) for index in range(ask("nvmlDeviceGetCount") or 0)]
    present = tuple(Board(handle) for handle in handles if handle is not None)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return present if visible is None else _visible(visible, present)


def board(device: object) -> Board | None:
    """The board behind a torch device or its name; None for a CPU, and where nothing is answered."""
    kind, _, index = str(device).partition(":")
    if kind != "cuda":
        return None
    present = boards()
    return present[int(index or 0)] if int(index or 0) < len(present) else None


def _visible(variable: str, present: tuple[Board, ...]) -> tuple[Board, ...]:
    """As CUDA reads the variable: numbers or (beginnings of) UUIDs, up to the first that is none."""
    chosen: list[Board] = []
    for word in (w.strip() for w in variable.split(",")):
        named = _find(word, present)
        if named is None or named in chosen:
            break
        chosen.append(named)
    return tuple(chosen)


def _find(word: str, present: tuple[Board, ...]) -> Board | None:
    if word.isdecimal():
        return present[int(word)] if int(word) < len(present) else None
    if word.startswith("MIG-"):
        handle = ask("nvmlDeviceGetHandleByUUID", word)
        return None if handle is None else Board(handle)
    matching = [b for b in present if word.startswith("GPU-") and (b.uuid or "").startswith(word)]
    return matching[0] if len(matching) == 1 else None


@functools.lru_cache(maxsize=1)
def _library(process_id: int) -> tuple[ModuleType | None, str]:
    """Initialized once in each process: what a parent opened is of no use after a fork."""
    try:
        import pynvml
    except ImportError:
        return None, "the package nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"no NVIDIA driver answers ({error})"
    return pynvml, ""


def _text(answer: Any) -> str | None:
    return None if answer is None else str(answer)


def _whole(answer: Any) -> int | None:
    return None if answer is None else int(answer)
