"""One cell of whole utterances: load, apply the stack, warm up, then one pass per thing measured, and attest.

Torch is imported inside functions only: a bare interpreter that starts here measures its own imports.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttsbench.errors import UsageError
from ttsbench.records import measurements
from ttsbench.records.jobs import COLD, REFERENCE, Job
from ttsbench.running.cells import common
from ttsbench.running.cells.common import CellFields, settle, step, utterance_seed
from ttsbench.running.progress import ProgressCallback

if TYPE_CHECKING:
    from ttsbench.model.pipeline import Pipeline
    from ttsbench.model.speech import Speech

# Each is watched for at least this long: NVML's counter moves every 20-100 ms.
IDLE_SECONDS = 1.0
ENERGY_SECONDS_MIN = 3.0
MORE_TOKENS_FOR_A_NEW_SHAPE = 7


def measure(job: Job, folder: Path, report_progress: ProgressCallback, ladder: dict[str, float]) -> CellFields:
    pipeline = prepare(job, report_progress, ladder)
    if job.kind == COLD:
        climb(job, pipeline, report_progress, ladder)
        return {"evidence": attest(job, pipeline, report_progress), "model": describe(pipeline)}
    if job.kind == REFERENCE:
        keep_reference(job, pipeline, folder, report_progress)
        return {"model": describe(pipeline)}
    warmup_seconds = warm_up(job, pipeline, report_progress)
    ladder["first_call"] = warmup_seconds[0]

    def timing() -> CellFields:
        waves: dict[int, Any] = {}
        fields = time_pass(job, pipeline, report_progress, waves)
        if job.streaming is not None and pipeline.reference is not None:
            fields["voice"] = pipeline.reference.describe()
        return common.merge_fields(fields, keep_audio(job, waves, folder)) if job.keep_audio else fields

    def compare() -> CellFields:
        return common.merge_fields(quality_pass(job, pipeline, folder), seams_pass(job, pipeline))

    return common.measure_warm(
        job,
        pipeline,
        report_progress,
        timing=timing,
        passes={
            "memory": lambda: {"memory": memory_pass(job, pipeline)},
            "energy": lambda: {"energy": energy_pass(job, pipeline)},
            "quality": compare,
        },
        attest=lambda: attest(job, pipeline, report_progress),
    ) | {"warmup_seconds": warmup_seconds, "model": describe(pipeline)}


def warm_up(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> tuple[float, ...]:
    """Text by text, with seeds that no timed utterance has."""

    def call(number: int) -> None:
        text = number % len(job.texts)
        pipeline.speak(text, utterance_seed(job, text, -1 - number))

    return common.warm_up(job, pipeline, report_progress, call)


def prepare(job: Job, report_progress: ProgressCallback, ladder: dict[str, float]) -> Pipeline:
    """The model as the cell asks for it, with the stack applied; each step is timed."""
    report_progress("importing")
    with step(ladder, "import"):
        from ttsbench.model import checkpoint, text_length, voice
        from ttsbench.model.length_control import Length
        from ttsbench.model.pipeline import Pipeline
        from ttsbench.running import preload

        preload.quiet()
        common.use_device(job.device)
    report_progress("loading")
    with step(ladder, "load"):
        weights = checkpoint.locate(*job.checkpoint)
        # The cold ladder loads as a user would; elsewhere weights that are about to be overwritten are not drawn first.
        tts = checkpoint.load(weights, job.family, job.device, draw_first=job.kind == COLD)
    text_length.refuse_long_texts(tts, job.texts, job.language)
    with step(ladder, "apply"):
        pipeline = Pipeline(
            tts,
            texts=job.texts,
            length=Length(job.fixed_tokens, job.replay_tokens),
            sampling=job.sampling,
            language=job.language,
            slots=job.slots,
            streaming=job.streaming,
        )
        common.apply(pipeline, pipeline.slots)
        pipeline.control_length()
    with step(ladder, "voice"):  # which a slot may prepare in another way
        pipeline.reference = voice.prepare(
            tts, wav=job.voice_wav, synthetic_seconds=job.voice_seconds, clip=job.clip_voice
        )
        pipeline.fit_voice()
    return pipeline


def attest(job: Job, pipeline: Pipeline, report_progress: ProgressCallback) -> CellFields:
    """What each slot can show for having taken effect, watched on a warm call; raises where it did not."""
    from ttsbench.instruments.attest import record_warm_call

    report_progress("attesting")
    pipeline.warm_call = record_warm_call(pipeline, 0, utterance_seed(job, 0, 0))
    return common.attest(pipeline, pipeline.slots) | {"activity": pipeline.warm_call.evidence()}


def describe(pipeline: Pipeline) -> CellFields:
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


def speak_all(job: Job, pipeline: Pipeline, repeat: int) -> list[tuple[int, int, Speech]]:
    """Every text once; the seed depends on text and repeat only, so that all stacks hear the same random stream."""
    seeds = [utterance_seed(job, index, repeat) for index in range(len(job.texts))]
    return [(index, seed, pipeline.speak(index, seed)) for index, seed in enumerate(seeds)]


def time_pass(job: Job, pipeline: Pipeline, report_progress: ProgressCallback, waves: dict[int, Any]) -> CellFields:
    """Utterances on the clock, nothing in between but a look at the device; hands out the first round's waves."""
    from ttsbench.instruments.clock import Timeline
    from ttsbench.instruments.guard import GuardSampler
    from ttsbench.instruments.pace import Pace

    timeline, guard, pace = Timeline(pipeline.device), GuardSampler(pipeline.device), Pace(pipeline.device)
    utterances = []
    before = pace.read()
    for repeat in range(job.repeats):
        report_progress(f"timing {repeat + 1}/{job.repeats}")
        for index in range(len(job.texts)):
            settle(pipeline)
            seed = utterance_seed(job, index, repeat)
            spoken, wall_seconds = pipeline.speak_timed(index, seed, timeline)
            sm_clock_mhz, stages = guard.read(), timeline.stages()
            waves.setdefault(index, spoken.wave)
            pipeline.note_cache(timeline.prompt_rows, timeline.prompt_length + spoken.tokens.numel())
            first_sample, first_playable, first_audible = pipeline.first_audio(spoken, wall_seconds)
            after = pace.read()
            utterances.append(
                measurements.Utterance(
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
                    stages=stages,
                    sm_clock_mhz=sm_clock_mhz,
                    pace_before_ns=before,
                    pace_ns=after,
                    stream=stream_of(job, pipeline, spoken, wall_seconds, stages),
                )
            )
            before = after
    return {"utterances": tuple(utterances), "streams": pipeline.generator is not None, "guard": guard.result()}


def stream_of(
    job: Job, pipeline: Pipeline, spoken: Speech, wall_seconds: float, stages: dict[str, measurements.StageTime]
) -> measurements.Streamed | None:
    """How it reached its listener; where streams are asked for, a stack without one is told as one chunk at the end."""
    if spoken.streamed is not None or job.streaming is None:
        return spoken.streamed
    from ttsbench.streaming import oneshot

    return oneshot.as_stream(pipeline, spoken, wall_seconds, stages)


def memory_pass(job: Job, pipeline: Pipeline) -> measurements.Memory:
    from ttsbench.instruments import memory

    settle(pipeline)
    with memory.measure(pipeline.device) as peaks:
        speak_all(job, pipeline, 0)
    return peaks.result(weights_bytes=pipeline.weights_bytes(), kv_cache_bytes=pipeline.kv_cache_bytes())


def energy_pass(job: Job, pipeline: Pipeline) -> measurements.Energy | None:
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


def keep_reference(job: Job, pipeline: Pipeline, folder: Path, report_progress: ProgressCallback) -> None:
    """What every other stack at this point is compared with."""
    from ttsbench.model import quality

    report_progress("reference")
    pipeline.speak(0, utterance_seed(job, 0, -1))
    quality.keep_reference(pipeline, quality_seeds(job), folder, job.reference)


def quality_seeds(job: Job) -> list[int]:
    """The first timed utterance of each text."""
    return [utterance_seed(job, index, 0) for index in range(len(job.texts))]


def quality_pass(job: Job, pipeline: Pipeline, folder: Path) -> CellFields:
    """Each text against the reference, and what of it is beyond the limits."""
    from ttsbench.model import quality

    def compare(file: Path) -> CellFields:
        judged = quality.compare(pipeline, quality_seeds(job), file)
        return {"quality": judged, "faults": quality.faults(judged, job.limits)}

    return common.compare_with_reference(job, folder, compare)


def seams_pass(job: Job, pipeline: Pipeline) -> CellFields:
    """Of a stack that streams, each text beside the same tokens and noise at once."""
    if pipeline.generator is None:
        return {}
    from ttsbench.streaming import seams

    judged = seams.judge(pipeline, quality_seeds(job))
    return {"seams": judged, "faults": seams.faults(judged, job.limits)}


def climb(job: Job, pipeline: Pipeline, report_progress: ProgressCallback, ladder: dict[str, float]) -> None:
    """The cold ladder after loading: first call, a call of a new shape, and the steady state."""
    report_progress("first call")
    with step(ladder, "first_call"):
        pipeline.speak(0, utterance_seed(job, 0, 0))
    report_progress("second call")
    with step(ladder, "second_call"):
        pipeline.speak(0, utterance_seed(job, 0, 1))
    report_progress("new shape")
    with step(ladder, "first_new_shape"):
        pipeline.speak(0, utterance_seed(job, 0, 2), more_tokens=MORE_TOKENS_FOR_A_NEW_SHAPE)
    steady = []
    for repeat in range(3, 6):
        report_progress("steady")
        began = time.perf_counter()
        pipeline.speak(0, utterance_seed(job, 0, repeat))
        steady.append(time.perf_counter() - began)
    ladder["steady"] = statistics.median(steady)


def keep_audio(job: Job, waves: dict[int, Any], folder: Path) -> CellFields:
    """Writes each text's first timed wave, and says what can be said of it; a full disk costs the audio, no figure."""
    from ttsbench.model import audio

    try:
        kept = [audio.keep(wave, index, folder, f"audio/{job.file_stem}.{index}.wav") for index, wave in waves.items()]
    except (OSError, UsageError) as error:
        return {"warnings": (f"the audio was not kept: {error}",)}
    return {"audio": tuple(kept), "faults": no_sound(kept)}


def no_sound(kept: Sequence[measurements.Audio]) -> tuple[str, ...]:
    """Of what was delivered, watermark and all: values that are no numbers, or nothing to hear."""
    broken = [f"text {a.text_index}: the audio holds values that are no numbers" for a in kept if not a.finite]
    return (*broken, *(f"text {a.text_index}: the audio is silent" for a in kept if a.finite and a.silent_share == 1.0))
