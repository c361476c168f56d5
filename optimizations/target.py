"""What a slot sees of a pipeline: which parts it may replace, and what it attests from.

`ttsbench.model.pipeline.Pipeline` has all of it; the pipeline of a forward has what concerns T3's backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ttsbench.instruments.attest import WarmCall
    from ttsbench.model.pipeline import Generator
    from ttsbench.optimizations.parts.backbones import Backbone
    from ttsbench.optimizations.parts.compiled import Compiled
    from ttsbench.optimizations.parts.flow_encoder import LeanEncoder
    from ttsbench.optimizations.parts.flow_estimator import LeanEstimator
    from ttsbench.optimizations.parts.flow_graphs import GraphedEncoder, GraphedSolve
    from ttsbench.optimizations.parts.flow_solve import FixedSteps
    from ttsbench.optimizations.parts.in_tf32 import InTf32
    from ttsbench.optimizations.parts.lean_loop import LeanLoop
    from ttsbench.optimizations.parts.vocoder import Decode
    from ttsbench.optimizations.undo import Undo

Context = Callable[[], AbstractContextManager[Any]]


@runtime_checkable
class Loop(Protocol):
    """From text tokens to speech tokens: a loop of ours, whose option and calls are attested."""

    option: str
    calls: int

    def evidence(self) -> dict[str, Any]: ...


@dataclass
class S3GenParts:
    """What slots put into S3Gen; None where upstream's own runs."""

    estimator: LeanEstimator | None = None
    encoder: LeanEncoder | None = None
    halves_in_tf32: tuple[InTf32, ...] = ()
    graphed_solve: GraphedSolve | None = None
    graphed_encoder: GraphedEncoder | None = None
    compiled_estimator: Compiled | None = None
    fixed_steps: FixedSteps | None = None
    vocoder: Decode | None = None


@dataclass
class T3Parts:
    """What slots put around T3."""

    # Contexts that its loop runs in.
    contexts: list[Context] = field(default_factory=list)
    # What torch.compile put in the place of eager calls.
    compiled: list[Compiled] = field(default_factory=list)


class Target(Protocol):
    """A pipeline, as slots know it. Whatever they change they change through `undo`."""

    # The package's own object, with its `t3`, `s3gen`, `watermarker` and `conds`.
    tts: Any
    # What a warm call was seen to do.
    warm_call: WarmCall
    undo: Undo
    t3_parts: T3Parts
    s3gen_parts: S3GenParts
    # A captured part calls its layers only while it is captured: forgets what was, so that they are seen again.
    forget_captures: list[Callable[[], None]]

    @property
    def slots(self) -> Mapping[str, str]: ...

    @property
    def loop(self) -> object:
        """The package's method, or a `Loop`."""

    @property
    def backbone(self) -> Backbone | None:
        """That of a loop of ours."""

    @property
    def generator(self) -> Generator | None:
        """In the place of the package's `generate`."""

    @property
    def device(self) -> torch.device: ...

    def use_loop(self, loop: type[LeanLoop]) -> None: ...

    def weights_bytes(self) -> int: ...
