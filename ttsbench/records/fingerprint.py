"""What two fingerprints are asked: whether they are one environment, one machine, or the same code on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# For a run to go on: all that can change a figure. The commit may be another one where the code is the same.
ENVIRONMENT = ("gpu", "cpu", "packages", "sources_sha256", "python", "torch_build", "ttsbench.sha256", "variables")
# For figures to be compared: where one differs it is another machine, and figures are no evidence about the code.
MACHINE = (
    "device", "gpu.name", "gpu.driver", "gpu.cuda_driver", "gpu.power_limit_watts", "gpu.mig", "cpu.model",
    "cpu.usable", "packages.torch", "torch_build.cuda",
)  # fmt: skip
# For a profile in a folder of its own to explain a run.
CODE = ("ttsbench.sha256", "sources_sha256", "packages", "gpu.name", "cpu.model")


def look_up(data: Any, dotted: str) -> Any:
    """What stands under a dotted name; None where nothing does."""
    for name in dotted.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def differing(fields: Sequence[str], ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [field for field in fields if look_up(ours, field) != look_up(theirs, field)]


def machine_name(fingerprint: Mapping[str, Any]) -> str:
    """As people call it."""
    return str(look_up(fingerprint, "gpu.name") or look_up(fingerprint, "cpu.model") or "an unknown machine")
