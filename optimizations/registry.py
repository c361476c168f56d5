"""Every slot and every option, as one literal table. No torch: `list`, `validate` and `--help` read it.

A stack picks one option per slot, so that two attentions can never be stacked. The first option of a slot is
upstream's own behaviour and the default. `ttsbench.optimizations.<slot>` holds the code: `apply(pipeline, option)`, and
`attest(pipeline, option)`, which gives the evidence that it took effect, or raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttsbench.model.families import Family
from ttsbench.optimizations.options import Option, Slot

AMPERE, ADA, HOPPER = (8, 0), (8, 9), (9, 0)
FLASH_ATTN = "pip install 'ttsbench[flash-attn]' (or a wheel for your torch and CUDA from its releases page)"
ON_MISSING = "on_missing"
FEWER_STEPS = "fewer Euler steps make another sound"


def _for_llama(name: str, summary: str) -> Option:
    """A kernel in the layers of Llama and its like."""
    return Option(name, summary, fits=Family.llama_layers, needs_cuda=True)


def _flash_attention_2(summary: str) -> Option:
    """The flash-attn package's."""
    return Option(
        "flash_attention_2",
        summary,
        needs_cuda=True,
        needs_package="flash-attn",
        needs_capability=AMPERE,
        how_to_get=FLASH_ATTN,
    )


def _by_inductor(name: str, summary: str, *, eager: str = "off", needs_cuda: bool = False) -> Option:
    """torch.compile."""
    return Option(name, summary, needs_cuda=needs_cuda, eager=eager, inductor=True)


INDUCTOR = (
    Option("off", "as the package does"),
    _by_inductor("default", "Inductor"),
    _by_inductor("reduce-overhead", "Inductor, in CUDA graphs of its own", needs_cuda=True),
    _by_inductor("max-autotune", "Inductor, kernels chosen by timing, in CUDA graphs of its own", needs_cuda=True),
)
ROUNDING = (
    Option("fp16", "weights and activations in half precision"),
    Option("bf16", "weights and activations in bfloat16"),
)

# In the order in which they are applied.
SLOTS: tuple[Slot, ...] = (
    Slot(
        "dtype",
        "the arithmetic of T3",
        (
            Option("stored", "as the checkpoint holds it; upstream's own is fp32"),
            Option("fp32", "single precision"),
            Option(
                "tf32",
                "fp32 whose matrix products round their inputs to 10 bits",
                needs_cuda=True,
                needs_capability=AMPERE,
            ),
            *ROUNDING,
            Option("amp_fp16", "fp32 weights, autocast to half precision", needs_cuda=True),
            Option("amp_bf16", "fp32 weights, autocast to bfloat16"),
        ),
    ),
    Slot(
        "attention",
        "the kernel of T3's attention",
        (
            Option("sdpa", "PyTorch's, which picks a backend"),
            Option("eager", "written out in single operations"),
            Option("sdpa_math", "PyTorch's reference and nothing else"),
            Option("sdpa_flash", "PyTorch's copy of FlashAttention-2 and nothing else", needs_capability=AMPERE),
            Option("sdpa_efficient", "PyTorch's memory-efficient kernel and nothing else", needs_cuda=True),
            Option("sdpa_cudnn", "cuDNN's kernel and nothing else", needs_cuda=True, needs_capability=AMPERE),
            _flash_attention_2("the flash-attn package's kernels"),
            Option("triton", "our kernel for a step: turned, kept and attended in one launch", needs_cuda=True),
        ),
    ),
    Slot(
        "mlp",
        "Llama's silu(gate)·up",
        (
            Option("eager", "as transformers writes it"),
            _for_llama("liger", "Liger's kernel for silu and product"),
            _for_llama("triton", "our kernel for silu and product"),
            _for_llama("triton_fused", "our kernel with both projections in it"),
        ),
    ),
    Slot(
        "norm",
        "Llama's RMSNorm",
        (
            Option("eager", "as transformers writes it"),
            _for_llama("liger", "Liger's kernel"),
            _for_llama("triton", "our kernel"),
        ),
    ),
    Slot(
        "rope",
        "Llama's rotary embedding",
        (
            Option("eager", "as transformers writes it"),
            _for_llama("liger", "Liger's kernel"),
            _for_llama("triton", "our kernel"),
        ),
    ),
    Slot(
        "qkv",
        "query, key and value of a Llama layer",
        (
            Option("separate", "three products, as transformers writes it"),
            Option("fused", "one product over all their weights", fits=Family.llama_layers),
        ),
    ),
    Slot(
        "linear",
        "the products of a step with T3's weights",
        (
            Option("eager", "as PyTorch does, by cuBLAS"),
            Option("triton", "our kernel for few rows", fits=Family.llama_layers, needs_cuda=True),
        ),
    ),
    Slot(
        "quantize",
        "T3's linear layers with fewer bits",
        (
            Option("off", "as they are"),
            *(
                Option(
                    name,
                    summary,
                    changes_output=f"T3's weights are rounded to {name}",
                    fits=Family.llama_layers,
                    needs_cuda=name != "int8",
                    needs_capability={"int4": AMPERE, "fp8": ADA}.get(name, (0, 0)),
                    needs_package="torchao",
                    how_to_get="pip install 'ttsbench[quantize]'",
                )
                for name, summary in (
                    ("int8", "weights in 8 bits, products in bf16"),
                    ("int4", "weights in 4 bits by groups of 128, products in bf16"),
                    ("fp8", "weights and activations in 8-bit floating point, row by row"),
                )
            ),
        ),
    ),
    Slot(
        "decode",
        "the loop that turns text tokens into speech tokens",
        (
            Option("upstream", "the package's own loop"),
            Option("lean", "our loop over the same backbone: no progress bar, no hidden states, one backend"),
            Option("cuda_graph", "our loop, each step captured once and replayed", needs_cuda=True, eager="lean"),
            Option(
                "persistent",
                "our loop, many tokens in one launch of a kernel that is the whole of T3",
                fits=Family.guided,
                needs_cuda=True,
                needs_capability=HOPPER,
                needs_package="cuda-bindings",
                how_to_get="decode: cuda_graph is the nearest that runs elsewhere",
            ),
        ),
    ),
    Slot(
        "cache",
        "where T3 keeps keys and values",
        (
            Option("dynamic", "grows by concatenation"),
            Option("static", "written in place, so that every step has the same shapes"),
        ),
    ),
    Slot(
        "sampler",
        "from logits to a token",
        (
            Option("upstream", "the package's chain of logits processors"),
            Option("lean", "the same arithmetic on the device alone"),
            Option("triton", "the same in one kernel", needs_cuda=True),
        ),
    ),
    Slot(
        "serve",
        "how requests that come at once are answered",
        (
            Option("in_turn", "one after the other, each by itself"),
            Option("batched", "in one batch, which they join and leave between steps", fits=Family.speaks),
        ),
    ),
    Slot(
        "prompt",
        "how T3 reads what comes before the first token",
        (
            Option("eager", "every operation launched by itself"),
            Option(
                "cuda_graph",
                "captured once for lengths within 64 positions of each other, the rest filled up",
                needs_cuda=True,
                eager="eager",
            ),
        ),
    ),
    Slot(
        "compile",
        "torch.compile on T3",
        INDUCTOR,
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
                fits=Family.watched,
            ),
        ),
    ),
    Slot(
        "s3gen_dtype",
        "the arithmetic of S3Gen's flow estimator; everything around it stays in fp32",
        (
            Option("stored", "as the checkpoint holds it; upstream's own is fp32"),
            Option("fp32", "single precision"),
            Option(
                "tf32",
                "fp32 in all of S3Gen, whose products round their inputs to 10 bits",
                needs_cuda=True,
                needs_capability=AMPERE,
            ),
            *ROUNDING,
        ),
    ),
    Slot(
        "s3gen_attention",
        "the attention of S3Gen's flow estimator and encoder",
        (
            Option("upstream", "with a dense bias of zeros, and a wait for the host in every block"),
            Option("sdpa", "PyTorch's, without a bias where nothing is padded, and without waiting"),
            _flash_attention_2(
                "the flash-attn package's kernels in the estimator; in the encoder they cannot run, so PyTorch's"
            ),
        ),
    ),
    Slot(
        "s3gen_graph",
        "CUDA graphs of S3Gen's flow: the encoder, and the whole Euler solve",
        (
            Option("off", "every operation launched by itself"),
            Option("exact", "one graph for each length", needs_cuda=True, eager="off"),
            Option(
                "bucket",
                "one graph for lengths within 2.56 s of each other, the rest masked",
                needs_cuda=True,
                eager="off",
            ),
        ),
    ),
    Slot(
        "s3gen_compile",
        "torch.compile on S3Gen's flow estimator",
        INDUCTOR,
    ),
    Slot(
        "cfm_steps",
        "Euler steps from noise to a mel spectrogram",
        (
            Option("upstream", "10 with guidance, 2 for mean flows"),
            *(
                Option(steps, f"{steps} steps", changes_output=FEWER_STEPS, fits=Family.guided)
                for steps in ("8", "6", "5", "4", "2")
            ),
            Option("1", "one step", changes_output=FEWER_STEPS, fits=lambda family: family.mean_flow),
        ),
    ),
    Slot(
        "vocoder",
        "HiFT, from a mel spectrogram to a wave",
        (
            Option("upstream", "82 weight norms computed at every call"),
            Option("folded", "weight norms computed once"),
            _by_inductor("compile", "folded, and torch.compile on the convolutions", eager="folded"),
            Option(
                "graph",
                "folded, and a CUDA graph of the convolutions for each length",
                needs_cuda=True,
                eager="folded",
            ),
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
    Slot(
        "stream",
        "how sound is made while tokens are still being drawn",
        (
            Option("oneshot", "as the package does: all at once, at the end"),
            Option(
                "revocode",
                "everything so far anew for each chunk, as public forks do",
                changes_output="each chunk is made from other noise, and without what follows it",
                fits=Family.speaks,
            ),
            Option(
                "windowed",
                "each chunk from a window of tokens, with one noise for all windows",
                changes_output="each chunk is made from a window, and not from the whole utterance",
                fits=Family.speaks,
            ),
        ),
    ),
    Slot(
        ON_MISSING,
        "what becomes of a stack with an option that cannot run here",
        (
            Option("skip", "a row that says why"),
            Option("fallback", "upstream's option in its place, and the row says so"),
            Option("fail", "the run is refused before it starts"),
        ),
    ),
)

BY_NAME: Mapping[str, Slot] = {slot.name: slot for slot in SLOTS}
# Those that a forward of the backbone alone has: without steps, and with.
OF_A_FORWARD = ("dtype", "attention", "mlp", "norm", "rope", "qkv", "quantize", "compile", ON_MISSING)
OF_STEPS = (*OF_A_FORWARD[:-2], "linear", "decode", "cache", *OF_A_FORWARD[-2:])
