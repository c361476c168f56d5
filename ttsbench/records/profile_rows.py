"""The rows of a profile's tables, one class each; `ttsbench.records.profiles` says what is meant by their words."""

from __future__ import annotations

from dataclasses import dataclass, field

MISMATCH_MAX = 0.02
UNATTRIBUTED = "unattributed"
# Of a timeline of memory: more than any screen has columns.
POINTS_MAX = 1500
# In the order in which readers show them. `triton` are kernels of our own or of Liger; Inductor's go by what they do.
FAMILIES = (
    "gemm",
    "attention",
    "convolution",
    "normalization",
    "elementwise",
    "reduction",
    "sampling",
    "fft",
    "copy",
    "triton",
    "other",
)


class OnDevice:
    busy_seconds: float
    idle_seconds: float
    host_bound_seconds: float

    @property
    def busy_share(self) -> float:
        return _share(self.busy_seconds, self.busy_seconds + self.idle_seconds)

    @property
    def idle_share(self) -> float:
        return _share(self.idle_seconds, self.busy_seconds + self.idle_seconds)

    @property
    def host_bound_share(self) -> float:
        """In which it waited for the host to launch; never more than `idle_share`."""
        return _share(self.host_bound_seconds, self.busy_seconds + self.idle_seconds)


@dataclass(frozen=True)
class Stage(OnDevice):
    """One stage of the utterance. Walls add up to the window's; `share` is of all stages' `seconds`."""

    name: str
    wall_seconds: float
    unprofiled_wall_seconds: float
    share: float
    busy_seconds: float = 0.0
    idle_seconds: float = 0.0
    host_bound_seconds: float = 0.0
    launches: int = 0
    graph_launches: int = 0
    syncs: int = 0
    copies: int = 0
    kernels: int = 0
    peak_memory_bytes: int | None = None
    # Between events on the stream where the stage begins and ends, waits included and without the profiler.
    unprofiled_device_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Without the profiler: on the stream where there is one, since the host runs ahead of its own stages."""
        on_stream = self.unprofiled_device_seconds
        return self.unprofiled_wall_seconds if on_stream is None else on_stream


@dataclass(frozen=True)
class ShapeCost:
    shapes: str
    calls: int
    self_host_seconds: float
    self_device_seconds: float
    stage: str = ""


@dataclass(frozen=True)
class Op:
    """One operator, as PyTorch's `key_averages` has it; `shapes` are its dearest, the dearest first."""

    name: str
    calls: int
    self_host_seconds: float
    total_host_seconds: float
    self_device_seconds: float = 0.0
    total_device_seconds: float = 0.0
    shapes: tuple[ShapeCost, ...] = ()
    # Calls in each stage.
    stages: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Module:
    """One named module within one stage; `path` as in `t3.tfmr.layers.0.mlp`."""

    path: str
    class_name: str
    stage: str
    calls: int
    self_host_seconds: float
    total_host_seconds: float
    self_device_seconds: float = 0.0
    total_device_seconds: float = 0.0


@dataclass(frozen=True)
class KernelRow:
    """One kernel or copy within one stage. `readable` says what it does, for Inductor's and our own what they fuse.

    `calls` are its runs on the device; `replayed` of them came out of a CUDA graph, the rest of launches of their own.
    `bytes` and `operations` are of all calls together and come from the shapes of the op that launched it; None where
    they are not known.
    """

    name: str
    readable: str
    family: str
    stage: str
    calls: int
    seconds: float
    replayed: int = 0
    bytes: int | None = None
    operations: int | None = None
    op: str = UNATTRIBUTED
    module: str = UNATTRIBUTED

    @property
    def launches(self) -> int:
        return self.calls - self.replayed


@dataclass(frozen=True)
class KernelFamily:
    """Kernels of one kind. `share` is of the sum of all kernels' seconds."""

    name: str
    calls: int
    seconds: float
    share: float


@dataclass(frozen=True)
class DecodeSteps(OnDevice):
    """Decoding, divided by its steps. A gap is any time of 1 µs or more in which the device ran nothing."""

    steps: int
    wall_seconds: float  # of one step, profiled
    unprofiled_wall_seconds: float  # of one step
    busy_seconds: float
    idle_seconds: float
    host_bound_seconds: float
    launches: float
    graph_launches: float
    syncs: float
    copies: float
    kernels: float
    operators: float
    gaps: float


@dataclass(frozen=True)
class Reconciliation:
    """One table's device seconds against the sum of the raw intervals; on a CPU the ops' host seconds against the wall
    that ops covered."""

    table: str
    table_seconds: float
    raw_seconds: float

    @property
    def mismatch(self) -> float:
        return abs(self.table_seconds - self.raw_seconds) / self.raw_seconds if self.raw_seconds else 0.0

    @property
    def flagged(self) -> bool:
        """Whether readers must show it."""
        return self.mismatch > MISMATCH_MAX


@dataclass(frozen=True)
class Coverage:
    """How much of the device's time has a stage, an op, a module; `twin_seconds` of it through the eager twin."""

    level: str  # "stage", "op", "module"
    attributed_seconds: float
    total_seconds: float
    twin_seconds: float = 0.0

    @property
    def share(self) -> float:
        """1 where the device did nothing."""
        return self.attributed_seconds / self.total_seconds if self.total_seconds else 1.0


@dataclass(frozen=True)
class Ceilings:
    """Measured in the same process: a large copy, and a large matrix product per dtype."""

    copy_bytes_per_second: float
    matmul_flops_per_second: dict[str, float]


@dataclass(frozen=True)
class RooflinePoint:
    """A stage or a kernel against the limit. `floor_seconds` is the least that bytes and operations allow.

    Bytes are what ops must read and write once, from their shapes; what stays in a cache may beat them. `bound` is the
    larger of the two floors, or "launch" where the measured time is mostly waiting for launches: a stage that was
    busy for less than half its time and host-bound for the rest, or a kernel too short (under 5 µs) for any limit.
    A stage's measured seconds are `Stage.unprofiled_device_seconds`; its bytes and operations are those of products,
    convolutions and attention, which no fusion saves.
    """

    name: str
    kind: str  # "stage" or "kernel"
    stage: str
    bytes: int
    operations: int
    measured_seconds: float
    floor_seconds: float
    bound: str  # "memory", "compute", "launch"

    @property
    def intensity(self) -> float:
        return self.operations / self.bytes if self.bytes else float("inf")

    @property
    def operations_per_second(self) -> float:
        return _share(self.operations, self.measured_seconds)

    @property
    def limit_share(self) -> float:
        """Floor over measured: 1 is the limit."""
        return _share(self.floor_seconds, self.measured_seconds)


@dataclass(frozen=True)
class Roofline:
    ceilings: Ceilings
    points: tuple[RooflinePoint, ...]
    dtype: str = "fp32"  # the key in `matmul_flops_per_second` that stages and kernels are held against
    # Share of the ops' seconds whose bytes and operations are known.
    counted_share: float = 0.0


@dataclass(frozen=True)
class MemoryPoint:
    seconds: float
    allocated_bytes: int
    stage: str


@dataclass(frozen=True)
class MemoryPart:
    """One entry of the breakdown: weights, kv_cache, graph_pools, activations."""

    name: str
    bytes: int


@dataclass(frozen=True)
class ProfileMemory:
    """On a GPU by the allocator's history and snapshot, else from the modules and the profiler's own events."""

    peak_bytes: int
    breakdown: tuple[MemoryPart, ...]
    stage_peaks: dict[str, int] = field(default_factory=dict)
    timeline: tuple[MemoryPoint, ...] = ()
    reserved_bytes: int | None = None


@dataclass(frozen=True)
class Flame:
    """A collapsed stack, outermost first: stage, modules, op and, on the device, the kernel. Self time only."""

    kind: str  # "host" or "device"
    path: tuple[str, ...]
    microseconds: float


@dataclass(frozen=True)
class Gap:
    """A time in which the device ran nothing; begins so many seconds after the window's first kernel."""

    start_seconds: float
    seconds: float
    host_bound_seconds: float
    stage: str
    before: str  # readable name of the kernel that ran before
    after: str  # and of the one that ended it
    host: str = ""  # what the host did for most of it


def thinned(points: tuple[MemoryPoint, ...]) -> tuple[MemoryPoint, ...]:
    """Of each short stretch its lowest and its highest point, so that no peak is lost, and both ends."""
    if len(points) <= POINTS_MAX:
        return points
    stretch = -(-len(points) * 2 // (POINTS_MAX - 2))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), stretch):
        places = range(start, min(start + stretch, len(points)))
        kept |= {min(places, key=lambda place: points[place].allocated_bytes)}
        kept |= {max(places, key=lambda place: points[place].allocated_bytes)}
    return tuple(points[place] for place in sorted(kept))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
