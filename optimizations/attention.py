"""Slot `attention`: which kernel T3's attention runs.

`sdpa` is upstream's: PyTorch picks. The `sdpa_*` options allow one of its backends and no other, so that a silent
fallback is an error. `flash_attention_2` is the flash-attn package: through transformers' own integration over the
growing cache, and through its key-value-cache kernel over the static one, which reads no further than there is text.
`triton` is our own kernel for the steps over a static cache, with rotary embedding and both writes in it; a prompt goes
as with `sdpa`.
"""

from __future__ import annotations

from ttsbench.errors import CellError
from ttsbench.optimizations.dtype import AMP, HALF
from ttsbench.optimizations.options import (
    AMPERE,
    ANY_FORWARD,
    Evidence,
    Option,
    Slot,
    flash_attention_2,
    has_no_part_in,
    needs,
)
from ttsbench.optimizations.target import Target

# What a profiler shows when the option took effect: kernels on a GPU, operators everywhere.
KERNEL_MARKS = {
    "sdpa_math": (),
    "sdpa_flash": ("pytorch_flash", "flash_fwd"),
    "sdpa_efficient": ("fmha_cutlass", "mem_eff", "AttentionKernel"),
    "sdpa_cudnn": ("cudnn",),
}
OPERATOR_MARKS = {
    "sdpa_math": ("_scaled_dot_product_attention_math", "aten::scaled_dot_product_attention"),
    "sdpa_flash": ("_scaled_dot_product_flash_attention",),
    "sdpa_efficient": ("_scaled_dot_product_efficient_attention",),
    "sdpa_cudnn": ("_scaled_dot_product_cudnn_attention",),
}
# Operators on the host, and kernels on a GPU: of a replayed graph only kernels are warm_call.
FUSED = ("_flash_attention", "_efficient_attention", "_cudnn_attention", "flash_fwd", "flash_fprop", "fmha")
STEP_KERNEL = "step_attention"


def apply(target: Target, option: str) -> None:
    from ttsbench.optimizations.parts import t3_attention

    t3_attention.install(target, option, static_cache=target.slots.get("cache") == "static")


def attest(target: Target, option: str) -> Evidence:
    """By the attention kernels or operators that a warm call ran, in the prompt and in the steps."""
    warm_call = target.warm_call
    evidence = {
        "configured": target.tts.t3.tfmr.config._attn_implementation,
        "prefill": sorted(name for name in warm_call.prefill.names if _is_attention(name)),
        "decode": sorted(name for name in warm_call.decode.names if _is_attention(name)),
    }
    for part in ("prefill", "decode"):
        refuse_other(option, part, evidence[part], on_gpu=target.device.type == "cuda")
    return evidence | _attest_steps(target, expected=option == "triton")


def _attest_steps(target: Target, *, expected: bool) -> Evidence:
    """Our kernel by its calls; where a compiler or a graph calls it unseen, by its name among what a step ran."""
    from ttsbench.optimizations.parts.t3_attention import counted_steps

    tfmr, warm_call = target.tts.t3.tfmr, target.warm_call
    steps = counted_steps(tfmr)
    calls = sum(step.calls for step in steps)
    kernels = sum(count for name, count in warm_call.decode.device.items() if STEP_KERNEL in name)
    layers = tfmr.config.num_hidden_layers if expected else 0
    ran = kernels >= layers * warm_call.steps if target.device.type == "cuda" else calls >= layers
    if len(steps) != layers or not ran or bool(kernels) > expected:
        request, where = "was asked for" if expected else "was not asked for", f"{len(steps)} layers"
        raise CellError(f"attention: triton {request}, and its kernel ran {kernels} times, called {calls}, in {where}")
    return {"steps": {"layers": len(steps), "calls": calls, "kernels": kernels}} if expected else {}


def _is_attention(name: str) -> bool:
    lower = name.lower()
    return any(mark in lower for mark in ("attention", "flash", "fmha")) and "mask" not in lower


def refuse_other(option: str, part: str, names: list[str], *, on_gpu: bool) -> None:
    text = " ".join(names)
    fused = any(mark in text for mark in FUSED)
    if option == "eager":
        wrong = "scaled_dot_product_attention" in text or fused
    elif option == "sdpa_math":
        wrong = fused or (bool(names) and "scaled_dot_product_attention" not in text)
    elif option == "flash_attention_2":
        # PyTorch's copy of the kernel carries its namespace; the package's own does not.
        wrong = not any("flash_fwd" in name and "pytorch_flash" not in name for name in names)
    elif option in OPERATOR_MARKS:
        marks = (*(KERNEL_MARKS[option] if on_gpu else ()), *OPERATOR_MARKS[option])
        wrong = not any(mark in text for mark in marks)
    else:
        wrong = False  # PyTorch may pick what it likes, and the multilingual analyzer asks for maps that only eager has
    if wrong:
        raise CellError(f"attention: {option} was asked for, and in {part} what ran is: {', '.join(names) or 'none'}")


IN_HALF = needs("dtype", *HALF, *AMP, because="flash kernels work in fp16 and bf16 only")
NO_MASK = needs(
    "cache", "dynamic", because="it takes no mask, which a static cache needs; flash_attention_2 does without"
)
SLOT = Slot(
    "attention",
    "the kernel of T3's attention",
    (
        Option("sdpa", "PyTorch's, which picks a backend"),
        Option("eager", "written out in single operations"),
        Option("sdpa_math", "PyTorch's reference and nothing else"),
        Option(
            "sdpa_flash",
            "PyTorch's copy of FlashAttention-2 and nothing else",
            needs_capability=AMPERE,
            rules=(NO_MASK, IN_HALF),
        ),
        Option("sdpa_efficient", "PyTorch's memory-efficient kernel and nothing else", needs_cuda=True),
        Option(
            "sdpa_cudnn",
            "cuDNN's kernel and nothing else",
            needs_cuda=True,
            needs_capability=AMPERE,
            rules=(NO_MASK, IN_HALF),
        ),
        flash_attention_2("the flash-attn package's kernels", rules=(IN_HALF,)),
        Option(
            "triton",
            "our kernel for a step: turned, kept and attended in one launch",
            needs_cuda=True,
            triton=True,
            rules=(
                has_no_part_in("decode", "persistent", because="it attends in a step itself"),
                needs("cache", "static", because="it writes keys and values to their place itself"),
            ),
        ),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
