"""The section of a scenario that says what the fake engine pretends."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ttsbench.records.measurements import STAGES
from ttsbench.scenarios.kinds import OneOf, Positive, Section, Seed

Planted = Annotated[float, Field(gt=-1, le=10, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Portion = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PLANTED_PLACES = ("wall", *STAGES, "memory", "launches")


class FakeEngine(Section):
    """An engine of known noise and known faults, without a model: what tests of ttsbench itself measure."""

    seed: Seed = Field(default=0, description="of all that befalls it: another seed is another series")
    rtf: Positive = Field(default=0.5, description="of every stack, before anything befalls it")
    process_noise: NonNegative = Field(default=0.015, description="standard deviation of ln over processes")
    call_noise: NonNegative = Field(default=0.01, description="standard deviation of ln over calls")
    stage_noise: NonNegative = Field(default=0.0, description="the same over processes, of each stage by itself")
    drift: NonNegative = Field(default=0.0, description="how far the machine wanders over a series of 30 processes")
    spikes: Portion = Field(default=0.0, description="share of calls that something holds up")
    spike_size: NonNegative = Field(default=0.5, description="how much longer those take")
    throttled: Portion = Field(default=0.0, description="share of processes whose clocks are held back")
    hurried: Portion = Field(default=0.0, description="share of calls that find the device at its faster pace")
    leak: NonNegative = Field(default=0.0, description="how much longer each call takes than the one before it")
    crashes: Portion = Field(default=0.0, description="share of processes that are killed")
    planted: dict[str, dict[Annotated[str, OneOf(PLANTED_PLACES)], Planted]] = Field(
        default={}, description="stack: {stage: 0.05}; how much more it takes, in a stage, in memory or in launches"
    )
