"""Traces that are made here: a GPU's, as CUPTI records them, without a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ttsbench.profiling import trace
from ttsbench.profiling.build import Recording, build
from ttsbench.profiling.trace import MARK, MODULE, Trace
from ttsbench.records import profiles
from ttsbench.records.profile_rows import Ceilings
from ttsbench.records.profiles import Profile

Event = dict[str, Any]


@dataclass
class Recorded:
    """Writes events as Kineto exports them; times in microseconds."""

    events: list[Event] = field(default_factory=list)

    def add(self, category: str, name: str, start: float, length: float, **arguments: Any) -> Recorded:
        device = category in trace.DEVICE_KINDS
        event = {"ph": "X", "cat": category, "name": name, "ts": start, "dur": length, "args": arguments}
        self.events.append(event | {"pid": 0 if device else 7, "tid": arguments.get("stream", 7) if device else 7})
        return self

    def mark(self, stage: str, at: float) -> Recorded:
        return self.add("user_annotation", MARK + stage, at, 0.0)

    def module(self, path: str, start: float, length: float) -> Recorded:
        return self.add("user_annotation", MODULE + path, start, length)

    def op(self, name: str, start: float, length: float, number: int = 0, **arguments: Any) -> Recorded:
        return self.add("cpu_op", name, start, length, **{"External id": number or int(start)}, **arguments)

    def launch(self, at: float, correlation: int, name: str = "cudaLaunchKernel", length: float = 2.0) -> Recorded:
        return self.add("cuda_runtime", name, at, length, correlation=correlation)

    def kernel(self, name: str, start: float, length: float, correlation: int, stream: int = 7) -> Recorded:
        return self.add("kernel", name, start, length, correlation=correlation, stream=stream)

    @property
    def chrome(self) -> dict[str, Any]:
        return {"schemaVersion": 1, "traceEvents": self.events}

    def parsed(self) -> Trace:
        return trace.parse(self.chrome)


GEMM = "nvjet_tst_64x8_64x16_2x1_v_bz_TNT"
ADD = "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >"
SHAPED = {"Input Dims": [[2, 64], [64, 32]], "Input type": ["float", "float"], "Concrete Inputs": ["", ""]}


def eager() -> Recorded:
    """Two stages; the device runs behind, so that decode's kernel ends after the host is in `cfm`."""
    recorded = Recorded().mark("decode", 0).mark("cfm", 100).mark("end", 200)
    recorded.module("t3.tfmr", 5, 80).module("t3.tfmr.layers.0.mlp", 10, 60)
    recorded.op("aten::linear", 12, 50, 1).op("aten::mm", 20, 30, 2, **SHAPED).launch(30, 100)
    recorded.kernel(GEMM, 60, 60, 100)
    recorded.op("aten::add", 110, 20, 3).launch(115, 101).kernel(ADD, 150, 10, 101)
    return recorded


def built(recorded: Recorded, twin: Recorded | None = None, **changes: Any) -> Profile:
    header = profiles.ProfileHeader(
        "s", "upstream", {}, "chatterbox", "tiny", "cuda:0", "GPU", {},
        profiles.ProfiledWindow(1, 2, 1, 1.0), 2e-4, (1e-4,),
    )  # fmt: skip
    ceilings = Ceilings(1e12, {"fp32": 1e13, "bf16": 1e14})
    recording = Recording(
        header,
        recorded.parsed(),
        {"decode": 5e-5, "cfm": 5e-5},
        {"t3.tfmr": "M"},
        twin=twin.parsed() if twin else None,
        ceilings=ceilings,
    )
    return build(replace(recording, **changes))
