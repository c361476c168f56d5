"""The size of a backbone's keys and values."""

from __future__ import annotations

import math
from typing import Any


def layer_shape(config: Any, rows: int, positions: int) -> tuple[int, int, int, int]:
    """Of the keys of one layer, and of its values."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return rows, int(heads), positions, int(head_dim)


def bytes_of(config: Any, rows: int, positions: int, element_bytes: int) -> int:
    return 2 * int(config.num_hidden_layers) * math.prod(layer_shape(config, rows, positions)) * element_bytes
