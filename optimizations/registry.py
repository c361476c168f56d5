"""Every slot, in the order in which they are applied. No torch: `list`, `validate` and `--help` read it.

A stack picks one option per slot, so that two attentions can never be stacked. Each slot declares its options in a file
of its own. Another package adds an option in the entry-point group `ttsbench.options`: the entry's name is the slot's
and the option's (`norm.mine`), its value the `Option`, in a module that imports no torch at its top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points

from ttsbench.errors import UsageError, suggest
from ttsbench.optimizations.options import Option, Slot

GROUP = "ttsbench.options"
# Each slot's file, in the order in which slots are applied.
FILES = (
    "dtype", "attention", "mlp", "norm", "rope", "qkv", "linear", "quantize", "decode", "cache", "sampler", "serve",
    "prompt", "compile", "analyzer", "s3gen_dtype", "s3gen_attention", "s3gen_graph", "s3gen_compile", "cfm_steps",
    "vocoder", "resample", "watermark", "stream", "on_missing",
)  # fmt: skip


def with_added_options() -> dict[str, Slot]:
    slots: dict[str, Slot] = {name: import_module(f"{__package__}.{name}").SLOT for name in FILES}
    for entry in entry_points(group=GROUP):
        slot, _, name = entry.name.partition(".")
        option = entry.load()
        if slot not in slots:
            raise UsageError(f"the entry point {entry.name} names no slot; {suggest(slot, slots)}")
        if not isinstance(option, Option) or option.name != name or name in {o.name for o in slots[slot].options}:
            raise UsageError(f"the entry point {entry.name} does not name a new Option '{name}': {entry.value}")
        slots[slot] = replace(slots[slot], options=(*slots[slot].options, option))
    return slots


BY_NAME: Mapping[str, Slot] = with_added_options()
SLOTS: tuple[Slot, ...] = tuple(BY_NAME.values())


def option_of(slot: str, option: str) -> Option:
    return BY_NAME[slot].option(option)
