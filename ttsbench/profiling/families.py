"""What kind of work a kernel does and how people would call it, both by its name."""

from __future__ import annotations

import functools
import re

from ttsbench.optimizations.kernels import catalog

# The first pattern that matches the kernel's name decides. Convolutions are products by name too, and attention
# kernels come out of the same libraries, so the special ones stand before the general ones.
PATTERNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("copy", (r"^mem(cpy|set)\b", "copy_kernel", "copy_device", "CatArrayBatchedCopy", r"fused_cat_\d", "nchwToNhwc",
              "nhwcToNchw")),
    ("triton", tuple(name for kernel in catalog.kernels() for name in kernel.device_names)),
    # Inductor names a kernel after all that it stands between, products and attention too; its kind says what it does.
    ("elementwise", ("^triton_poi_",)),
    ("normalization", (r"^triton_(red|per)_\w*rsqrt", r"^triton_(red|per)_\w*softmax")),
    ("reduction", ("^triton_(red|per)_",)),
    ("attention", ("flash", "fmha", "attention", "sdpa", "mha_fwd")),
    ("convolution", ("conv(?!ert)", "winograd", "fprop", "dgrad", "wgrad", "im2col", "col2im", "vol2col")),
    ("fft", ("fft", "bluestein")),
    ("gemm", ("gemm", "gemv", "nvjet", "cutlass", "splitK", "dot_kernel", "xmma", "wgmma", "triton_tem", "_mm_")),
    ("sampling", ("sort", "radix", "topk", "top_k", "multinomial", "cumsum", "_scan_", "scan_kernel", "DeviceScan",
                  "distribution", "philox", "bernoulli")),
    ("normalization", ("norm", "soft_?max", "welford")),
    ("reduction", ("reduce", "argmax", "argmin", "_sum_")),
    ("elementwise", ("elementwise", "index", "gather", "scatter", "arange", "fill", "where", "embedding",
                     "triu", "tril", "pad", "upsample", "Functor", "pointwise", "repeat", "roll", "flip")),
)  # fmt: skip
_COMPILED = tuple((family, re.compile("|".join(patterns), re.IGNORECASE)) for family, patterns in PATTERNS)
OTHER = "other"
_OUR_PRODUCTS = tuple(
    re.compile(name) for kernel in catalog.kernels() if kernel.is_product for name in kernel.device_names
)

# Names of what Inductor fuses that hold an underscore themselves.
_INDUCTOR = re.compile(r"^triton_(poi|red|per|tem|for)_fused_(.*?)_?\d*$")
_COMPOUND = {
    "_to_copy": "cast",
    "_unsafe_view": "view",
    "_scaled_dot_product": "sdpa",
    "_softmax": "softmax",
    "index_copy": "index-copy",
    "index_select": "index-select",
    "index_put": "index-put",
    "masked_fill": "masked-fill",
    "layer_norm": "layer-norm",
    "native_layer_norm": "layer-norm",
    "logical_and": "and",
    "logical_not": "not",
    "bitwise_and": "and",
    "constant_pad_nd": "pad",
    "leaky_relu": "leaky-relu",
    "slice_scatter": "slice-scatter",
    "new_zeros": "zeros",
    "zeros_like": "zeros",
    "full_like": "full",
    "scalar_tensor": "scalar",
}
_KIND_OF_INDUCTOR = {
    "poi": "fused",
    "red": "fused reduction",
    "per": "fused reduction",
    "tem": "template",
    "for": "fused",
}
# What the general kernels of PyTorch apply, wherever it stands in the template's arguments.
_FUNCTOR = (
    re.compile(r"CUDAFunctor(?:OnSelf|OnOther)?_(\w+)"),
    re.compile(r"(?:native::|::)(?:\(anonymous namespace\)::)?(\w+?)_kernel_(?:cuda|impl)"),
    re.compile(r"(\w+?)Functor"),
    re.compile(r"launch_(\w+?)_kernel"),
    re.compile(r"\b(?!Reduce)(\w+?)Ops?\b"),
)
_GENERAL = re.compile(r"elementwise_kernel|reduce_kernel|index_kernel|_elementwise")
LENGTH_MAX = 60


@functools.cache
def family(name: str) -> str:
    """One of `profile_rows.FAMILIES`."""
    return next((family for family, pattern in _COMPILED if pattern.search(name)), OTHER)


@functools.cache
def is_our_product(name: str) -> bool:
    return any(pattern.search(name) for pattern in _OUR_PRODUCTS)


@functools.cache
def readable(name: str) -> str:
    """A few words. Inductor's and our own say what they fuse; a library's keep their name without the templates."""
    if (match := _INDUCTOR.match(name)) is not None:
        kind, fused = match.groups()
        return f"{_parts(fused)} ({_KIND_OF_INDUCTOR[kind]}, Inductor)"
    if family(name) == "triton":
        words = re.sub(r"_?(forward_)?kernel(_tiled)?$", "", name.strip("_").removeprefix("triton_")).strip("_")
        return f"{words.replace('_', ' ')} (Triton)"
    plain = _without_templates(name)
    if _GENERAL.search(plain):
        applied = next((match[1] for pattern in _FUNCTOR if (match := pattern.search(name)) is not None), "")
        kind = "reduce" if "reduce" in plain else "elementwise"
        return _short(f"{applied.strip('_').lower()} ({kind})" if applied else plain)
    return _short(plain)


def _parts(fused: str) -> str:
    """`add_mul__to_copy` to `add·mul·cast`."""
    for compound, word in _COMPOUND.items():
        fused = re.sub(rf"(?:^|_){compound}(?=_|$)", f"_{word}", fused)
    return "·".join(part for part in fused.split("_") if part)


def _without_templates(name: str) -> str:
    """The function alone: no result, no namespaces, no arguments of either kind."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::", "", name)
    depth, kept = 0, []
    for character in name:
        if character == "<":
            depth += 1
        elif character == ">":
            depth -= 1
        elif character == "(" and depth == 0:
            break
        elif depth == 0:
            kept.append(character)
    plain = "".join(kept).strip().removeprefix("void ").split("::")[-1].strip()
    return plain or name


def _short(text: str) -> str:
    return text if len(text) <= LENGTH_MAX else text[: LENGTH_MAX - 1] + "…"
