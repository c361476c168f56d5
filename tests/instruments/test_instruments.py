from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ttsbench.instruments import energy, guard, memory, nvml
from ttsbench.instruments.guard import GuardSampler
from ttsbench.instruments.pace import Pace
from ttsbench.records.measurements import Guard

MIB = 1 << 20


def process(process_id: int, used_bytes: int | None = 0) -> SimpleNamespace:
    return SimpleNamespace(pid=process_id, usedGpuMemory=used_bytes)


@contextmanager
def sleeping() -> Iterator[int]:
    """A process of ours."""
    program = "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program]) as child:
        try:
            yield child.pid
        finally:
            child.kill()


# nvml


def test_without_a_driver_nothing_is_answered(fake_nvml: Any) -> None:
    assert nvml.boards() == ()
    assert nvml.board("cuda:0") is None
    assert nvml.ask("nvmlSystemGetDriverVersion") is None
    assert nvml.problem() == "no NVIDIA driver answers (Driver Not Loaded)"


def test_without_the_package_nothing_is_answered(fake_nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.boards() == ()
    assert nvml.problem() == "the package nvidia-ml-py is not installed"


def test_the_library_is_opened_once(fake_nvml: Any) -> None:
    fake_nvml.add_board()
    for _ in range(3):
        nvml.boards()
    assert fake_nvml.opened == 1


@pytest.mark.parametrize(
    ("visible", "handles"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        (" 2 , 0 ", [2, 0]),
        ("1,-1,0", [1]),
        ("1,7,0", [1]),
        ("0,0", [0]),
        ("GPU-1aaa-bbb", [1]),
        ("GPU-2,GPU-0", [2, 0]),
        ("GPU-", []),
        ("NoDevFiles", []),
    ],
)
def test_boards_are_those_that_cuda_may_use(
    fake_nvml: Any, monkeypatch: pytest.MonkeyPatch, visible: str | None, handles: list[int]
) -> None:
    for _ in range(3):
        fake_nvml.add_board()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [board.handle for board in nvml.boards()] == handles


def test_a_device_names_its_board(fake_nvml: Any) -> None:
    import torch

    fake_nvml.add_board()
    fake_nvml.add_board()
    assert nvml.board(torch.device("cuda", 1)) == nvml.Board(1)
    assert nvml.board(torch.device("cuda")) == nvml.Board(0)
    assert nvml.board("cuda:2") is None
    assert nvml.board(torch.device("cpu")) is None


def test_only_harmful_throttle_reasons_are_named(fake_nvml: Any) -> None:
    board = fake_nvml.add_board(CurrentClocksEventReasons=0x1 | 0x2 | 0x10 | 0x100)
    assert nvml.Board(0).throttle_reasons == ()
    board["CurrentClocksEventReasons"] = 0x4 | 0x40 | 0x1
    assert nvml.Board(0).throttle_reasons == ("software power cap", "hardware thermal slowdown")


def test_old_drivers_name_throttle_reasons_otherwise(fake_nvml: Any) -> None:
    board = fake_nvml.add_board(CurrentClocksThrottleReasons=0x8)
    del board["CurrentClocksEventReasons"]
    assert nvml.Board(0).throttle_reasons == ("hardware slowdown",)


# energy


class Meter:
    """A counter that moves every `tick_seconds`, driven at a constant power by a clock of its own."""

    def __init__(self, watts: float, tick_seconds: float) -> None:
        self.now, self.watts, self.tick_seconds = 100.0, watts, tick_seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def millijoules(self) -> int:
        return round(self.now // self.tick_seconds * self.tick_seconds * self.watts * 1000)


@pytest.fixture
def meter(fake_nvml: Any, monkeypatch: pytest.MonkeyPatch) -> Meter:
    meter = Meter(watts=300.0, tick_seconds=0.1)
    fake_nvml.add_board(TotalEnergyConsumption=meter.millijoules)
    monkeypatch.setattr(energy, "time", SimpleNamespace(sleep=meter.sleep, perf_counter=lambda: meter.now))
    return meter


@pytest.mark.parametrize("seconds", [0.01, 0.13, 2.499])
def test_energy_is_right_however_the_block_falls_between_ticks(meter: Meter, seconds: float) -> None:
    meter.now += 0.037
    with energy.measure("cuda:0") as counter:
        meter.now += seconds
    result = counter.result(idle_watts=100.0, audio_seconds=2.0)
    assert result is not None
    assert result.seconds >= seconds
    # Two polls of a millisecond are all that the ends may be off by.
    assert result.joules == pytest.approx(300.0 * result.seconds, abs=300.0 * 0.002)
    assert result.joules_per_audio_second == pytest.approx(200.0 * result.seconds / 2.0, abs=1.0)


def test_the_idle_draw(meter: Meter) -> None:
    meter.watts = 70.0
    assert energy.idle_watts("cuda:0", 1.0) == pytest.approx(70.0, rel=0.01)


def test_a_counter_that_stands_still_does_not_hang(meter: Meter) -> None:
    meter.watts = 0.0
    assert energy.idle_watts("cuda:0", 1.0) == 0.0
    assert meter.now < 103.0


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_without_a_counter_there_is_no_energy(fake_nvml: Any, device: str) -> None:
    fake_nvml.add_board()
    assert energy.idle_watts(device, 60.0) is None
    with energy.measure(device) as counter:
        pass
    assert counter.result(idle_watts=1.0, audio_seconds=1.0) is None


def test_a_block_that_fails_has_no_energy(meter: Meter) -> None:
    with pytest.raises(KeyError), energy.measure("cuda:0") as counter:
        raise KeyError
    assert counter.result(idle_watts=1.0, audio_seconds=1.0) is None


# guard


def test_the_guard_keeps_the_worst_of_what_it_saw(fake_nvml: Any) -> None:
    board = fake_nvml.add_board(ClockInfo=1980, Temperature=60, ComputeRunningProcesses=[process(os.getpid())])
    sampler = GuardSampler("cuda:0")
    assert sampler.read() == 1980
    board |= {"ClockInfo": 1200, "Temperature": 85, "CurrentClocksEventReasons": 0x40}
    assert sampler.read() == 1200
    board |= {"ClockInfo": 1700, "Temperature": 70, "CurrentClocksEventReasons": 0x4}
    assert sampler.read() == 1700
    result = sampler.result()
    assert (result.sm_clock_mhz_min, result.sm_clock_mhz_max, result.temperature_c_max) == (1200, 1980, 85)
    assert result.throttle_reasons == ("hardware thermal slowdown", "software power cap")
    assert result.foreign_processes == ()


def test_the_guard_counts_what_happened_while_it_did_not_look(fake_nvml: Any) -> None:
    counters = {0: 5_000_000, 1: 0, 3: 0}
    fake_nvml.add_board(ViolationStatus=lambda policy: SimpleNamespace(violationTime=counters[policy]))
    sampler = GuardSampler("cuda:0")
    counters[0] += 250_000_000
    counters[1] += 10_000  # less than a millisecond is no news
    assert sampler.result().throttle_reasons == ("the power cap, for 250 ms",)


def test_the_guard_on_a_cpu_sees_the_load(fake_nvml: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvml.add_board()
    loads = iter([0.5, 3.25, 1.0])
    monkeypatch.setattr(os, "getloadavg", lambda: (next(loads), 0.0, 0.0))
    sampler = GuardSampler("cpu")
    assert [sampler.read() for _ in range(3)] == [None, None, None]
    assert sampler.result() == Guard(load_average=3.25)


def test_a_guard_that_never_looked_claims_nothing(fake_nvml: Any) -> None:
    assert GuardSampler("cuda:0").result() == Guard()


def test_a_board_that_answers_little_is_no_failure(fake_nvml: Any) -> None:
    board = fake_nvml.add_board()
    for question in ("ClockInfo", "Temperature", "CurrentClocksEventReasons", "ComputeRunningProcesses"):
        del board[question]
    sampler = GuardSampler("cuda:0")
    assert sampler.read() is None
    assert sampler.result().sm_clock_mhz_min is None
    assert sampler.result().foreign_processes == ()


@pytest.mark.skipif(not guard.PROC.is_dir(), reason="no /proc")
def test_our_own_children_are_not_foreign_and_others_are() -> None:
    with sleeping() as child:
        assert guard.foreign([os.getpid(), child]) == []
        assert guard.foreign([os.getpid(), os.getppid()]) == [Path(f"/proc/{os.getppid()}/comm").read_text().strip()]


def test_a_foreign_name_is_the_executables_alone(
    fake_nvml: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvml.add_board()
    fake_nvml.system["ProcessName"] = lambda _: "/home/somebody/bin/trainer --token hunter2"
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "stat").write_text("77 (a (very) odd name) S 1 77 77")
    (tmp_path / "77" / "comm").write_text("renderer\n")
    monkeypatch.setattr(guard, "PROC", tmp_path)
    assert sorted(guard.foreign([os.getpid(), 77, 78])) == ["renderer", "trainer"]


def test_a_process_that_nothing_is_known_of_is_foreign_all_the_same(fake_nvml: Any, tmp_path: Path) -> None:
    assert guard.foreign([os.getpid(), 2**22 + 1]) == [guard.HIDDEN]


def test_where_the_namespace_hides_our_own_id_one_of_those_listed_is_us() -> None:
    hidden = [2**22 + n for n in range(3)]
    assert guard.foreign([]) == []
    assert guard.foreign(hidden[:1]) == []
    assert guard.foreign(hidden) == [guard.HIDDEN] * 2


# memory


def test_the_host_peak_is_that_of_the_block_alone() -> None:
    def fill(mebibytes: int) -> None:
        block = bytearray(mebibytes * MIB)
        block[::4096] = b"x" * len(block[::4096])

    fill(400)
    with memory.measure("cpu") as peaks:
        fill(100)
    small = peaks.result(weights_bytes=7, kv_cache_bytes=None)
    with memory.measure("cpu") as peaks:
        fill(400)
    large = peaks.result(weights_bytes=7, kv_cache_bytes=None)
    assert large.host_peak_bytes - small.host_peak_bytes > 250 * MIB
    assert (small.weights_bytes, small.allocated_peak_bytes, small.process_bytes) == (7, None, None)


def test_without_proc_the_host_peak_is_the_process_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "gone")
    with memory.measure("cpu") as peaks:
        pass
    assert peaks.result(weights_bytes=0, kv_cache_bytes=0).host_peak_bytes > 5 * MIB


class FakeCuda:
    """The part of torch.cuda that is asked, with an allocator whose peaks can be reset."""

    def __init__(self) -> None:
        self.allocated = self.reserved = 0
        self.peaks = (900, 1000)

    def synchronize(self, device: object) -> None:
        assert device == "cuda:0"

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def reset_peak_memory_stats(self, device: object) -> None:
        self.peaks = (self.allocated, self.reserved)

    def max_memory_allocated(self, device: object) -> int:
        return self.peaks[0]

    def max_memory_reserved(self, device: object) -> int:
        return self.peaks[1]


@pytest.mark.parametrize(
    ("listed", "process_bytes"),
    [
        ([process(os.getpid(), 640), process(2**22 + 1, 1)], 640),
        ([process(2**22 + 1, 640)], 640),
        ([process(2**22 + 1, 640), process(2**22 + 2, 1)], None),
        ([process(os.getpid(), None)], None),
        ([], None),
    ],
)
def test_cuda_peaks_are_the_blocks_and_the_driver_is_asked_for_the_rest(
    fake_nvml: Any, monkeypatch: pytest.MonkeyPatch, listed: list[SimpleNamespace], process_bytes: int | None
) -> None:
    fake_nvml.add_board(ComputeRunningProcesses=listed)
    cuda = FakeCuda()
    cuda.allocated, cuda.reserved = 100, 500
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with memory.measure("cuda:0") as peaks:
        assert cuda.peaks == (100, 100)
        cuda.peaks = (300, 400)
    result = peaks.result(weights_bytes=50, kv_cache_bytes=10)
    assert (result.allocated_peak_bytes, result.reserved_peak_bytes) == (300, 400)
    assert (result.weights_bytes, result.kv_cache_bytes) == (50, 10)
    assert result.process_bytes == process_bytes
    assert result.device_bytes == 3_000_000_000


# on a GPU


# pace


def test_a_cpu_has_no_pace_of_its_own() -> None:
    import torch

    assert Pace(torch.device("cpu")).read() is None


@pytest.mark.gpu
def test_a_gpus_pace_is_steady() -> None:
    import torch

    pace = Pace(torch.device("cuda:0"))
    readings = [pace.read() or 0.0 for _ in range(20)]
    assert 300.0 < min(readings) < 10_000.0
    middle = sorted(readings)[len(readings) // 2]
    assert sum(abs(reading / middle - 1) < 0.02 for reading in readings) >= 15
    # It changes nothing that a seeded draw gives.
    torch.cuda.manual_seed(3)
    before = torch.rand(4, device="cuda:0")
    torch.cuda.manual_seed(3)
    pace.read()
    assert torch.equal(torch.rand(4, device="cuda:0"), before)


@pytest.mark.gpu
def test_the_instruments_agree_with_a_real_gpu() -> None:
    import torch

    torch.empty(1024 * MIB, dtype=torch.uint8, device="cuda:0")  # freed at once: an earlier peak
    held = torch.cuda.memory_allocated("cuda:0")  # by other tests
    with memory.measure("cuda:0") as peaks:
        torch.empty(256 * MIB, dtype=torch.uint8, device="cuda:0")
    result = peaks.result(weights_bytes=0, kv_cache_bytes=None)
    assert result.allocated_peak_bytes is not None
    assert 256 * MIB <= result.allocated_peak_bytes - held < 512 * MIB
    assert result.device_bytes is not None
    assert result.device_bytes > 256 * MIB
    assert result.process_bytes is None or result.process_bytes > 256 * MIB
    sampler = GuardSampler("cuda:0")
    clock_mhz = sampler.read()
    assert clock_mhz is None or clock_mhz > 100
    idle_watts = energy.idle_watts("cuda:0", 1.0)
    with energy.measure("cuda:0") as counter:
        began = time.perf_counter()
        while time.perf_counter() - began < 1.0:
            torch.mm(torch.ones(4096, 4096, device="cuda:0"), torch.ones(4096, 4096, device="cuda:0"))
            torch.cuda.synchronize()
    used = counter.result(idle_watts=idle_watts or 0.0, audio_seconds=1.0)
    assert (used is None) == (idle_watts is None)
    assert used is None or used.joules_per_audio_second > 0
