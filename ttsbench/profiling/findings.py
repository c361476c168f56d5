"""What to change first, in words: each finding is one pure question to a profile, answered with its evidence.

A question that cannot be asked here (what the device waited for, of a CPU) is not among those that were looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ttsbench.records.profile_rows import KernelRow, Op
from ttsbench.records.profiles import Finding, Profile

STEPS_LAUNCHES_MIN = 100
BUSY_SHARE_MAX = 0.5
PER_STEP_MIN = 0.5
MASK_SYNCS_MIN = 10
PROMPT_SHARE_MIN = 0.3
WATERMARK_SHARE_MIN = 0.002  # on an H200 it takes 0.5 % of upstream's time
SORTS = ("aten::sort", "aten::argsort", "aten::msort")
READS_BACK = "aten::_local_scalar_dense"
WEIGHT_NORMS = ("aten::_weight_norm", "aten::_weight_norm_interface", "aten::norm_except_dim")
ATTENTION = "aten::scaled_dot_product_attention"


@dataclass(frozen=True)
class Question:
    """What is looked for, where it can be asked, and the answer."""

    id: str
    ask: Callable[[Profile], Finding | None]
    needs_gpu: bool = False
    # Rests on the walls without the profiler.
    needs_walls: bool = False


def find(profile: Profile) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """What was found, what concerns most of the time first, and everything that was looked for."""
    header = profile.header
    questions = [
        question
        for question in QUESTIONS
        if (header.on_gpu or not question.needs_gpu) and not (header.shares_void and question.needs_walls)
    ]
    findings = [finding for question in questions if (finding := question.ask(profile)) is not None]
    dearest_first = sorted(findings, key=lambda finding: -(finding.share or 0.0))
    return tuple(dearest_first), tuple(question.id for question in questions)


def launch_bound_decode(profile: Profile) -> Finding | None:
    """The device idles because the host cannot launch fast enough: judged without the profiler's own cost."""
    decode = profile.decode
    if decode is None or not decode.unprofiled_wall_seconds:
        return None
    busy_share = decode.busy_seconds / decode.unprofiled_wall_seconds
    if decode.launches < STEPS_LAUNCHES_MIN or busy_share > BUSY_SHARE_MAX:
        return None
    return Finding(
        "launch_bound_decode",
        f"Decoding is bound by launches: the GPU works {busy_share:.0%} of a step",
        {
            "launches_per_step": round(decode.launches, 1),
            "operators_per_step": round(decode.operators, 1),
            "step_ms": round(decode.unprofiled_wall_seconds * 1e3, 3),
            "device_busy_ms_per_step": round(decode.busy_seconds * 1e3, 3),
            "host_bound_share_profiled": round(decode.host_bound_share, 3),
        },
        "Replay each step as a CUDA graph: decode: cuda_graph with cache: static and sampler: lean.",
        "decode",
        _share(profile, "decode"),
    )


def sync_per_step(profile: Profile) -> Finding | None:
    """The host waits for the device in every step, and cannot run ahead of it."""
    decode = profile.decode
    if decode is None or decode.syncs < PER_STEP_MIN:
        return None
    return Finding(
        "sync_per_step",
        f"The host waits for the device {decode.syncs:.1f} times in every decode step",
        {"syncs_per_step": round(decode.syncs, 2), "reads_back": _calls(profile, (READS_BACK,), "decode")},
        "decode: cuda_graph looks for the stop token a few steps behind the device.",
        "decode",
        _share(profile, "decode"),
    )


def full_sort(profile: Profile) -> Finding | None:
    """The sampler sorts all logits for a top-p that may not even be asked for."""
    sorts, steps = _calls(profile, SORTS, "decode"), profile.header.window.decode_steps
    in_decode = [row for row in profile.kernels if row.stage == "decode"]
    kernels = [row for row in in_decode if row.op in SORTS or "sort" in row.name.lower()]
    # A replayed graph sorts without an op on the host.
    seen = max(sorts, *(row.calls for row in kernels), 0)
    if not steps or seen / steps < PER_STEP_MIN:
        return None
    return Finding(
        "full_sort",
        "The sampler sorts all logits in every step",
        {
            "sorts_per_step": round((sorts or seen) / steps, 2),
            "shapes": next((cost.shapes for op in _named(profile, SORTS) for cost in op.shapes), ""),
            **(_of_kernels(kernels, steps) if kernels else {}),
        },
        "sampler: lean sorts only where top-p asks for it; sampler: triton never sorts.",
        "decode",
    )


def _of_kernels(kernels: Sequence[KernelRow], steps: int) -> dict[str, float]:
    return {
        "device_us_per_step": round(sum(row.seconds for row in kernels) / steps * 1e6, 1),
        "launches_per_step": round(sum(row.calls for row in kernels) / steps, 1),
    }


def mask_syncs(profile: Profile) -> Finding | None:
    """Each block of the estimator asks the host whether its mask holds anything."""
    reads = _calls(profile, (READS_BACK,), "cfm")
    if reads < MASK_SYNCS_MIN:
        return None
    stage = profile.stage("cfm")
    return Finding(
        "mask_syncs",
        f"S3Gen's masks are read back to the host {reads} times in one call",
        {"reads_back": reads, "syncs": stage.syncs if stage else 0, "s3gen_calls": profile.header.window.s3gen_calls},
        "s3gen_attention: sdpa builds no mask, and lets s3gen_graph capture the solve.",
        "cfm",
        _share(profile, "cfm"),
    )


def dense_mask(profile: Profile) -> Finding | None:
    """A bias for every key, where none is masked: flash kernels take no such thing."""
    masked = [
        (cost.calls, cost.shapes)
        for op in _named(profile, (ATTENTION,))
        for cost in op.shapes
        if cost.stage == "cfm" and _has_dense_mask(cost.shapes)
    ]
    if not masked:
        return None
    kernels = sorted({row.readable for row in profile.kernels if row.stage == "cfm" and row.family == "attention"})
    return Finding(
        "dense_mask",
        "S3Gen's attention is given a dense mask, which forbids flash kernels",
        {"calls": sum(calls for calls, _ in masked), "shapes": masked[0][1], "kernels": kernels},
        "s3gen_attention: sdpa, flash_attention_2 or triton; for one utterance the mask is all zeros.",
        "cfm",
        _share(profile, "cfm"),
    )


def _has_dense_mask(shapes: str) -> bool:
    """`[q] [k] [v] [mask]`, where the mask has a value for every key."""
    parts = [[int(n) for n in part.split(",") if n.strip()] for part in shapes.replace("[", "").split("]")]
    _, key, _, mask = (*parts[:4], [], [], [], [])[:4]
    return len(mask) >= 2 and len(key) >= 2 and mask[-1] == key[-2]


def weight_norm(profile: Profile) -> Finding | None:
    """The vocoder computes the norms of weights that never change."""
    calls = max((_calls(profile, (name,), "vocoder") for name in WEIGHT_NORMS), default=0)
    if not calls:
        return None
    seconds = sum(row.self_host_seconds for row in _named(profile, WEIGHT_NORMS))
    return Finding(
        "weight_norm_recomputed",
        f"The vocoder computes {calls} weight norms again in every call",
        {"calls": calls, "host_ms": round(seconds * 1e3, 3)},
        "vocoder: folded computes each of them once.",
        "vocoder",
        _share(profile, "vocoder"),
    )


def prompt_tax(profile: Profile) -> Finding | None:
    """Every step of the CFM carries the reference's frames along, which nobody hears."""
    window = profile.header.window
    frames = window.prompt_frames + window.speech_frames
    stage = profile.stage("cfm")
    if stage is None or not frames or window.prompt_frames / frames < PROMPT_SHARE_MIN:
        return None
    share, share_of_wall = window.prompt_frames / frames, _share(profile, "cfm")
    return Finding(
        "prompt_tax",
        f"{share:.0%} of the CFM's frames are the reference, not speech",
        {
            "prompt_frames": window.prompt_frames,
            "speech_frames": window.speech_frames,
            "cfm_ms": round(stage.seconds * 1e3, 3),
        },
        "A shorter reference costs less in every step, and longer utterances share it among more speech.",
        "cfm",
        None if share_of_wall is None else share_of_wall * share,
    )


def watermark_on_host(profile: Profile) -> Finding | None:
    """The GPU does nothing while the CPU resamples and marks the wave."""
    stage = profile.stage("watermark")
    if stage is None or stage.kernels or stage.share < WATERMARK_SHARE_MIN:
        return None
    return Finding(
        "watermark_on_host",
        f"The watermark is made on the host and takes {stage.seconds * 1e3:.0f} ms",
        {"ms": round(stage.seconds * 1e3, 3), "kernels": stage.kernels, "share": round(stage.share, 4)},
        "watermark: gpu runs the same network on the device.",
        "watermark",
        stage.share,
    )


def hooks_growing(profile: Profile) -> Finding | None:
    """Every call leaves hooks behind, which the next one runs as well."""
    window = profile.header.window
    if window.hooks_after <= window.hooks_before or not window.calls_between:
        return None
    grown = (window.hooks_after - window.hooks_before) / window.calls_between
    return Finding(
        "hooks_growing",
        f"Every call leaves {grown:.0f} forward hooks behind, and the model slows down with use",
        {"before": window.hooks_before, "after": window.hooks_after, "calls": window.calls_between},
        "decode: lean takes the analyzer's hooks off again after each call.",
    )


def _named(profile: Profile, names: Sequence[str]) -> Iterator[Op]:
    return (op for op in profile.ops if op.name in names)


def _calls(profile: Profile, names: Sequence[str], stage: str) -> int:
    """Of one op and what it calls itself, the innermost counts once: the most of any name."""
    return max((op.stages.get(stage, 0) for op in _named(profile, names)), default=0)


def _share(profile: Profile, name: str) -> float | None:
    """Of the wall; None where no such share means anything."""
    if profile.header.shares_void:
        return None
    stage = profile.stage(name)
    return stage.share if stage else 0.0


QUESTIONS = (
    Question("launch_bound_decode", launch_bound_decode, needs_gpu=True, needs_walls=True),
    Question("sync_per_step", sync_per_step, needs_gpu=True),
    Question("full_sort", full_sort),
    Question("mask_syncs", mask_syncs),
    Question("dense_mask", dense_mask),
    Question("weight_norm_recomputed", weight_norm),
    Question("prompt_tax", prompt_tax),
    Question("watermark_on_host", watermark_on_host, needs_gpu=True, needs_walls=True),
    Question("hooks_growing", hooks_growing),
)
