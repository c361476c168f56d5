"""An engine that only pretends to speak: known noise, known faults, planted changes, no torch.

Its figures follow from its parameters and a seed alone, so that what is decided about them can be checked against what
is true. It stands behind the worker like any other engine: real processes, real rows, real crashes.
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ttsbench.errors import CellError
from ttsbench.optimizations.registry import BY_NAME
from ttsbench.optimizations.stacks import complete
from ttsbench.records import measurements
from ttsbench.records.jobs import TIMED, Fake, Job
from ttsbench.running.cells.common import CellFields, row_warnings, utterance_seed
from ttsbench.running.cells.load import all_levels
from ttsbench.running.progress import ProgressCallback
from ttsbench.serving.calls import Call
from ttsbench.serving.simulated import SimulatedEngine

TOKENS_PER_AUDIO_SECOND = 25
CHARACTERS_PER_AUDIO_SECOND = 14
# Of an utterance's time; what is left is the residual.
STAGE_SHARES = {
    "text": 0.01, "voice": 0.01, "prefill": 0.05, "decode": 0.6, "flow_encoder": 0.05, "cfm": 0.18, "vocoder": 0.05,
    "copy_to_host": 0.01, "watermark": 0.03,
}  # fmt: skip
# Beside stages, what a change can be planted in.
WALL, MEMORY, LAUNCHES = "wall", "memory", "launches"
CLOCK_MHZ, THROTTLED_MHZ = 1980, 1500
THROTTLED_SLOWDOWN = 1.25
# An H200's, of what consists of small kernels; and how likely the pace is drawn anew before a process and before a
# call, so that with a share of a quarter one call in nine is at another pace than the one before it.
HURRIED_SPEEDUP = 1.09
PACE_NS, PACE_REDRAWN, PACE_REDRAWN_BY_CALL = 1000.0, 0.5, 0.3
HOST_BYTES, LEAKED_BYTES_PER_CALL = 2**30, 2**24
LAUNCHES_PER_STEP = 120
IDLE_WATTS, BUSY_WATTS = 60.0, 200.0
# Over so many processes the wandering half of a drift spreads as far as the straight half.
DRIFT_PROCESSES = 30
DEFAULTS = complete({})


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    """The fields of the cell's record; or no answer at all, where the process is to die."""
    report_progress("pretending")
    if reason := refusal(job):
        raise CellError(f"the fake engine has no model, so {reason}")
    process = FakeProcess(job)
    if process.crashes:
        os.kill(os.getpid(), signal.SIGKILL)
    return process.fields()


def refusal(job: Job) -> str:
    """What this job asks of a model; a change is planted in the fake engine, not chosen from options."""
    options = [
        f"{slot}: {option}"
        for slot, option in complete(job.slots).items()
        if option != DEFAULTS[slot] and BY_NAME[slot].is_part
    ]
    if options:
        return f"{options[0]} has no part in it; plant a change instead"
    if job.forward is not None:
        return "workload.forward has no backbone to run"
    if job.kind != TIMED or job.reference:
        return f"it has no {'quality' if job.reference else job.kind} pass"
    return ""


@dataclass(frozen=True)
class MachineState:
    """What befalls one process of a series, whichever stack runs in it."""

    slowdown: float
    throttled: bool
    # Whether the device is at its faster pace: as the process begins, then at each call.
    hurried: tuple[bool, ...]

    @classmethod
    def at(cls, fake: Fake, order: int, calls: int) -> MachineState:
        """After so many processes of the series; all share one past."""
        past = random.Random(f"{fake.seed}/drift")
        straight = past.gauss(0, fake.drift) * order / DRIFT_PROCESSES
        wandering = sum(past.gauss(0, fake.drift) for _ in range(order)) / math.sqrt(DRIFT_PROCESSES)
        throttled = random.Random(f"{fake.seed}/throttling/{order}").random() < fake.throttled
        slowdown = math.exp(straight + wandering) * (THROTTLED_SLOWDOWN if throttled else 1.0)
        return cls(slowdown, throttled, _hurried_calls(fake, order, calls))

    def speedup(self, call: int) -> float:
        """The device's own, at a call; under load it stays as it is from the last one on."""
        return HURRIED_SPEEDUP if self.hurried[min(call + 1, len(self.hurried) - 1)] else 1.0

    def pace_ns(self, call: int) -> float:
        """As it is right after a call; the one before the first is -1."""
        return PACE_NS / self.speedup(call)


def _hurried_calls(fake: Fake, order: int, calls: int) -> tuple[bool, ...]:
    """The device keeps its pace for some calls, or processes."""
    if not fake.hurried:
        return (False,) * (calls + 1)
    past = random.Random(f"{fake.seed}/pace")
    states: list[bool] = []
    for number in range((order + 1) * (calls + 1)):
        redrawn = PACE_REDRAWN_BY_CALL if number % (calls + 1) else PACE_REDRAWN
        drawn, hurried = past.random(), past.random() < fake.hurried
        states.append(hurried if not number or drawn < redrawn else states[-1])
    return tuple(states[-calls - 1 :])


class FakeProcess:
    def __init__(self, job: Job) -> None:
        assert job.fake is not None
        self._job, self._fake = job, job.fake
        self._random = random.Random(f"{job.fake.seed}/{job.id}/{job.order}")
        self._planted: Mapping[str, float] = self._fake.planted.get(job.stack, {})
        self._calls = job.repeats * len(job.texts)
        self._machine = MachineState.at(self._fake, job.order, self._calls)
        self._slowdown = self._machine.slowdown * math.exp(self._random.gauss(0, self._fake.process_noise))
        self.crashes = self._random.random() < self._fake.crashes
        self._shares = {name: share * self._stage_noise() for name, share in STAGE_SHARES.items()}

    def fields(self) -> CellFields:
        job, calls = self._job, range(self._calls)
        fields: CellFields = {
            "utterances": () if job.load else tuple(self._utterance(call) for call in calls),
            "load": self._under_load() if job.load else None,
            "guard": self._guard(),
            "evidence": self._evidence(),
            "model": {"class": "Fake"},
        }
        if "memory" in job.passes:
            fields["memory"] = self._memory(len(calls))
        if "energy" in job.passes:
            fields["energy"] = self._energy()
        return fields | {"warnings": row_warnings(fields)}

    def _utterance(self, call: int) -> measurements.Utterance:
        repeat, text_index = divmod(call, len(self._job.texts))
        seed = utterance_seed(self._job, text_index, repeat)
        tokens = self._tokens(text_index)
        slowdown = self._slowdown * self._call_noise(call) / self._machine.speedup(call) * self._factor(WALL)
        usual = self._fake.rtf * tokens / TOKENS_PER_AUDIO_SECOND * slowdown
        stages = {name: usual * share * self._factor(name) for name, share in self._shares.items()}
        residual = usual * (1 - sum(STAGE_SHARES.values()))
        wall_seconds = sum(stages.values()) + residual
        return measurements.Utterance(
            text_index=text_index,
            repeat=repeat,
            seed=seed,
            wall_seconds=wall_seconds,
            audio_seconds=tokens / TOKENS_PER_AUDIO_SECOND,
            tokens=tokens,
            tokens_sha256=f"{seed:064x}",
            first_sample_seconds=wall_seconds,
            first_playable_seconds=wall_seconds,
            first_audible_seconds=wall_seconds,
            stages={
                name: measurements.StageTime(s) for name, s in (stages | {measurements.RESIDUAL: residual}).items()
            },
            sm_clock_mhz=self._clock_mhz(call),
            pace_before_ns=self._machine.pace_ns(call - 1),
            pace_ns=self._machine.pace_ns(call),
        )

    def _under_load(self) -> measurements.LoadResult:
        """One request after the other, on a clock that runs as fast as it can."""
        load = self._job.load
        assert load is not None
        levels = all_levels(SimulatedEngine(self._service), self._job, lambda stage: None)
        return measurements.LoadResult(load.ttfa_seconds, load.underrun_seconds, tuple(levels))

    def _service(self, call: Call) -> tuple[float, float]:
        utterance = self._utterance(call.number * len(self._job.texts) + call.text_index)
        call.tokens, call.tokens_sha256 = utterance.tokens, f"{call.seed:064x}"
        return utterance.wall_seconds, utterance.audio_seconds

    def _stage_noise(self) -> float:
        return math.exp(self._random.gauss(0, self._fake.stage_noise)) if self._fake.stage_noise else 1.0

    def _call_noise(self, call: int) -> float:
        """Noise, a spike now and then, and what a leak has cost by now."""
        spike = self._fake.spike_size if self._random.random() < self._fake.spikes else 0.0
        return math.exp(self._random.gauss(0, self._fake.call_noise)) * (1 + spike) * (1 + self._fake.leak) ** call

    def _tokens(self, text_index: int) -> int:
        if self._job.fixed_tokens is not None:
            return self._job.fixed_tokens
        seconds = len(self._job.texts[text_index]) / CHARACTERS_PER_AUDIO_SECOND
        return max(1, round(seconds * TOKENS_PER_AUDIO_SECOND))

    def _factor(self, place: str) -> float:
        return 1 + self._planted.get(place, 0.0)

    def _clock_mhz(self, call: int) -> int:
        """Throttling sets in after the first call."""
        return THROTTLED_MHZ if self._machine.throttled and call else CLOCK_MHZ

    def _guard(self) -> measurements.Guard:
        throttled = self._machine.throttled
        return measurements.Guard(
            sm_clock_mhz_min=THROTTLED_MHZ if throttled else CLOCK_MHZ,
            sm_clock_mhz_max=CLOCK_MHZ,
            throttle_reasons=("sw_thermal_slowdown",) if throttled else (),
        )

    def _evidence(self) -> CellFields:
        launches = round(LAUNCHES_PER_STEP * self._factor(LAUNCHES))
        nothing = {"graphs": 0, "graph_breaks": 0, "recompilations_while_timing": 0, "captures_while_timing": 0}
        return {
            "activity": {"decode_per_step": {"launches": launches, "graph_launches": 0, "waits": 1}},
            "hooks": {"warm": 0, "at_the_end": 0},
            "compiler": nothing,
            "torch": {"imported": "torch" in sys.modules},
        }

    def _memory(self, calls: int) -> measurements.Memory:
        """Steady but for a leak, and for what the host's own noise does to its peak."""
        leaked = LEAKED_BYTES_PER_CALL * calls if self._fake.leak else 0
        noise = math.exp(self._random.gauss(0, self._fake.process_noise / 10))
        return measurements.Memory(
            host_peak_bytes=round(HOST_BYTES * self._factor(MEMORY) * noise) + leaked, weights_bytes=HOST_BYTES // 2
        )

    def _energy(self) -> measurements.Energy:
        stages = sum(share * self._planted.get(name, 0.0) for name, share in STAGE_SHARES.items())
        seconds = (
            self._fake.rtf * self._slowdown / self._machine.speedup(self._calls) * self._factor(WALL) * (1 + stages)
        )
        return measurements.Energy(BUSY_WATTS * seconds, IDLE_WATTS, seconds, audio_seconds=1.0)
