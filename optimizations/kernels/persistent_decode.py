"""Many tokens of T3 in one launch: the weights' layout, the launch, and the same arithmetic in plain PyTorch.

`cuda/persistent_decode.cu` says how the kernel works. Beside the weights it needs what a step of `decode: cuda_graph`
reads: keys and values of a static cache, the tokens seen, the sampler's settings and its noise.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, silu

from ttsbench.errors import CellError
from ttsbench.optimizations.kernels import nvrtc
from ttsbench.optimizations.kernels.kernel import Kernel
from ttsbench.optimizations.kernels.sampler import sample_reference
from ttsbench.optimizations.kernels.tensors import require

# As in cuda/layout.cuh.
BLOCKS, WIDTH, MLP, HEADS, HEAD = 128, 1024, 4096, 16, 64
CHUNK_ROWS, CHUNK_COLUMNS = 8, 1024
WARPS = 16
# Of a block in a layer: query, key and value; output projection; gate and up in turn; down.
PART_CHUNKS = [
    3 * WIDTH // BLOCKS // CHUNK_ROWS,
    WIDTH // BLOCKS // CHUNK_ROWS,
    2 * MLP // BLOCKS // CHUNK_ROWS,
    MLP // WIDTH,
]
LAYER_CHUNKS = sum(PART_CHUNKS)
SETTINGS = ("cfg_weight", "temperature", "repetition_penalty", "min_p", "top_p", "top_k")
# A launch that waits longer has lost a block; it ends with an error instead of never.
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Layer:
    """Its matrices (outputs, inputs), the weight of the norm before each multiplied in."""

    qkv: torch.Tensor
    out: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor

    def __post_init__(self) -> None:
        shapes = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "gate": (MLP, WIDTH), "up": (MLP, WIDTH)}
        for name, shape in {**shapes, "down": (WIDTH, MLP)}.items():
            actual = tuple(getattr(self, name).shape)
            require(actual == shape, f"{name} is {actual}, and the kernel's is {shape}")


def chunks(matrix: torch.Tensor) -> torch.Tensor:
    """(tiles of 8 rows, parts of 1024 columns, 8192), each part in the order in which the kernel's lanes read it.

    A warp has 64 of the columns and a lane 16 of one row, in two halves of 8, so that each read is of 16 bytes and
    lanes read neighbouring ones.
    """
    tiles, parts = matrix.size(0) // CHUNK_ROWS, matrix.size(1) // CHUNK_COLUMNS
    split = matrix.reshape(tiles, CHUNK_ROWS, parts, WARPS, 4, 2, 8)
    return split.permute(0, 2, 3, 5, 1, 4, 6).reshape(tiles, parts, CHUNK_ROWS * CHUNK_COLUMNS)


def matrix_of(packed: torch.Tensor) -> torch.Tensor:
    tiles, parts, _ = packed.shape
    split = packed.reshape(tiles, parts, WARPS, 2, CHUNK_ROWS, 4, 8).permute(0, 4, 1, 2, 5, 3, 6)
    return split.reshape(tiles * CHUNK_ROWS, parts * CHUNK_COLUMNS)


def head_chunks(vocabulary: int) -> int:
    """Of a block; what the vocabulary does not fill is zero and never read."""
    return -(-vocabulary // (CHUNK_ROWS * BLOCKS))


def pack(layers: Iterable[Layer], head: torch.Tensor, *, count: int, dtype: torch.dtype) -> torch.Tensor:
    """(blocks, chunks, 8192): for each block what it reads for one token, from the first byte to the last.

    Layers are taken one at a time, so that no second copy of all of them need exist.
    """
    shape = (BLOCKS, count * LAYER_CHUNKS + head_chunks(head.size(0)), CHUNK_ROWS * CHUNK_COLUMNS)
    packed = torch.empty(shape, dtype=dtype, device=head.device)
    for layer, of_layer in zip(layers, packed[:, : count * LAYER_CHUNKS].split(LAYER_CHUNKS, 1), strict=True):
        gate_up = torch.stack([_by_block(layer.gate), _by_block(layer.up)], 2)
        parts = (_by_block(layer.qkv), _by_block(layer.out), gate_up.flatten(1, 2), _by_block(layer.down))
        for part, place in zip(parts, of_layer.split(PART_CHUNKS, 1), strict=True):
            place.copy_(part)
    filled = head.new_zeros(head_chunks(head.size(0)) * BLOCKS * CHUNK_ROWS, WIDTH)
    filled[: head.size(0)] = head
    packed[:, count * LAYER_CHUNKS :] = chunks(filled).unflatten(0, (-1, BLOCKS)).flatten(1, 2).transpose(0, 1)
    return packed


def _by_block(matrix: torch.Tensor) -> torch.Tensor:
    return chunks(matrix).reshape(BLOCKS, -1, CHUNK_ROWS * CHUNK_COLUMNS)


def unpack(packed: torch.Tensor, vocabulary: int) -> tuple[list[Layer], torch.Tensor]:
    of_layers, of_head = packed.split([packed.size(1) - head_chunks(vocabulary), head_chunks(vocabulary)], 1)
    layers = []
    for of_layer in of_layers.split(LAYER_CHUNKS, 1):
        qkv, out, gate_up, down = of_layer.split(PART_CHUNKS, 1)
        by_rows = (part.reshape(-1, 1, packed.size(2)) for part in (qkv, out, gate_up[:, 0::2], gate_up[:, 1::2]))
        layers.append(Layer(*(matrix_of(part) for part in (*by_rows, down))))
    return layers, matrix_of(of_head.transpose(0, 1).reshape(-1, 1, packed.size(2)))[:vocabulary]


class Arguments(ctypes.Structure):
    """As in cuda/layout.cuh; pointers that stay for a whole utterance, and what changes with each launch."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in (
            "weights", "token_embeddings", "step_embeddings", "head_bias", "rotary", "caches", "settings", "race",
            "forced", "drawn", "seen", "logits", "slots", "state",
        )),
        ("patience", ctypes.c_uint64),
        ("cache_positions", ctypes.c_int),
        ("tokens", ctypes.c_int),
        ("stop_token", ctypes.c_int),
        ("epsilon", ctypes.c_float),
    ]  # fmt: skip


# What a launch leaves for the next one: 32-bit integers in the kernel's order.
STATE = ("token", "step", "position", "stopped", "epoch", "gave_up")


class _Turns:
    """One persistent kernel at a time on a device: two of which each holds a part of the device would never end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[int, torch.cuda.Event] = {}

    @contextmanager
    def next(self) -> Iterator[None]:
        """The present stream goes on where the last launch, on whichever stream, has ended."""
        device = torch.cuda.current_device()
        with self._lock:
            if device in self._last:
                self._last[device].wait()
            yield
            self._last[device] = torch.cuda.Event()
            self._last[device].record()


_TURNS = _Turns()


class PersistentDecode:
    """The kernel for one model (number of layers, vocabulary, rows, type), with its state and slots on the device."""

    def __init__(self, *, vocabulary: int, layers: int, rows: int, dtype: torch.dtype) -> None:
        constants = {"VOCABULARY": vocabulary, "LAYERS": layers, "ROWS": rows, "FP16": int(dtype == torch.float16)}
        code = nvrtc.compiled("persistent_decode.cu", nvrtc.architecture(), tuple(constants.items()))
        self._kernel = nvrtc.CooperativeKernel(code, "persistent_decode")
        self.shared_bytes, slots_bytes, *sizes, threads = self._kernel.constants("sizes", 6)
        ours = [ctypes.sizeof(Arguments), 4 * len(STATE), BLOCKS]
        require(sizes == ours, f"the kernel has sizes {sizes}, and its caller {ours}")
        self._kernel.reserve(BLOCKS, threads, self.shared_bytes)
        self._slots = torch.zeros(slots_bytes, dtype=torch.uint8, device="cuda")
        self.state = torch.zeros(len(STATE), dtype=torch.int32, device="cuda")
        self.forget()

    @property
    def registers(self) -> int:
        """Of a thread; 96 are what 544 threads leave to each other."""
        return self._kernel.registers

    def begin(self, token: torch.Tensor, *, step: int, position: int, stop_token: int) -> None:
        """An utterance whose last token, on the device, was the one before `step`; epochs go on."""
        self.state[1:3].copy_(torch.tensor([step, position], dtype=torch.int32))
        self.state[0].copy_(token)
        self.state[3].copy_(token == stop_token)

    def launch(self, arguments: Arguments, *, blocks: int = BLOCKS) -> None:
        arguments.slots, arguments.state = self._slots.data_ptr(), self.state.data_ptr()
        with _TURNS.next():
            self._kernel.launch(blocks, arguments)

    def forget(self) -> None:
        """After a launch that gave up, blocks have left different epochs behind."""
        self._slots.zero_()
        self.state.zero_()
        self.state[4].fill_(1)


def step_reference(
    layers: Sequence[Layer],
    head: torch.Tensor,
    embed: torch.Tensor,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    position: int,
    rotary: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    """Logits (rows, vocabulary) of one step, in the precision of `embed` (rows, width); writes keys and values.

    As the kernel does it: norms without weights, applied after the product; keys and values are kept as the cache
    keeps them.
    """
    hidden, rows = embed, embed.size(0)
    cosine, sine = rotary[position, :, 0].to(embed.dtype), rotary[position, :, 1].to(embed.dtype)

    def normed(product: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return product * torch.rsqrt(state.square().mean(-1, keepdim=True) + epsilon)

    def turned(heads: torch.Tensor) -> torch.Tensor:
        first, second = heads[..., : HEAD // 2], heads[..., HEAD // 2 :]
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)

    for layer, kept_keys, kept_values in zip(layers, keys, values, strict=True):
        qkv = normed(linear(hidden, layer.qkv.to(hidden.dtype)), hidden).view(rows, 3, HEADS, HEAD)
        kept_keys[:, :, position] = turned(qkv[:, 1]).to(kept_keys.dtype)
        kept_values[:, :, position] = qkv[:, 2].to(kept_values.dtype)
        past_keys, past_values = (kept[:, :, : position + 1].to(hidden.dtype) for kept in (kept_keys, kept_values))
        scores = (past_keys @ turned(qkv[:, 0])[..., None])[..., 0] * HEAD**-0.5
        attended = (scores.softmax(-1)[:, :, None] @ past_values).reshape(rows, WIDTH)
        hidden = hidden + linear(attended, layer.out.to(hidden.dtype))
        gate, up = (normed(linear(hidden, part.to(hidden.dtype)), hidden) for part in (layer.gate, layer.up))
        hidden = hidden + linear(silu(gate) * up, layer.down.to(hidden.dtype))
    return normed(linear(hidden, head.to(hidden.dtype)), hidden)


def draw_reference(
    logits: torch.Tensor, seen: torch.Tensor, settings: Sequence[float], race: torch.Tensor
) -> torch.Tensor:
    """The token that the kernel draws from logits (rows, vocabulary): guidance, then the sampler's own reference."""
    cfg_weight, *sampling = settings
    guided = logits[:1] if logits.size(0) == 1 else logits[:1] + cfg_weight * (logits[:1] - logits[1:])
    return sample_reference(guided, seen, list(sampling), race, order="llama")


def check_shape(*, width: int, mlp: int, heads: int, key_value_heads: int, head: int, vocabulary: int) -> None:
    """Refuses a model that the kernel was not written for."""
    expected = {"hidden size": WIDTH, "MLP": MLP, "attention heads": HEADS, "key-value heads": HEADS, "head size": HEAD}
    actual = (width, mlp, heads, key_value_heads, head)
    for (name, needed), value in zip(expected.items(), actual, strict=True):
        if value != needed:
            raise CellError(f"decode: persistent is written for {name} {needed}, and this model has {value}")
    if vocabulary % 2:
        raise CellError(f"decode: persistent needs an even number of speech tokens, and this model has {vocabulary}")


# No cases: it is a whole step with a gigabyte of weights, which no function of a few tensors stands beside.
KERNEL = Kernel(device_names=("persistent_decode",), cases=(), is_product=True)
