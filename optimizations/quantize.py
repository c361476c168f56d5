"""Slot `quantize`: T3's linear layers with fewer bits, through torchao.

`int8` and `int4` store weights only and multiply in bf16; `fp8` also rounds the activations, row by row, and multiplies
in fp8. Eager int8 unpacks every weight before it multiplies: it saves memory and costs time. So does a compiled one on
an H200: Inductor may put PyTorch's int8 product in, which takes four to sixteen times as long as bf16's for two rows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ttsbench.errors import CellError
from ttsbench.model.families import Family
from ttsbench.optimizations.options import ADA, AMPERE, ANY_FORWARD, Evidence, Option, Slot, has_no_part_in, needs
from ttsbench.optimizations.target import Target

if TYPE_CHECKING:
    import torch


def apply(target: Target, option: str) -> None:
    from torchao.quantization import quantize_

    layers = target.tts.t3.tfmr.layers
    for linear in _linears(layers):
        target.undo.weights(partial(setattr, linear, "weight", linear.weight))
    quantize_(layers, _config(option))


def _config(option: str) -> Any:
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
        PerRow,
    )

    if option == "int8":
        return Int8WeightOnlyConfig()
    if option == "int4":
        return Int4WeightOnlyConfig(group_size=128, int4_packing_format="tile_packed_to_4d")
    return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())


def attest(target: Target, option: str) -> Evidence:
    layers = _linears(target.tts.t3.tfmr)
    kinds = sorted({type(layer.weight.data).__name__ for layer in layers if _is_quantized(layer)})
    quantized = sum(map(_is_quantized, layers))
    if (quantized == len(layers) and bool(layers)) != (option != "off"):
        raise CellError(f"quantize: {option} was asked for, and {quantized} of {len(layers)} layers are quantized")
    return {"layers": quantized, "kinds": kinds, "weights_bytes": target.weights_bytes()}


def _linears(module: torch.nn.Module) -> list[torch.nn.Linear]:
    import torch

    return [part for part in module.modules() if isinstance(part, torch.nn.Linear)]


def _is_quantized(layer: torch.nn.Linear) -> bool:
    return hasattr(layer.weight.data, "__tensor_flatten__")


def _by_torchao(name: str, summary: str, *, capability: tuple[int, int] = (0, 0)) -> Option:
    return Option(
        name,
        summary,
        changes_output=f"T3's weights are rounded to {name}",
        fits=Family.llama_layers,
        needs_cuda=name != "int8",
        needs_capability=capability,
        needs_package="torchao",
        how_to_get="pip install 'ttsbench[quantize]'",
        rules=(
            has_no_part_in("decode", "persistent", because="it reads the weights as they are"),
            needs("dtype", "bf16", because="it multiplies in bf16"),
        ),
    )


# Of kernels that read the weights themselves.
UNQUANTIZED = needs("quantize", "off", because="it reads the weights as they are")
SLOT = Slot(
    "quantize",
    "T3's linear layers with fewer bits",
    (
        Option("off", "as they are"),
        _by_torchao("int8", "weights in 8 bits, products in bf16"),
        _by_torchao("int4", "weights in 4 bits by groups of 128, products in bf16", capability=AMPERE),
        _by_torchao("fp8", "weights and activations in 8-bit floating point, row by row", capability=ADA),
    ),
    apply=apply,
    attest=attest,
    forward=ANY_FORWARD,
)
