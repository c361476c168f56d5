"""What `ttsbench profile` finds out about one stack: immutable and versioned, kept as `profile.json`.

Seconds are of the profiled window unless a name says otherwise. The window is one utterance with so many decode steps
and one call of S3Gen, after warm-up. The profiler slows down the host and not the device: `ProfileHeader.inflation`
says by how much, and `Stage.unprofiled_wall_seconds` what the same stage took without it.

*Host* seconds are the CPU's, by its clock. *Device* seconds are those that kernels and copies ran, by the GPU's clock;
on a CPU there is no device, every device figure is zero, and readers use the host's (`ProfileHeader.on_gpu`). *Self*
leaves out what was called from within, *total* counts it. *Busy* is the union of the device's intervals, so that what
overlaps is counted once; *idle* is the rest of the time between the window's first and last kernel, and a gap belongs
to the stage of the kernel that ends it. A gap is *host-bound* for as long as that kernel had not been launched.

Kernels inside a replayed CUDA graph have no op and no module of their own. Their stage is that of the replay's launch;
ops and modules come from an eager twin of the same stack where kernels agree, and are otherwise `UNATTRIBUTED`.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ttsbench.errors import RecordError
from ttsbench.records import files, runs
from ttsbench.records.profile_rows import (
    Coverage,
    DecodeSteps,
    Flame,
    Gap,
    KernelFamily,
    KernelRow,
    Module,
    Op,
    ProfileMemory,
    Reconciliation,
    Roofline,
    Stage,
)

SCHEMA_VERSION = 1
FILE = "profile.json"
# The profiler never makes a window faster. Below this, allowing for noise, the passes without it ran something else.
INFLATION_MIN = 0.95


@dataclass(frozen=True)
class ProfiledWindow:
    utterances: int
    decode_steps: int
    s3gen_calls: int
    audio_seconds: float
    prompt_frames: int = 0  # mel frames of the reference that every step of the CFM carries along
    speech_frames: int = 0  # mel frames that are delivered
    # Forward hooks on the models before the first of so many calls, and after the last.
    hooks_before: int = 0
    hooks_after: int = 0
    calls_between: int = 0


@dataclass(frozen=True)
class ProfileHeader:
    scenario: str
    stack: str
    slots: dict[str, str]
    family: str
    size: str
    device: str  # "cpu" or "cuda:0"
    device_name: str
    environment: dict[str, Any]
    window: ProfiledWindow
    profiled_wall_seconds: float
    # Of the same window, measured just before the profiler was first started in the process; raw.
    unprofiled_wall_seconds: tuple[float, ...]
    started_utc: str = ""
    ttsbench_version: str = ""
    with_stacks: bool = False
    with_memory: bool = False
    changes_output: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def inflation(self) -> float:
        """Profiled wall over unprofiled wall (median): 1.3 means that the profiler cost 30 %."""
        return self.profiled_wall_seconds / statistics.median(self.unprofiled_wall_seconds)

    @property
    def shares_void(self) -> bool:
        """Whether no share of the unprofiled wall means anything."""
        return self.inflation < INFLATION_MIN


@dataclass(frozen=True)
class Finding:
    """What to change, with what shows it. `share` is of the unprofiled wall that it concerns, where it can be told."""

    id: str
    headline: str
    evidence: dict[str, Any]
    advice: str
    stage: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Profile:
    """Everything about one stack. Tables are sorted, the dearest first; stages in the utterance's order."""

    schema_version: int
    header: ProfileHeader
    stages: tuple[Stage, ...]
    ops: tuple[Op, ...]
    modules: tuple[Module, ...]
    kernels: tuple[KernelRow, ...]
    families: tuple[KernelFamily, ...]
    decode: DecodeSteps | None
    reconciliation: tuple[Reconciliation, ...]
    coverage: tuple[Coverage, ...]
    roofline: Roofline | None
    memory: ProfileMemory | None
    flames: tuple[Flame, ...]
    gaps: tuple[Gap, ...]
    findings: tuple[Finding, ...]
    # Ids of all findings that were looked for; those that are not among `findings` were not there.
    looked_for: tuple[str, ...] = ()
    # Names of the files beside profile.json: trace, tables, stacks.
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # Why the stack did not take effect as asked; its figures are then those of something else.
    not_attested: str = ""

    def stage(self, name: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.name == name), None)


def write(folder: Path, profile: Profile) -> Path:
    return files.write_below(folder, FILE, runs.dump(runs.to_json(profile), indent=1) + "\n")


def read(path: Path) -> Profile:
    data = files.read_json(path, FILE, mend="Name a folder that `ttsbench profile` wrote")
    if (version := data.get("schema_version")) != SCHEMA_VERSION:
        raise RecordError(f"{path} has schema version {version!r:.40}; this ttsbench reads {SCHEMA_VERSION}")
    return decoded(data, str(path))


def decoded(data: Any, where: str) -> Profile:
    """Plain data as a profile; one without a wall that its times can be held against is refused."""
    profile = runs.from_json(Profile, data, where)
    walls = profile.header.unprofiled_wall_seconds
    if not walls or not all(0 < seconds < math.inf for seconds in walls):
        raise RecordError(f"{where}: header.unprofiled_wall_seconds should hold times, not {list(walls)!r:.60}")
    if profile.header.shares_void:
        profile = replace(profile, findings=tuple(replace(finding, share=None) for finding in profile.findings))
    return profile


def of_cell(cell: runs.Cell) -> Profile:
    return decoded(cell.profile, f"{cell.key}: profile")


def are_all(run: runs.Run) -> bool:
    """Whether a run holds nothing else."""
    return bool(run.cells) and all(cell.profile for cell in run.cells)
