"""Slot `quantize`: T3's linear layers with fewer bits, through torchao.

`int8` and `int4` store weights only and multiply in bf16; `fp8` also rounds the activations, row by row, and multiplies
in fp8. Eager int8 unpacks every weight before it multiplies: it saves memory and costs time. So does a compiled one on
an H200: Inductor may put PyTorch's int8 product in, which takes four to sixteen times as long as bf16's for two rows.
"""

from __future__ import annotations

from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.model.pipeline import Pipeline


def apply(pipeline: Pipeline, option: str) -> None:
    """Quantizes the backbone's layers in place."""
    if option == "off":
        return
    from torchao.quantization import quantize_

    quantize_(pipeline.tts.t3.tfmr.layers, _config(option))


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


def attest(pipeline: Pipeline, option: str) -> dict[str, Any]:
    """How many layers hold quantized weights, and how many bytes all of them take."""
    layers = [m for m in pipeline.tts.t3.tfmr.modules() if isinstance(m, torch.nn.Linear)]
    kinds = sorted({type(m.weight.data).__name__ for m in layers if _is_quantized(m)})
    quantized = sum(map(_is_quantized, layers))
    if (quantized == len(layers) and bool(layers)) != (option != "off"):
        raise CellError(f"quantize: {option} was asked for, and {quantized} of {len(layers)} layers are quantized")
    return {"layers": quantized, "kinds": kinds, "weights_bytes": pipeline.weights_bytes()}


def _is_quantized(layer: torch.nn.Linear) -> bool:
    return hasattr(layer.weight.data, "__tensor_flatten__")
