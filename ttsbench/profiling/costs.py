"""How many bytes an op must read and write once and how many operations it does, from the shapes of its arguments.

Multiplications and additions count one each. Products, convolutions and attention are counted exactly. Whatever else
has tensors counts each of them once, and one operation for each value of the largest; views cost nothing. An op whose
shapes were not recorded has no cost, which is not a cost of zero.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ttsbench.profiling.trace import Host

BYTES = {
    "float": 4, "c10::Half": 2, "c10::BFloat16": 2, "double": 8, "long int": 8, "long": 8, "int": 4, "bool": 1,
    "unsigned char": 1, "signed char": 1, "short": 2, "c10::complex<float>": 8, "c10::complex<double>": 16,
    "c10::Float8_e4m3fn": 1, "c10::Float8_e5m2": 1,
}  # fmt: skip
DTYPES = {"float": "fp32", "c10::Half": "fp16", "c10::BFloat16": "bf16", "double": "fp64"}
# cuDNN's and cuBLAS's names, and the instruction that CUTLASS's are named after.
TF32 = re.compile("tf32|s1688", re.IGNORECASE)
# They read and write little of what they are given: an index chooses, or nothing is computed at all.
CHOOSING = ("aten::index", "aten::index_select", "aten::gather", "aten::embedding", "aten::slice", "aten::select")
WRITING = ("aten::fill_", "aten::zero_", "aten::arange", "aten::normal_", "aten::uniform_", "aten::exponential_")
IN_PLACE = ("aten::copy_", "aten::index_copy_", "aten::index_put_", "aten::scatter_")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one op, or of a kernel's part of it. A product's is what no fusion with a neighbour saves."""

    bytes: float
    operations: float
    dtype: str
    product: bool = False

    def times(self, share: float) -> Cost:
        return Cost(self.bytes * share, self.operations * share, self.dtype, self.product)

    def in_precision_of(self, kernel: str) -> Cost:
        """fp32 that is multiplied as TF32, as convolutions are unless somebody forbids it: the kernel's name tells."""
        rounded = self.dtype == "fp32" and self.product and TF32.search(kernel)
        return replace(self, dtype="tf32") if rounded else self


@dataclass(frozen=True, slots=True)
class Tensor:
    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * BYTES.get(self.dtype, 4)


def of_copy(name: str, copied: int) -> Cost | None:
    """Within the device a copy reads and writes; what crosses the bus is not held against the device's bandwidth."""
    return Cost(2.0 * copied, 0.0, "fp32") if "DtoD" in name else None


def of_op(op: Host) -> Cost | None:
    """None where nothing can be said."""
    tensors = tensors_of(op)
    if not tensors:
        return None
    count = PRODUCTS.get(op.name)
    if count is not None:
        return count(op, tensors)
    return elementwise(op, tensors)


def tensors_of(op: Host) -> list[Tensor]:
    """The arguments that are tensors; of a list of tensors, each."""
    tensors = []
    for shape, dtype in zip(op.shapes, op.dtypes, strict=False):
        if dtype == "TensorList" or (shape and isinstance(shape[0], list)):
            tensors += [Tensor(tuple(inner), "float") for inner in shape]
        elif dtype in BYTES and dtype not in ("Scalar", "ScalarList"):
            tensors.append(Tensor(tuple(shape), dtype))
    return tensors


def elementwise(op: Host, tensors: Sequence[Tensor]) -> Cost:
    """Inputs once, and a result as large as the broadcast of all: that of the largest where they are equal."""
    largest = max(tensors, key=lambda tensor: tensor.numel)
    result = _broadcast(tensors) or largest.numel
    width = BYTES.get(tensors[0].dtype, 4)
    if op.name in WRITING:
        moved: float = tensors[0].nbytes
    elif op.name in CHOOSING:
        chosen = tensors[-1].numel if len(tensors) > 1 else largest.numel
        row = tensors[0].shape[-1] if op.name == "aten::embedding" and tensors[0].shape else 1
        moved = 2.0 * chosen * row * width + (tensors[-1].nbytes if len(tensors) > 1 else 0)
    elif op.name in IN_PLACE:
        moved = sum(tensor.nbytes for tensor in tensors)
    elif op.name == "aten::cat":
        moved = 2.0 * sum(tensor.nbytes for tensor in tensors)
    else:
        moved = sum(tensor.nbytes for tensor in tensors) + result * width
    return Cost(moved, float(result), DTYPES.get(tensors[0].dtype, "fp32"))


def _broadcast(tensors: Sequence[Tensor]) -> int:
    """How many values all of them together make; 0 where they do not go together."""
    shape: list[int] = []
    for tensor in tensors:
        padded = [1] * (len(shape) - len(tensor.shape)) + list(tensor.shape)
        shape = [1] * (len(padded) - len(shape)) + shape
        if any(size != other and 1 not in (size, other) for size, other in zip(shape, padded, strict=True)):
            return 0
        shape = [max(size, other) for size, other in zip(shape, padded, strict=True)]
    return math.prod(shape)


def _product(tensors: Sequence[Tensor], result: int, operations: float) -> Cost:
    width = BYTES.get(tensors[0].dtype, 4)
    moved = sum(tensor.nbytes for tensor in tensors) + result * width
    return Cost(moved, operations, DTYPES.get(tensors[-1].dtype, "fp32"), product=True)


def _matmul(op: Host, tensors: Sequence[Tensor]) -> Cost | None:
    """mm, bmm, addmm, baddbmm, addmv, mv, dot: the last two are the factors."""
    if len(tensors) < 2:
        return None
    left, right = tensors[-2], tensors[-1]
    if not left.shape or not right.shape:
        return None
    columns = right.shape[-1] if len(right.shape) > 1 else 1
    rows = math.prod(left.shape[:-1])
    return _product(tensors, rows * columns, 2.0 * rows * columns * left.shape[-1])


def _convolution(op: Host, tensors: Sequence[Tensor]) -> Cost | None:
    """Input and weight come first; stride, padding and dilation are told as values where they were recorded."""
    if len(tensors) < 2 or len(tensors[0].shape) < 3:
        return None
    (rows, _, *frames), (out, per_group, *kernel) = tensors[0].shape, tensors[1].shape
    stride, padding, dilation, transposed = _PLACES[op.name]
    axes = zip(
        frames,
        kernel,
        _values(op, stride, len(frames), 1),
        _values(op, padding, len(frames), 0),
        _values(op, dilation, len(frames), 1),
        strict=True,
    )
    if transposed:
        length = math.prod((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes)
        operations = 2.0 * tensors[0].numel * per_group * math.prod(kernel)
        return _product(tensors, rows * per_group * length, operations)
    result = rows * out * math.prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
    return _product(tensors, result, 2.0 * result * per_group * math.prod(kernel))


# Where stride, padding and dilation stand among the arguments; a transposed one has its output padding between.
_PLACES = {
    "aten::cudnn_convolution": (3, 2, 4, False),
    "aten::cudnn_convolution_transpose": (4, 2, 5, True),
    "aten::mkldnn_convolution": (4, 3, 5, False),
    "aten::_conv_depthwise2d": (4, 5, 6, False),
    "aten::conv_depthwise3d": (4, 5, 6, False),
    "aten::_slow_conv2d_forward": (4, 5, -1, False),
    "aten::slow_conv_transpose2d": (4, 5, 7, True),
    "aten::slow_conv_dilated2d": (4, 5, 6, False),
    "aten::miopen_convolution": (4, 3, 5, False),
}


def _values(op: Host, place: int, axes: int, default: int) -> list[int]:
    try:
        values = json.loads(op.values[place]) if 0 <= place < len(op.values) else []
    except ValueError:
        values = []
    return [int(n) for n in values] if isinstance(values, list) and len(values) == axes else [default] * axes


def _attention(op: Host, tensors: Sequence[Tensor]) -> Cost | None:
    """Queries, keys and values come first: (rows, heads, positions, width), or heads third in the inner ops."""
    if len(tensors) < 3 or len(tensors[0].shape) != 4:
        return None
    heads, positions = (2, 1) if op.name in HEADS_THIRD else (1, 2)
    query, key, value = (tensor.shape for tensor in tensors[:3])
    pairs = query[0] * query[heads] * query[positions] * key[positions]
    read = [*tensors[:3], *(tensor for tensor in tensors[3:4] if tensor.numel > 1)]  # the fourth may be a mask
    return _product(read, tensors[0].numel // query[3] * value[3], 2.0 * pairs * (query[3] + value[3]))


HEADS_THIRD = ("aten::_flash_attention_forward", "aten::_efficient_attention_forward")
PRODUCTS: dict[str, Callable[[Host, Sequence[Tensor]], Cost | None]] = {
    **dict.fromkeys(
        ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::addmv", "aten::addmv_", "aten::mv",
         "aten::dot", "aten::addmm_", "aten::baddbmm_", "aten::_addmm_activation"),
        _matmul,
    ),
    **dict.fromkeys(_PLACES, _convolution),
    **dict.fromkeys(
        ("aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_efficient_attention",
         "aten::_scaled_dot_product_cudnn_attention", "aten::_flash_attention_forward",
         "aten::_efficient_attention_forward", "aten::_cudnn_attention_forward",
         "aten::_scaled_dot_product_flash_attention_for_cpu"),
        _attention,
    ),
}  # fmt: skip
