"""Every kernel there is: one for each file of this folder that declares `KERNEL`, and those of other packages.

Another package names the module of its kernel in the entry-point group `ttsbench.kernels`. The cases' names are read
from the files' text, because the code beside them imports torch and Triton.
"""

from __future__ import annotations

import ast
import functools
import importlib
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttsbench.optimizations.kernels.kernel import Case, Kernel

GROUP = "ttsbench.kernels"


@functools.cache
def modules() -> tuple[str, ...]:
    names = (f"{__package__}.{file.name}" for file in pkgutil.iter_modules([str(Path(__file__).parent)]))
    own = sorted(name for name in names if "\nKERNEL = " in _source_of(name))
    installed = [entry.module for entry in entry_points(group=GROUP)]
    return (*own, *(module for module in installed if _usable(module, lambda module: "KERNEL" in _source_of(module))))


def case_names() -> tuple[str, ...]:
    return tuple(name for module in modules() for name in _names_in(_source_of(module)))


@functools.cache
def kernels() -> tuple[Kernel, ...]:
    usable = (module for module in modules() if _usable(module, lambda name: importlib.import_module(name).KERNEL))
    return tuple(importlib.import_module(module).KERNEL for module in usable)


def _usable(module: str, use: Callable[[str], object]) -> bool:
    """Another distribution's kernel that cannot be used is warned of, and the others remain; ours must work."""
    try:
        return bool(use(module))
    except Exception as error:
        if module.startswith(f"{__package__}."):
            raise
        warnings.warn(f"the kernel of {module} cannot be used: {error}", stacklevel=2)
        return False


def cases() -> Mapping[str, Case]:
    return {case.name: case for kernel in kernels() for case in kernel.cases}


def _source_of(module: str) -> str:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the entry point of a kernel names {module}, and there is no such module")
    return Path(spec.origin).read_text(encoding="utf-8")


def _names_in(source: str) -> list[str]:
    """Of each `Case(name="…")`, and of each `replace(case, name="…")`."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    makers = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("Case", "replace"))
    names = (keyword.value for call in makers for keyword in call.keywords if keyword.arg == "name")
    texts = (name for name in names if isinstance(name, ast.Constant))
    return [str(text.value) for text in sorted(texts, key=lambda text: text.lineno)]
