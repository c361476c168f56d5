"""From a scenario to the jobs that will run: which, in which order, which cannot, and how long it will take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from ttsbench.errors import UsageError, suggest
from ttsbench.model import checkpoint, checkpoint_files
from ttsbench.model.families import FAMILIES
from ttsbench.optimizations import registry
from ttsbench.optimizations.stacks import compiles, complete
from ttsbench.records import assembly, runs
from ttsbench.records.jobs import COLD, REFERENCE, TIMED, Fake, ForwardJob, Job, LoadJob
from ttsbench.running import host, runner
from ttsbench.running.host import Machine
from ttsbench.scenarios.models import HUB, QUALITY, SYNTHETIC
from ttsbench.scenarios.schema import CellPlan, Scenario

# Rough seconds, measured where the key says; only --plan and the first minutes of a progress display rely on them.
# (size, device): start and load, conditioning, per second of audio, per call.
COSTS_SECONDS = {
    ("tiny", "cpu"): (2.0, 1.5, 0.35, 0.25),
    ("tiny", "cuda"): (3.0, 1.0, 0.25, 0.15),
    ("full", "cpu"): (30.0, 14.0, 9.0, 12.0),
    ("full", "cuda"): (20.0, 3.0, 0.53, 0.4),
}
# Of the backbone alone: for each position of each row.
FORWARD_SECONDS = {("tiny", "cpu"): 1e-5, ("tiny", "cuda"): 1e-6, ("full", "cpu"): 1e-2, ("full", "cuda"): 2e-5}
STEP_SECONDS = 0.02
FAKE_SECONDS = 0.5
FORK_SERVER_START_SECONDS = 12.0
CHECKPOINT_SECONDS = {"tiny": 1.0, "full": 20.0}
BARE_START_SECONDS = 12.0
TOKENS_PER_AUDIO_SECOND = 25
CHARACTERS_PER_AUDIO_SECOND = 14
COLD_CALLS = 6


@dataclass(frozen=True)
class Plan:
    """Jobs in their order, and rows for the cells that have none: what cannot run here, and what is measured once."""

    jobs: tuple[Job, ...]
    refused: tuple[runs.Cell, ...]
    estimated_seconds: float

    @property
    def job_ids(self) -> set[str]:
        """The id of every row that the journal may hold."""
        return {job.id for job in self.jobs} | {cell.job_id for cell in self.refused}


def make(scenario: Scenario, machine: Machine, only: Sequence[str] = ()) -> Plan:
    """Every mistake that can be found without starting anything is found here."""
    cells = _selected(scenario.cells(), only)
    devices = {name: host.resolve_device(name, machine) for name in {cell.device for cell in cells}}
    cells = [replace(cell, device=devices[cell.device]) for cell in cells]
    _check_local_weights(cells)
    cells = [_with_what_is_there(cell, machine) for cell in cells]
    refusals = {cell.key: cell.refusal or "; ".join(dict.fromkeys(_missing(cell, machine).values())) for cell in cells}
    first: dict[str, str] = {}
    measured_as = {cell.key: first.setdefault(cell.work, cell.key) for cell in cells if not refusals[cell.key]}
    jobs = _ordered([cell for cell in cells if measured_as.get(cell.key) == cell.key])
    others = [cell for cell in cells if measured_as.get(cell.key) != cell.key]
    refused = tuple(
        _row_without_job(cell, len(jobs) + number, refusals[cell.key], measured_as.get(cell.key, ""))
        for number, cell in enumerate(others)
    )
    return Plan(tuple(jobs), refused, estimate(jobs))


def _row_without_job(cell: CellPlan, order: int, refusal: str, measured_as: str) -> runs.Cell:
    """Of a cell that cannot run here, or that is the same work as another one's."""
    reason = refusal or f"measured as {measured_as}: the chunks of a stream change nothing for a stack without one"
    row = runner.failed_cell(_job(cell, TIMED, 0, order), "skipped", reason)
    return replace(row, evidence={assembly.MEASURED_AS: measured_as}) if measured_as else row


def _selected(cells: Sequence[CellPlan], only: Sequence[str]) -> list[CellPlan]:
    """The cells whose stack or key matches one of the patterns; all without any."""
    for pattern in only:
        if not any(_matches(cell, pattern) for cell in cells):
            stacks = {cell.stack for cell in cells}
            raise UsageError(f"--only {pattern} matches no stack and no cell; {suggest(pattern, stacks)}")
    return [cell for cell in cells if not only or any(_matches(cell, pattern) for pattern in only)]


def _matches(cell: CellPlan, pattern: str) -> bool:
    return fnmatchcase(cell.stack, pattern) or fnmatchcase(cell.key, pattern)


def _check_local_weights(cells: Sequence[CellPlan]) -> None:
    """Refuses a folder that does not hold its family's checkpoint whole; hub checkpoints are checked when they load."""
    models = dict.fromkeys((cell.model.weights, cell.model.family) for cell in cells if not cell.model.synthetic)
    for weights, family in models:
        if weights != HUB:
            checkpoint_files.check(Path(weights), family)


def _missing(cell: CellPlan, machine: Machine) -> dict[str, str]:
    """Which slots hold an option that this machine cannot run, and why."""
    options = {slot: registry.BY_NAME[slot].option(option) for slot, option in cell.slots.items()}
    reasons = {slot: host.missing(option, machine) for slot, option in options.items()}
    return {slot: reason for slot, reason in reasons.items() if reason}


def _with_what_is_there(cell: CellPlan, machine: Machine) -> CellPlan:
    """The cell as its `on_missing` has it: as it is, with upstream's options for those that cannot run, or refused."""
    missing, rule = ({} if cell.refusal else _missing(cell, machine)), cell.slots["on_missing"]
    if not missing or rule == "skip":
        return cell
    if rule == "fail":
        reasons = "; ".join(f"{slot}: {cell.slots[slot]} {reason}" for slot, reason in missing.items())
        raise UsageError(f"{cell.key} cannot run here, and says on_missing: fail; {reasons}")
    defaults = {slot: registry.BY_NAME[slot].default for slot in missing}
    slots = {**cell.slots, **defaults}
    return replace(
        cell,
        slots=slots,
        refusal=cell.workload.conflict(slots, cell.model.family),
        fell_back=tuple(
            f"fell back from {slot}: {cell.slots[slot]} to {default}, because it {missing[slot]}"
            for slot, default in defaults.items()
        ),
    )


def _ordered(cells: Sequence[CellPlan]) -> list[Job]:
    """Point by point; within one, stacks forwards and backwards in turn, so that drift hits all. Cold jobs last."""
    work: list[tuple[CellPlan, str, int]] = []
    for _, group in groupby(cells, key=lambda cell: cell.point):
        stacks = list(group)
        work += [(reference(stacks[0]), REFERENCE, 0)] if QUALITY in stacks[0].measure.passes else []
        for process in range(max(cell.measure.processes for cell in stacks)):
            work += [(cell, TIMED, process) for cell in (stacks if process % 2 == 0 else reversed(stacks))]
        work += [(cell, COLD, start) for cell in stacks if COLD in cell.measure.passes for start in cold_starts(cell)]
    return [_job(cell, kind, process, order) for order, (cell, kind, process) in enumerate(work)]


def cold_starts(cell: CellPlan) -> range:
    """One, and for what is compiled a second that finds the compiler's cache."""
    return range(2 if compiles(cell.slots) else 1)


def reference(cell: CellPlan) -> CellPlan:
    """fp32 upstream at the same point; our own loop where upstream's cannot run."""
    loop = "lean" if cell.workload.conflict({}, cell.model.family) else ""
    s3gen = {} if cell.workload.forward else {"s3gen_dtype": "fp32"}
    slots = complete({"dtype": "fp32", **s3gen, **({"decode": loop} if loop else {})})
    return replace(cell, stack=REFERENCE, slots=slots, baseline=False, fell_back=())


def _job(cell: CellPlan, kind: str, process: int, order: int) -> Job:
    model, workload, measure = cell.model, cell.workload, cell.measure
    return Job(
        key=cell.key,
        kind=kind,
        stack=cell.stack,
        slots=dict(cell.slots),
        point=dict(cell.point),
        process=process,
        order=order,
        # The fork server imports torch, which the fake engine does without.
        start_method=runner.BARE if kind == COLD or cell.fake is not None else measure.start,
        device=cell.device,
        family=model.family,
        weights=model.weights,
        size=model.size,
        dtype=model.dtype,
        model_seed=model.seed,
        texts=workload.utterances(),
        fixed_tokens=workload.length.fixed,
        replay_tokens=workload.replay_tokens(),
        voice_wav=workload.voice.wav or "",
        voice_seconds=workload.voice.synthetic,
        language=workload.language,
        sampling=workload.sampling.set_values(),
        seed=workload.seed,
        warmup=measure.warmup,
        repeats=measure.repeats,
        # Quality has no noise of its own: one process is enough.
        passes=tuple(name for name in measure.passes if name != QUALITY or process == 0),
        timeout_seconds=measure.timeout_seconds,
        keep_audio=kind == TIMED and process == 0 and workload.forward is None and workload.load is None,
        reference=f"reference/{_digest(cell)}.safetensors" if QUALITY in measure.passes else "",
        limits=cell.limits,
        forward=None if workload.forward is None else ForwardJob(**workload.forward.model_dump()),
        load=None if workload.load is None else workload.load.to_job(),
        fell_back=cell.fell_back,
        streaming=None if workload.streaming is None else workload.streaming.chosen(),
        clip_voice=workload.clip_voice,
        fake=None if cell.fake is None else Fake(**cell.fake.model_dump()),
    )


def _digest(cell: CellPlan) -> str:
    """Names a point of the matrix."""
    return hashlib.sha256(repr(sorted(cell.point.items())).encode()).hexdigest()[:12]


def estimate(jobs: Sequence[Job]) -> float:
    """Seconds that the jobs will take, preparation included."""
    return preparation_seconds(jobs) + sum(job_seconds(job) for job in jobs)


def preparation_seconds(jobs: Sequence[Job]) -> float:
    """Before the first job: the fork server's imports, and the writing of checkpoints that are not in the cache."""
    forks = any(job.start_method == runner.FORKSERVER for job in jobs)
    models = {
        job.checkpoint for job in jobs if job.weights == SYNTHETIC and FAMILIES[job.family].speaks() and not job.fake
    }
    lacking = [size for _, family, size, dtype, seed in models if not checkpoint.is_cached(family, size, dtype, seed)]
    imports = max(FORK_SERVER_START_SECONDS * forks, BARE_START_SECONDS * bool(lacking))
    return imports + sum(CHECKPOINT_SECONDS[size] for size in lacking)


def job_seconds(job: Job) -> float:
    """One process, from start to record, as upstream's stack would take."""
    if job.fake is not None:
        return FAKE_SECONDS
    start, conditioning, per_audio_second, per_call = COSTS_SECONDS[job.size, job.device.partition(":")[0]]
    if job.forward is not None:
        return start + (job.warmup + job.repeats + 4) * forward_seconds(job, job.forward)
    seconds_of_one = [per_call + per_audio_second * audio_seconds(job, index) for index in range(len(job.texts))]
    a_round = sum(seconds_of_one)
    seconds = start + (conditioning if job.voice_wav or job.voice_seconds is not None else 0.0)
    seconds += BARE_START_SECONDS if job.start_method == runner.BARE else 0.0
    if job.kind == COLD:
        return seconds + COLD_CALLS * seconds_of_one[0]
    if job.kind == REFERENCE:
        return seconds + 3 * a_round
    if job.load is not None:
        return seconds + load_seconds(job.load, a_round / len(job.texts))
    rounds = job.repeats + ("memory" in job.passes) + 3 * (QUALITY in job.passes)
    energy = max(4.0, a_round) if "energy" in job.passes and job.device != "cpu" else 0.0
    return seconds + job.warmup * seconds_of_one[0] + rounds * a_round + energy


def load_seconds(load: LoadJob, of_one: float) -> float:
    """All levels, each answered one request after the other, or as long as requests keep coming."""
    levels, ramps = len(load.listeners) + len(load.rates), len(load.listeners) * load.ramp_seconds
    if load.duration_seconds is not None:
        return ramps + levels * (1 + load.warmup) * load.duration_seconds
    requests = (1 + load.warmup) * (load.requests or 0)
    waits = sum(max(0.0, requests / rate - requests * of_one) for rate in load.rates)
    return ramps + levels * requests * of_one + waits


def forward_seconds(job: Job, shape: ForwardJob) -> float:
    """One call, prompt included."""
    positions = shape.rows * (shape.positions + shape.steps)
    return positions * FORWARD_SECONDS[job.size, job.device.partition(":")[0]] + shape.steps * STEP_SECONDS


def audio_seconds(job: Job, text_index: int) -> float:
    """How long the utterance will be, as far as that is known beforehand."""
    if job.replay_tokens:
        return len(job.replay_tokens[text_index]) / TOKENS_PER_AUDIO_SECOND
    if job.fixed_tokens is not None:
        return job.fixed_tokens / TOKENS_PER_AUDIO_SECOND
    return len(job.texts[text_index]) / CHARACTERS_PER_AUDIO_SECOND
