"""Every slot, in the order in which they are applied. No torch: `list`, `validate` and `--help` read it.

A stack picks one option per slot, so that two attentions can never be stacked. Each slot declares its options in a file
of its own. A distribution adds an option by an entry point of the group `ttsbench.options` that names an `Option`, in a
module that imports no torch at its top.
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from ttsbench.errors import UsageError, suggest
from ttsbench.optimizations.options import Option, Slot
from ttsbench.records.plugins import declare_installed

GROUP = "ttsbench.options"
# Each slot's file, in the order in which slots are applied.
FILES = (
    "dtype", "attention", "mlp", "norm", "rope", "qkv", "linear", "quantize", "decode", "cache", "sampler", "serve",
    "prompt", "compile", "analyzer", "s3gen_dtype", "s3gen_attention", "s3gen_blocks", "s3gen_graph", "s3gen_compile",
    "cfm_steps", "vocoder", "resample", "watermark", "stream", "on_missing",
)  # fmt: skip


BY_NAME: dict[str, Slot] = {name: import_module(f"{__package__}.{name}").SLOT for name in FILES}


def add(option: Option) -> None:
    if option.slot not in BY_NAME:
        raise UsageError(f"its slot '{option.slot}' does not exist; {suggest(option.slot, BY_NAME)}")
    slot = BY_NAME[option.slot]
    if option.name in {known.name for known in slot.options}:
        raise UsageError(f"{slot.name} has an option of that name")
    BY_NAME[slot.name] = replace(slot, options=(*slot.options, option))


declare_installed(GROUP, Option, add)
SLOTS: tuple[Slot, ...] = tuple(BY_NAME.values())


def option_of(slot: str, option: str) -> Option:
    return BY_NAME[slot].option(option)
