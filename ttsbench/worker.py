"""One cell in one fresh process: load, apply the stack, warm up, attest, then one pass per thing measured.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import importlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttsbench import records
from ttsbench.errors import TtsbenchError
from ttsbench.instruments.compiler import compilations
from ttsbench.jobs import COLD, REFERENCE, Job
from ttsbench.optimizations import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ttsbench.forward import ForwardPipeline
    from ttsbench.pipeline import Pipeline, Spoken

# Each is watched for at least this long: NVML's counter moves every 20-100 ms.
IDLE_SECONDS = 1.0
ENERGY_SECONDS_MIN = 3.0
MORE_TOKENS_FOR_A_NEW_SHAPE = 7

Tell = Callable[[str], None]


def main(connection: Connection, job_json: str, folder: str, asked_at: float) -> None:
    """The process's entry: runs the job, sends what it found out and nothing else, and never raises."""
    job = records.from_json(Job, json.loads(job_json))
    isolate(Path(folder) / "logs" / f"{job.file_stem}.{job.kind}{job.process}.log")
    ladder = {"interpreter": time.time() - asked_at}
    if job.kind == COLD:
        give_compilers_a_cache(Path(folder) / "compiled" / job.file_stem)

    def tell(stage: str) -> None:
        connection.send(json.dumps({"stage": stage}))

    cell = run(job, Path(folder), tell, ladder)
    connection.send(json.dumps({"cell": json.loads(records.dump(records.to_json(cell)))}))
    connection.close()


def make_ready(connection: Connection, models: Sequence[tuple[str, str, str, str, int]], folder: str) -> None:
    """The entry of a process before any cell: makes or fetches each checkpoint. What it cannot, its cells tell."""
    isolate(Path(folder) / "logs" / "preparation.log")
    from ttsbench import checkpoint

    for model in models:
        connection.send(json.dumps({"stage": f"checkpoint {model[0]} {model[1]}"}))
        with suppress(TtsbenchError):
            checkpoint.locate(*model)


def give_compilers_a_cache(folder: Path) -> None:
    """Empty at a stack's first cold start and full at its second; set before anything that compiles is imported."""
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder / name)


def isolate(log: Path) -> None:
    """A process group of its own that dies with its parent, leaves Ctrl-C to it, and writes to a log."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if (parent := multiprocessing.parent_process()) is not None and not parent.is_alive():
            os._exit(1)  # it died before the line above
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError:  # a full disk: the cell can do without a log
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def run(job: Job, folder: Path, tell: Tell, ladder: dict[str, float]) -> records.Cell:
    """The cell's record, whatever happens: a failure is a row with its reason."""
    started_utc, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    try:
        found: dict[str, Any] = {"status": "ok", **measure(job, folder, tell, ladder)}
    except TtsbenchError as error:
        found = {"status": "failed", "reason": str(error)}
    except MemoryError:
        found = {"status": "oom", "reason": "the host has no memory left"}
    except Exception as error:  # noqa: BLE001  (whatever a model may raise must become a row)
        with suppress(OSError):  # a full disk takes no log either
            traceback.print_exc()
        found = failure(error)
    found["warnings"] = (*job.fell_back, *found.get("warnings", ()))
    return records.Cell(
        key=job.key,
        kind=job.kind,
        stack=job.stack,
        slots=job.slots,
        point=job.point,
        process=job.process,
        order=job.order,
        changes_output=registry.changes_output(job.slots),
        start_method=job.start_method,
        started_utc=started_utc,
        elapsed_seconds=time.perf_counter() - began,
        ladder=ladder,
        fell_back=job.fell_back,
        **found,
    )


def failure(error: Exception) -> dict[str, Any]:
    """How an exception is told in a row: its class, its first line and where it was raised."""
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return {"status": "oom", "reason": f"the GPU has no memory left: {first_line}"}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return {
        "status": "failed",
        "reason": f"{type(error).__name__}: {first_line} ({Path(frame.filename).name}:{frame.lineno})",
    }


@contextmanager
def step(ladder: dict[str, float], name: str) -> Iterator[None]:
    """One rung of the ladder."""
    began = time.perf_counter()
    yield
    ladder[name] = time.perf_counter() - began


def measure(job: Job, folder: Path, tell: Tell, ladder: dict[str, float]) -> dict[str, Any]:
    """The fields of the cell's record that only running can fill."""
    if job.forward is not None:
        from ttsbench import forward_cell

        return forward_cell.measure(job, folder, tell, ladder)
    pipeline = prepare(job, tell, ladder)
    if job.kind == COLD:
        climb(job, pipeline, tell, ladder)
        return {"evidence": attest(job, pipeline, tell), "model": describe(pipeline)}
    if job.kind == REFERENCE:
        keep_reference(job, pipeline, folder, tell)
        return {"model": describe(pipeline)}
    warmup_seconds = warm_up(job, pipeline, tell)
    ladder["first_call"] = warmup_seconds[0]
    found: dict[str, Any] = {"warmup_seconds": warmup_seconds, "model": describe(pipeline)}
    hooks_when_warm, compiled_when_warm, captured = count_hooks(pipeline), compilations(), count_captures(pipeline)
    waves: dict[int, Any] = {}
    found |= time_pass(job, pipeline, tell, waves)
    compiled_while_timing = compilations().since(compiled_when_warm)
    captured_while_timing = count_captures(pipeline) - captured
    if job.keep_audio:
        found |= keep_audio(job, waves, folder)
    if "memory" in job.passes:
        tell("memory")
        found["memory"] = memory_pass(job, pipeline)
    if "energy" in job.passes:
        tell("energy")
        found["energy"] = energy_pass(job, pipeline)
    if "quality" in job.passes:
        tell("quality")
        found |= quality_pass(job, pipeline, folder)
    found["evidence"] = attest(job, pipeline, tell) | {
        "hooks": {"warm": hooks_when_warm, "at_the_end": count_hooks(pipeline)},
        "compiler": {
            "graphs": compiled_when_warm.graphs,
            "graph_breaks": compiled_when_warm.graph_breaks,
            "recompilations_while_timing": compiled_while_timing.graphs,
            "captures_while_timing": captured_while_timing,
        },
    }
    found["faults"] = (*found.get("faults", ()), *no_sound(found.get("audio", ())))
    return found | {"warnings": (*found.get("warnings", ()), *remarks(found))}


def prepare(job: Job, tell: Tell, ladder: dict[str, float]) -> Pipeline:
    """The model as the cell asks for it, with the stack applied; each step is timed."""
    tell("importing")
    with step(ladder, "import"):
        from ttsbench import checkpoint, preload, voice
        from ttsbench.pipeline import Length, Pipeline

        preload.quiet()
        use_device(job.device)
    tell("loading")
    with step(ladder, "load"):
        weights = checkpoint.locate(*job.checkpoint)
        # The cold ladder loads as a user would; elsewhere weights that are about to be overwritten are not drawn first.
        tts = checkpoint.load(weights, job.family, job.device, draw_first=job.kind == COLD)
    with step(ladder, "voice"):
        slot_module("resample").install(tts, registry.complete(job.slots)["resample"])
        voice.prepare(tts, wav=job.voice_wav, synthetic_seconds=job.voice_seconds)
    with step(ladder, "apply"):
        pipeline = Pipeline(
            tts,
            texts=job.texts,
            length=Length(job.fixed_tokens, job.replay_tokens),
            sampling=job.sampling,
            language=job.language,
            slots=job.slots,
        )
        for slot, option in pipeline.slots.items():
            slot_module(slot).apply(pipeline, option)
        pipeline.control_length()
    return pipeline


def use_device(device: str) -> None:
    """Makes it the current one: events, waits and graphs that name no device would go to the first GPU otherwise."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.set_device(device)


def slot_module(slot: str) -> Any:
    """The file of a slot."""
    return importlib.import_module(f"ttsbench.optimizations.{slot}")


def attest(job: Job, pipeline: Pipeline, tell: Tell) -> dict[str, Any]:
    """What each slot can show for having taken effect, watched on a warm call; raises where it did not."""
    from ttsbench.attest import watch

    tell("attesting")
    pipeline.seen = watch(pipeline, 0, utterance_seed(job, 0, 0))
    evidence = {slot: slot_module(slot).attest(pipeline, option) for slot, option in pipeline.slots.items()}
    return evidence | {"activity": pipeline.seen.evidence()}


def count_hooks(pipeline: Pipeline | ForwardPipeline) -> int:
    """Forward hooks on the two models; a number that grows from call to call is a leak."""
    modules = (m for model in (pipeline.tts.t3, pipeline.tts.s3gen) for m in model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def count_captures(pipeline: Pipeline) -> int:
    """CUDA graphs captured so far, of T3's steps and of S3Gen's parts."""
    from ttsbench.optimizations.s3gen import installed

    put = (part for held in installed(pipeline).values() for part in (held if isinstance(held, tuple) else (held,)))
    captures: int = sum(part.graphs.captures for part in put if hasattr(part, "graphs"))
    return captures + getattr(pipeline.loop, "captures", 0)


def describe(pipeline: Pipeline) -> dict[str, Any]:
    """Which model this was, as loaded."""
    t3, s3gen = pipeline.tts.t3, pipeline.tts.s3gen
    return {
        "class": type(pipeline.tts).__name__,
        "device": str(pipeline.device),
        "t3_parameters": sum(p.numel() for p in t3.parameters()),
        "t3_backbone_parameters": sum(p.numel() for p in t3.tfmr.parameters()),
        "t3_dtype": str(t3.speech_head.weight.dtype).removeprefix("torch."),
        "s3gen_parameters": sum(p.numel() for p in s3gen.parameters()),
        "estimator_dtype": str(s3gen.flow.decoder.estimator.dtype).removeprefix("torch."),
    }


def speak_all(job: Job, pipeline: Pipeline, repeat: int) -> list[tuple[int, int, Spoken]]:
    """Every text once; the seed depends on text and repeat only, so that all stacks hear the same random stream."""
    seeds = [utterance_seed(job, index, repeat) for index in range(len(job.texts))]
    return [(index, seed, pipeline.speak(index, seed)) for index, seed in enumerate(seeds)]


def utterance_seed(job: Job, text_index: int, repeat: int) -> int:
    """The same for every stack and process; hashed, so that no two utterances of neighbouring seeds share one."""
    digest = hashlib.sha256(f"{job.seed}/{text_index}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def settle(pipeline: Pipeline | ForwardPipeline) -> None:
    """Nothing left over from before: no garbage due, no kernel running."""
    import torch

    gc.collect()
    if pipeline.device.type == "cuda":
        torch.cuda.synchronize()


def warm_up(job: Job, pipeline: Pipeline, tell: Tell) -> tuple[float, ...]:
    """Seconds of each warm-up utterance; the first is the first call."""
    seconds = []
    for number in range(job.warmup):
        tell(f"warming up {number + 1}/{job.warmup}")
        settle(pipeline)
        began = time.perf_counter()
        pipeline.speak(number % len(job.texts), utterance_seed(job, number % len(job.texts), -1 - number))
        seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def time_pass(job: Job, pipeline: Pipeline, tell: Tell, waves: dict[int, Any]) -> dict[str, Any]:
    """Utterances on the clock, nothing in between but a look at the guard; hands out the first round's waves."""
    from ttsbench.instruments.clock import Timeline
    from ttsbench.instruments.guard import GuardSampler

    timeline, guard = Timeline(pipeline.device), GuardSampler(pipeline.device)
    utterances = []
    for repeat in range(job.repeats):
        tell(f"timing {repeat + 1}/{job.repeats}")
        for index in range(len(job.texts)):
            settle(pipeline)
            seed = utterance_seed(job, index, repeat)
            spoken, wall_seconds = pipeline.speak_timed(index, seed, timeline)
            sm_clock_mhz = guard.read()
            waves.setdefault(index, spoken.wave)
            pipeline.note_cache(timeline.prompt_rows, timeline.prompt_length + spoken.tokens.numel())
            first_sample, first_playable, first_audible = pipeline.first_audio(spoken, wall_seconds)
            utterances.append(
                records.Utterance(
                    text_index=index,
                    repeat=repeat,
                    seed=seed,
                    wall_seconds=wall_seconds,
                    audio_seconds=spoken.audio_seconds,
                    tokens=spoken.tokens.numel(),
                    tokens_sha256=spoken.tokens_sha256(),
                    first_sample_seconds=first_sample,
                    first_playable_seconds=first_playable,
                    first_audible_seconds=first_audible,
                    stages=timeline.stages(),
                    sm_clock_mhz=sm_clock_mhz,
                )
            )
    return {"utterances": tuple(utterances), "guard": guard.result()}


def memory_pass(job: Job, pipeline: Pipeline) -> records.Memory:
    """Peaks over every text once."""
    from ttsbench.instruments import memory

    settle(pipeline)
    with memory.measure(pipeline.device) as peaks:
        speak_all(job, pipeline, 0)
    return peaks.result(weights_bytes=pipeline.weights_bytes(), kv_cache_bytes=pipeline.kv_cache_bytes())


def energy_pass(job: Job, pipeline: Pipeline) -> records.Energy | None:
    """Joules over as many rounds as the counter needs to be trusted; None where there is no counter."""
    from ttsbench.instruments import energy

    settle(pipeline)
    idle_watts = energy.idle_watts(pipeline.device, IDLE_SECONDS)
    if idle_watts is None:
        return None
    audio_seconds, repeat, began = 0.0, 0, time.perf_counter()
    with energy.measure(pipeline.device) as counter:
        while time.perf_counter() - began < ENERGY_SECONDS_MIN:
            audio_seconds += sum(s.audio_seconds for _, _, s in speak_all(job, pipeline, repeat))
            repeat += 1
    return counter.result(idle_watts=idle_watts, audio_seconds=audio_seconds)


def keep_reference(job: Job, pipeline: Pipeline, folder: Path, tell: Tell) -> None:
    """What every other stack at this point is compared with."""
    from ttsbench import quality

    tell("reference")
    pipeline.speak(0, utterance_seed(job, 0, -1))
    quality.keep_reference(pipeline, quality_seeds(job), folder / job.reference)


def quality_seeds(job: Job) -> list[int]:
    """The first timed utterance of each text."""
    return [utterance_seed(job, index, 0) for index in range(len(job.texts))]


def quality_pass(job: Job, pipeline: Pipeline, folder: Path) -> dict[str, Any]:
    """Each text against the reference, and what of it is beyond the limits."""
    from ttsbench import quality

    file = folder / job.reference
    if not file.exists():
        return {"faults": ("there is no reference to compare with; see why its row failed",)}
    judged = quality.compare(pipeline, quality_seeds(job), file)
    return {"quality": judged, "faults": quality.faults(judged, job.limits)}


def climb(job: Job, pipeline: Pipeline, tell: Tell, ladder: dict[str, float]) -> None:
    """The cold ladder after loading: first call, a call of a new shape, and the steady state."""
    tell("first call")
    with step(ladder, "first_call"):
        pipeline.speak(0, utterance_seed(job, 0, 0))
    tell("second call")
    with step(ladder, "second_call"):
        pipeline.speak(0, utterance_seed(job, 0, 1))
    tell("new shape")
    with step(ladder, "first_new_shape"):
        pipeline.speak(0, utterance_seed(job, 0, 2), more_tokens=MORE_TOKENS_FOR_A_NEW_SHAPE)
    steady = []
    for repeat in range(3, 6):
        tell("steady")
        began = time.perf_counter()
        pipeline.speak(0, utterance_seed(job, 0, repeat))
        steady.append(time.perf_counter() - began)
    ladder["steady"] = statistics.median(steady)


def keep_audio(job: Job, waves: dict[int, Any], folder: Path) -> dict[str, Any]:
    """Writes each text's first timed wave, and says what can be said of it; a full disk costs the audio, no figure."""
    import soundfile

    from ttsbench import audio

    try:
        (folder / "audio").mkdir(exist_ok=True)
        kept = [audio.keep(wave, index, folder, f"audio/{job.file_stem}.{index}.wav") for index, wave in waves.items()]
    except (OSError, soundfile.SoundFileError) as error:
        return {"warnings": (f"the audio was not kept: {error}",)}
    return {"audio": tuple(kept)}


def no_sound(kept: Sequence[records.Audio]) -> tuple[str, ...]:
    """Of what was delivered, watermark and all: values that are no numbers, or nothing to hear."""
    broken = [f"text {a.text_index}: the audio holds values that are no numbers" for a in kept if not a.finite]
    return (*broken, *(f"text {a.text_index}: the audio is silent" for a in kept if a.finite and a.silent_share == 1.0))


def remarks(found: dict[str, Any]) -> tuple[str, ...]:
    """What a reader of this row should know."""
    hooks_seen = found["evidence"]["hooks"]
    notes = []
    if hooks_seen["at_the_end"] > hooks_seen["warm"]:
        notes.append(f"forward hooks grew from {hooks_seen['warm']} to {hooks_seen['at_the_end']} over the warm calls")
    if recompiled := found["evidence"]["compiler"]["recompilations_while_timing"]:
        notes.append(f"the compiler worked {recompiled} times while the clock ran")
    guard = found["guard"]
    if captures := found["evidence"]["compiler"].get("captures_while_timing"):
        notes.append(f"{captures} CUDA graphs were captured while the clock ran")
    notes += [f"the GPU was throttled: {reason}" for reason in guard.throttle_reasons]
    notes += [f"another process was on the GPU: {name}" for name in guard.foreign_processes]
    if guard.load_average is not None and guard.load_average > (cores := os.cpu_count() or 1):
        notes.append(f"the host was busy: load average {guard.load_average:.1f} on {cores} cores")
    return tuple(notes)
