"""Every slot and every option, as one literal table. No torch: `list`, `validate` and `--help` read it.

A stack picks one option per slot, so that two attentions can never be stacked. The first option of a slot is
upstream's own behaviour and the default. `ttsbench.optimizations.<slot>` holds the code: `apply(pipeline, option)`, and
`attest(pipeline, option)`, which gives the evidence that it took effect, or raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FAMILIES = ("chatterbox", "turbo", "nano", "multilingual")
LLAMA_FAMILIES = ("chatterbox", "multilingual")


@dataclass(frozen=True)
class Option:
    """One way to fill a slot, and what it takes."""

    name: str
    summary: str
    changes_output: str = ""
    families: tuple[str, ...] = FAMILIES
    needs_cuda: bool = False
    needs_package: str = ""
    how_to_get: str = ""


@dataclass(frozen=True)
class Slot:
    """One decision about the pipeline."""

    name: str
    summary: str
    options: tuple[Option, ...]

    @property
    def default(self) -> str:
        """Upstream's own behaviour."""
        return self.options[0].name

    def option(self, name: str) -> Option:
        """The option of that name."""
        return next(option for option in self.options if option.name == name)


FLASH_ATTN = "pip install 'ttsbench[flash-attn]' (or a wheel for your torch and CUDA from its releases page)"
MEAN_FLOW_FAMILIES = ("turbo", "nano")
FEWER_STEPS = "fewer Euler steps make another sound"

# In the order in which they are applied.
SLOTS: tuple[Slot, ...] = (
    Slot(
        "decode",
        "the loop that turns text tokens into speech tokens",
        (
            Option("upstream", "the package's own loop"),
            Option("lean", "our loop over the same backbone: no progress bar, no hidden states, one backend"),
        ),
    ),
    Slot(
        "analyzer",
        "the multilingual model's watch over its own attention",
        (
            Option("upstream", "as the package does"),
            Option(
                "off",
                "no attention maps are copied to the host, no token is forced",
                changes_output="without the alignment analyzer other tokens may be chosen",
                families=("multilingual",),
            ),
        ),
    ),
    Slot(
        "s3gen_dtype",
        "the arithmetic of S3Gen's flow estimator; everything around it stays in fp32",
        (
            Option("stored", "as the checkpoint holds it; upstream's own is fp32"),
            Option("fp32", "single precision"),
            Option("tf32", "fp32 in all of S3Gen, whose products round their inputs to 10 bits", needs_cuda=True),
            Option("fp16", "weights and activations in half precision"),
            Option("bf16", "weights and activations in bfloat16"),
        ),
    ),
    Slot(
        "s3gen_attention",
        "the attention of S3Gen's flow estimator and encoder",
        (
            Option("upstream", "with a dense bias of zeros, and a wait for the host in every block"),
            Option("sdpa", "PyTorch's, without a bias where nothing is padded, and without waiting"),
            Option(
                "flash_attention_2",
                "the flash-attn package's kernels in the estimator; in the encoder they cannot run, so PyTorch's",
                needs_cuda=True,
                needs_package="flash-attn",
                how_to_get=FLASH_ATTN,
            ),
        ),
    ),
    Slot(
        "s3gen_graph",
        "CUDA graphs of S3Gen's flow: the encoder, and the whole Euler solve",
        (
            Option("off", "every operation launched by itself"),
            Option("exact", "one graph for each length", needs_cuda=True),
            Option("bucket", "one graph for lengths within 2.56 s of each other, the rest masked", needs_cuda=True),
        ),
    ),
    Slot(
        "s3gen_compile",
        "torch.compile on S3Gen's flow estimator",
        (
            Option("off", "as the package does"),
            Option("default", "Inductor"),
            Option("reduce-overhead", "Inductor, in CUDA graphs of its own", needs_cuda=True),
            Option(
                "max-autotune", "Inductor, kernels chosen by measurement, in CUDA graphs of its own", needs_cuda=True
            ),
        ),
    ),
    Slot(
        "cfm_steps",
        "Euler steps from noise to a mel spectrogram",
        (
            Option("upstream", "10 with guidance, 2 for mean flows"),
            *(
                Option(steps, f"{steps} steps", changes_output=FEWER_STEPS, families=LLAMA_FAMILIES)
                for steps in ("8", "6", "5", "4", "2")
            ),
            Option("1", "one step", changes_output=FEWER_STEPS, families=MEAN_FLOW_FAMILIES),
        ),
    ),
    Slot(
        "vocoder",
        "HiFT, from a mel spectrogram to a wave",
        (
            Option("upstream", "82 weight norms computed at every call"),
            Option("folded", "weight norms computed once"),
            Option("compile", "folded, and torch.compile on the convolutions"),
            Option("graph", "folded, and a CUDA graph of the convolutions for each length", needs_cuda=True),
        ),
    ),
    Slot(
        "resample",
        "where sample rates are changed: for the voice, and around the watermark",
        (
            Option("librosa", "on the host, by soxr"),
            Option(
                "gpu",
                "on the device, by torchaudio",
                changes_output="another resampling filter changes the voice, and the wave around the watermark",
                needs_cuda=True,
            ),
        ),
    ),
    Slot(
        "watermark",
        "the Perth watermark",
        (
            Option("on", "as the package does: on the host"),
            Option(
                "gpu",
                "the same network on the device, with its resampling",
                changes_output="another resampling filter changes the wave around the watermark",
                needs_cuda=True,
            ),
            Option("off", "the wave as the vocoder made it", changes_output="the audio carries no watermark"),
        ),
    ),
)

BY_NAME: Mapping[str, Slot] = {slot.name: slot for slot in SLOTS}


def complete(slots: Mapping[str, str]) -> dict[str, str]:
    """The stack with every slot named, in the order of application."""
    return {slot.name: slots.get(slot.name, slot.default) for slot in SLOTS}


def changes_output(slots: Mapping[str, str]) -> tuple[str, ...]:
    """Why this stack's output differs from upstream's by design; empty when it should not."""
    marks = (BY_NAME[name].option(option).changes_output for name, option in complete(slots).items())
    return tuple(mark for mark in marks if mark)


def conflict(slots: Mapping[str, str], *, family: str, cfg_weight: float | None) -> str:
    """Why this combination makes no sense for this model; empty when it does."""
    chosen = complete(slots)
    for name, option in chosen.items():
        if family not in BY_NAME[name].option(option).families:
            allowed = ", ".join(BY_NAME[name].option(option).families)
            return f"{name}: {option} is for {allowed}, not for {family}"
    if chosen["analyzer"] == "off" and chosen["decode"] == "upstream":
        return "analyzer: off needs decode: lean; the package's own loop cannot run without it"
    if cfg_weight == 0 and family in LLAMA_FAMILIES and chosen["decode"] == "upstream":
        return "the package's own loop crashes at cfg_weight 0; decode: lean runs it"
    return next((reason for broken, reason in _s3gen_rules(chosen) if broken), "")


def _s3gen_rules(chosen: Mapping[str, str]) -> tuple[tuple[bool, str], ...]:
    """What cannot be captured, compiled or computed together in S3Gen."""
    waits = chosen["s3gen_attention"] == "upstream"
    graph, mode, dtype = chosen["s3gen_graph"], chosen["s3gen_compile"], chosen["s3gen_dtype"]
    return (
        (
            graph != "off" and waits,
            f"s3gen_graph: {graph} needs s3gen_attention: sdpa or flash_attention_2; upstream's waits for the host",
        ),
        (
            mode != "off" and waits,
            f"s3gen_compile: {mode} needs s3gen_attention: sdpa or flash_attention_2; upstream's waits for the host",
        ),
        (
            mode == "reduce-overhead" and graph != "off",
            "s3gen_compile: reduce-overhead captures graphs of its own; with s3gen_graph use default or max-autotune",
        ),
        (
            chosen["s3gen_attention"] == "flash_attention_2" and dtype not in ("fp16", "bf16"),
            "s3gen_attention: flash_attention_2 needs s3gen_dtype: fp16 or bf16; its kernels know nothing else",
        ),
    )
