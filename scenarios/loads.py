"""Under `workload.load`: who asks, how long each level lasts, and what an answer should reach."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ttsbench.records.jobs import NEXT_REQUEST, LoadJob
from ttsbench.scenarios.kinds import AsTuple, OneOf, Section, refused


class Targets(Section):
    """What a request should reach; the share that does is the goodput."""

    ttfa_seconds: Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)] = Field(
        description="the first 80 ms at most so long after the request was due"
    )
    underrun_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = Field(
        default=0.0, description="silence while the next chunk is not there, in all, at most so long"
    )


Listeners = Annotated[int, Field(ge=1, le=1_024)]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]


class Load(Section):
    """Many requests: from listeners who ask again and again, and at random moments at given rates."""

    listeners: Annotated[tuple[Listeners, ...], AsTuple] = Field(
        default=(), description="closed loops: a level for each number of listeners, one request each at a time"
    )
    rates: Annotated[tuple[Rate, ...], AsTuple] = Field(
        default=(), description="open loops: a level for each number of requests a second, Poisson arrivals by the seed"
    )
    requests: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="that count at each level; give this or duration_seconds"
    )
    duration_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = Field(
        default=None, description="in which the requests of a level are due that count"
    )
    warmup: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = Field(
        default=0.2, description="before those that count, as a share of them; in a closed loop one a listener at least"
    )
    next_request: Annotated[str, OneOf(NEXT_REQUEST)] = Field(
        default=NEXT_REQUEST[0], description="when a listener asks again: when the last answer was delivered, or played"
    )
    ramp_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = Field(
        default=0.0, description="over which listeners come one by one, before the warm-up; all at once if left out"
    )
    targets: Targets = Field(description="what a request should reach: ttfa_seconds, underrun_seconds")
    patience_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        default=60.0,
        description="a level ends so long after its last request was due, whatever is not answered by then",
    )
    memory_gib: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] | None = Field(
        default=None, description="for keys and values; half of what is free if left out"
    )

    @model_validator(mode="after")
    def _has_levels_and_an_end(self) -> Load:
        if not self.listeners and not self.rates:
            raise refused("has no level; give listeners: [1, 2, 4], rates: [0.5, 1], or both")
        if (self.requests is None) == (self.duration_seconds is None):
            problem = "both are given" if self.requests is not None else "neither is given"
            raise refused(f"a level is as long as requests or duration_seconds says; {problem}")
        for name in ("listeners", "rates"):
            if len(set(levels := getattr(self, name))) < len(levels):
                raise refused(f"{name} holds a level twice")
        if self.ramp_seconds and not self.listeners:
            raise refused("ramp_seconds says how listeners come, and there are none; give listeners, or leave it out")
        return self

    @model_serializer(mode="wrap")
    def _without_default_ramp(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a ramp as before there was one: such work is the same as that of older runs and calibrations."""
        return {name: value for name, value in dump(self).items() if value or name != "ramp_seconds"}

    def to_job(self) -> LoadJob:
        """As a job carries it, the lightest level first."""
        fields = {**self.model_dump(exclude={"targets"}), **self.targets.model_dump()}
        return LoadJob(**fields | {"listeners": tuple(sorted(self.listeners)), "rates": tuple(sorted(self.rates))})
