"""Forwards of the backbone alone: each slot takes effect and can show it, and the record holds what a report needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ttsbench.errors import CellError
from ttsbench.instruments import attest
from ttsbench.optimizations import registry, rules
from ttsbench.optimizations.parts.backbones import StaticBackbone
from ttsbench.records import runs
from ttsbench.records.jobs import REFERENCE, ForwardJob, Job
from ttsbench.running.cells import backbone, common, forward

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda:0" if ON_GPU else "cpu"
ONE, STEP, STEPS = ForwardJob(2, 7, 0), ForwardJob(2, 7, 1), ForwardJob(2, 7, 3)
LIMITS = {"hidden_relative_error_max": 1e-3}

MakeJob = Callable[..., Job]
Make = Callable[..., Job]
RunCell = Callable[[Job], runs.Cell]


@pytest.fixture
def make(make_job: MakeJob) -> Make:
    def build(shape: ForwardJob = ONE, **changes: Any) -> Job:
        value: dict[str, Any] = {
            "slots": {}, "texts": (), "forward": shape, "device": DEVICE, "passes": ("time", "memory", "quality"),
            "fixed_tokens": None, "keep_audio": False, "reference": "reference/x.safetensors", "limits": LIMITS,
        }  # fmt: skip
        return make_job(**{**value, **changes})

    return build


def prepared(job: Job) -> backbone.ForwardPipeline:
    return forward.prepare(job, lambda stage: None, {})


def attested(pipeline: backbone.ForwardPipeline) -> dict[str, Any]:
    pipeline.begin()
    pipeline.work()
    return forward.attest(pipeline, lambda stage: None)


@pytest.mark.parametrize("family", ["chatterbox", "turbo", "spark-tts"])
@pytest.mark.parametrize("shape", [ONE, STEPS])
def test_a_cell_holds_everything_a_report_needs(make: Make, run_cell: RunCell, family: str, shape: ForwardJob) -> None:
    assert run_cell(make(shape, family=family, kind=REFERENCE)).ok
    cell = run_cell(make(shape, family=family, repeats=3, fell_back=("fell back from x",)))
    assert (cell.status, cell.reason, cell.faults) == ("ok", "", ())
    assert [(f.rows, f.positions, f.steps, f.repeat) for f in cell.forwards] == [
        (shape.rows, shape.positions, shape.steps, repeat) for repeat in range(3)
    ]
    assert all(0 < f.host_seconds <= f.wall_seconds for f in cell.forwards)
    assert all((f.device_seconds is not None) == ON_GPU for f in cell.forwards)
    assert all((f.peak_allocated_bytes is not None) == ON_GPU for f in cell.forwards)
    assert cell.memory is not None
    assert cell.forward_quality is not None
    assert cell.forward_quality.hidden_relative_error < 1e-6
    assert cell.evidence["activity"]["per_call"]["operators"] > 0
    assert set(cell.evidence) >= {slot.name for slot in registry.SLOTS if slot.is_in_forward(shape.steps)}
    assert cell.fell_back == ("fell back from x",)
    assert "fell back from x" in cell.warnings
    assert runs.from_json(runs.Cell, runs.to_json(cell)) == cell


@pytest.mark.parametrize("shape", [ForwardJob(1, 1, 0), ForwardJob(1, 1, 2)])
def test_one_position_is_enough(make: Make, run_cell: RunCell, shape: ForwardJob) -> None:
    for slots in ({}, {"decode": "lean", "cache": "static"} if shape.steps else {"attention": "eager"}):
        assert run_cell(make(shape, slots=slots, passes=("time",))).ok


def test_without_a_reference_the_row_says_so(make: Make, run_cell: RunCell) -> None:
    output = "not compared with the reference, which is not there; its own row says why"
    assert output in run_cell(make()).warnings


def test_what_is_too_far_from_the_reference_is_a_fault(make: Make, run_cell: RunCell) -> None:
    assert run_cell(make(kind=REFERENCE)).ok
    cell = run_cell(make(slots={"dtype": "bf16"}))
    assert cell.ok
    assert cell.forward_quality is not None
    assert 1e-3 < cell.forward_quality.hidden_relative_error < 0.05
    assert cell.faults == (
        f"hidden_relative_error is {cell.forward_quality.hidden_relative_error:.3g}; at most 0.001 is asked",
    )


EXACT = [
    (ONE, {"attention": "eager"}),
    (ONE, {"attention": "sdpa_math"}),
    (ONE, {"dtype": "fp32"}),
    (STEPS, {"attention": "eager"}),
    (STEPS, {"decode": "lean"}),
    (STEPS, {"decode": "lean", "cache": "static"}),
    (ONE, {"mlp": "triton"}),
    (ONE, {"norm": "triton"}),
    (ONE, {"rope": "triton"}),
    (ONE, {"qkv": "fused"}),
    (STEPS, {"decode": "lean", "cache": "static", "attention": "triton", "qkv": "fused"}),
    (STEP, {"decode": "lean", "linear": "triton"}),
]


# What takes 10 s a step under the interpreter is seen in T3 by other tests.
OF_BOTH = [("chatterbox", *case) for case in EXACT if "linear" not in case[1]] + [
    ("spark-tts", *case) for case in EXACT
]


@pytest.mark.parametrize(("family", "shape", "slots"), OF_BOTH, ids=str)
def test_an_option_takes_effect_and_changes_nothing(
    make: Make, family: str, shape: ForwardJob, slots: dict[str, str]
) -> None:
    expected = prepared(make(shape, family=family)).hidden()
    pipeline = prepared(make(shape, family=family, slots=slots))
    got = pipeline.hidden()
    assert got.shape == (shape.rows, shape.steps or shape.positions, 128)
    assert float((got - expected).norm() / expected.norm()) < 1e-5
    evidence = attested(pipeline)
    for slot in set(slots) & {"mlp", "norm", "rope", "qkv", "linear"}:
        assert evidence[slot]["replaced"] > 0
        assert evidence[slot]["calls"] > 0
    if "cache" in slots:
        assert evidence["cache"]["cache"] == StaticBackbone.__name__


@pytest.mark.parametrize("slots", [{"dtype": "bf16"}, {"dtype": "amp_bf16"}], ids=str)
def test_a_dtype_is_what_the_layers_work_in(make: Make, slots: dict[str, str]) -> None:
    assert attested(prepared(make(STEPS, slots=slots)))["dtype"]["activations"] == ["bfloat16"]


def test_a_stored_dtype_is_kept(make: Make) -> None:
    for family in ("chatterbox", "spark-tts"):
        assert prepared(make(family=family, dtype="bf16")).tts.t3.tfmr.dtype == torch.bfloat16


def test_an_option_that_did_nothing_is_refused(make: Make) -> None:
    pipeline = prepared(make())
    for slot, option in (("mlp", "triton"), ("attention", "eager"), ("dtype", "bf16"), ("compile", "default")):
        with pytest.raises(CellError, match=f"{slot}: {option} was asked for"):
            attested_as(pipeline, slot, option)


def attested_as(pipeline: backbone.ForwardPipeline, slot: str, option: str) -> None:
    pipeline.warm_call = backbone.record_warm_call(pipeline)
    registry.BY_NAME[slot].attest(pipeline, option)


@pytest.mark.parametrize("shape", [ONE, STEPS])
def test_flash_attention_goes_through_transformers_where_no_cache_is_static(make: Make, shape: ForwardJob) -> None:
    pipeline = prepared(make(shape, slots={"dtype": "bf16", "attention": "flash_attention_2"}))
    assert pipeline.tts.t3.tfmr.config._attn_implementation == "flash_attention_2"


def test_the_embeddings_are_the_same_in_every_stack_and_process(make: Make) -> None:
    first, other = (prepared(make(slots=slots, process=p)) for p, slots in enumerate(({}, {"attention": "eager"})))
    assert torch.equal(first._embeds, other._embeds)
    assert not torch.equal(first._embeds, prepared(make(seed=1))._embeds)


def test_spark_tts_s_weights_depend_on_their_seed_alone(make: Make) -> None:
    item, again, other = (
        next(backbone.load(make(family="spark-tts", model_seed=seed)).parameters()).flatten()[:9] for seed in (0, 0, 1)
    )
    assert torch.equal(item, again)
    assert not torch.equal(item, other)


def test_steps_follow_the_prompt(make: Make) -> None:
    """The steps' hidden states are those of a forward over prompt and steps together."""
    steps = prepared(make(STEPS))
    whole = prepared(make(ForwardJob(STEPS.rows, STEPS.positions + STEPS.steps, 0)))
    assert torch.equal(steps._embeds, whole._embeds)
    assert torch.allclose(steps.hidden(), whole.hidden()[:, STEPS.positions :], atol=1e-5)


def test_the_backbone_is_the_one_that_the_whole_model_holds(make: Make) -> None:
    from ttsbench.model import checkpoint

    for family in ("chatterbox", "turbo"):
        job = make(family=family)
        whole = checkpoint.load(checkpoint.locate(*job.checkpoint), family, DEVICE).t3.tfmr.state_dict()
        ours = backbone.load(job).state_dict()
        assert ours.keys() == whole.keys()
        assert all(torch.equal(ours[name], tensor) for name, tensor in whole.items())


def test_no_call_leaves_anything_behind(make: Make) -> None:
    pipeline = prepared(make(STEPS, slots={"decode": "lean", "cache": "static"}))
    activities = []
    for _ in range(2):
        pipeline.begin()
        activities.append(attest.record_activity(pipeline.device, pipeline.work).per(1)["operators"])
    assert activities[0] == activities[1]
    assert common.count_hooks(pipeline) == 0


@pytest.mark.parametrize(
    ("slots", "steps", "reason"),
    [
        ({"watermark": "off"}, 0, "watermark: off has no part in this; workload.forward runs the backbone alone"),
        ({"sampler": "lean"}, 5, "sampler: lean has no part in this"),
        ({"s3gen_attention": "sdpa"}, 5, "s3gen_attention: sdpa has no part in this"),
        ({"decode": "lean"}, 0, "decode: lean: workload.forward.steps is 0"),
        ({"decode": "cuda_graph", "cache": "static"}, 5, "decode: cuda_graph captures the draw"),
        ({"cache": "static"}, 5, "cache: static needs decode: lean"),
        ({"attention": "flash_attention_2"}, 0, "attention: flash_attention_2 needs dtype"),
        ({"decode": "lean", "cache": "static"}, 5, ""),
        ({"on_missing": "fallback", "mlp": "triton", "dtype": "bf16"}, 0, ""),
    ],
)
def test_what_has_no_part_in_a_forward_is_refused(slots: dict[str, str], steps: int, reason: str) -> None:
    for family in ("chatterbox", "multilingual", "spark-tts"):
        output = rules.conflict(slots, family=family, cfg_weight=None, forward_steps=steps)
        assert output.startswith(reason)
        assert bool(output) == bool(reason)


ON_A_GPU = [
    (ONE, {"dtype": "fp16", "attention": "flash_attention_2"}),
    (STEPS, {"dtype": "fp16", "attention": "flash_attention_2"}),
    (STEPS, {"dtype": "fp16", "attention": "flash_attention_2", "decode": "lean", "cache": "static"}),
    (ONE, {"dtype": "fp16", "attention": "sdpa_flash", "mlp": "triton", "norm": "triton", "rope": "triton"}),
    (ONE, {"dtype": "fp16", "mlp": "triton_fused"}),
    (ONE, {"dtype": "fp16", "mlp": "liger", "norm": "liger", "rope": "liger"}),
    (ONE, {"dtype": "fp16", "compile": "default"}),
    (STEPS, {"dtype": "fp16", "decode": "lean", "cache": "static", "compile": "reduce-overhead"}),
]


@pytest.mark.gpu
@pytest.mark.parametrize(("shape", "slots"), ON_A_GPU, ids=str)
@pytest.mark.parametrize("family", ["chatterbox", "spark-tts"])
def test_on_a_gpu_an_option_takes_effect_and_stays_faithful(
    make: Make, run_cell: RunCell, family: str, shape: ForwardJob, slots: dict[str, str]
) -> None:
    if slots.get("attention") == "flash_attention_2":
        pytest.importorskip("flash_attn")
    if "liger" in slots.values():
        pytest.importorskip("liger_kernel")
    assert run_cell(make(shape, family=family, kind=REFERENCE)).ok
    cell = run_cell(make(shape, family=family, slots=slots, limits={"hidden_relative_error_max": 0.05}))
    assert (cell.status, cell.reason, cell.faults) == ("ok", "", ())
    for item in cell.forwards:
        assert item.device_seconds is not None
        assert item.device_seconds <= item.wall_seconds * 1.01
        assert item.peak_allocated_bytes
    assert cell.evidence["activity"]["per_call"]["device_busy_ms"] > 0
