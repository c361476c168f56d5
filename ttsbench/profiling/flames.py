"""Where the time goes as collapsed stacks: stage, modules, ops and, on the device, the kernel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ttsbench.profiling.attribution import ABSENT, AttributedKernel, AttributedTrace
from ttsbench.profiling.families import readable
from ttsbench.profiling.tables import any_layer
from ttsbench.profiling.trace import MODULE_KIND, Host
from ttsbench.records.profile_rows import UNATTRIBUTED, Flame

PATHS_MAX = 2000
OUTSIDE = "(outside of modules)"

Path = tuple[str, ...]


def flames(attributed: AttributedTrace) -> tuple[Flame, ...]:
    """Of the host and of the device, layers of one kind taken together; the smallest are left to their callers."""
    return (*_kept("host", of_host(attributed)), *_kept("device", of_device(attributed)))


def of_host(attributed: AttributedTrace) -> dict[Path, float]:
    """Self seconds; what no event covers stands at the stage itself."""
    seconds: dict[Path, float] = defaultdict(float)
    paths: list[Path] = []
    uncovered = attributed.trace.stage_walls()
    for place, event in enumerate(attributed.trace.host):
        parent, stage = attributed.nesting.parents[place], attributed.stages[place] or UNATTRIBUTED
        above = paths[parent] if parent != ABSENT else (stage,)
        paths.append((*above, _label(event, above)))
        seconds[paths[place]] += attributed.nesting.self_seconds[place]
        if parent == ABSENT:
            uncovered[stage] = uncovered.get(stage, 0.0) - event.seconds
    for stage, left in uncovered.items():
        seconds[stage,] += max(0.0, left)
    return seconds


def of_device(attributed: AttributedTrace) -> dict[Path, float]:
    """Every kernel below its module and op."""
    seconds: dict[Path, float] = defaultdict(float)
    for kernel in attributed.kernels:
        seconds[_path(kernel)] += kernel.event.seconds
    return seconds


def _path(kernel: AttributedKernel) -> Path:
    modules = tuple(any_layer(kernel.module).split(".")) if kernel.module else (OUTSIDE,)
    return (kernel.stage or UNATTRIBUTED, *_joined(modules), kernel.op or UNATTRIBUTED, readable(kernel.event.name))


def _joined(parts: Sequence[str]) -> list[str]:
    """`layers`, `*` to `layers.*`: a layer is one frame."""
    joined: list[str] = []
    for part in parts:
        if part == "*" and joined:
            joined[-1] += ".*"
        else:
            joined.append(part)
    return joined


def _label(event: Host, above: Path) -> str:
    """A module by its last name, unless the one above it is none of its own."""
    if event.kind != MODULE_KIND:
        return event.name
    return any_layer(event.name) if len(above) == 1 else ".".join(_joined(any_layer(event.name).split("."))[-1:])


def _kept(kind: str, seconds: Mapping[Path, float]) -> tuple[Flame, ...]:
    """The dearest paths; each of the others is counted at the nearest of its callers that is kept."""
    kept = dict(sorted(seconds.items(), key=lambda item: -item[1])[:PATHS_MAX])
    for path, taken in list(seconds.items()):
        if path in kept:
            continue
        above = next((path[:length] for length in range(len(path) - 1, 0, -1) if path[:length] in kept), path[:1])
        kept[above] = kept.get(above, 0.0) + taken
    ordered = sorted(kept.items(), key=lambda item: -item[1])
    return tuple(Flame(kind, path, taken * 1e6) for path, taken in ordered if taken > 0)
