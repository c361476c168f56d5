"""What is expected of stacks: how far from the reference they may be, and what others claim of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from ttsbench.scenarios.kinds import Name, OneOf, Section, Share, refused

CLAIM_KINDS = ("speedup", "saving", "difference", "value")
# Lower is better for all of them; the first few need utterances, the others forwards.
UTTERANCE_METRICS = (
    "rtf",
    "wall_seconds",
    "first_playable_seconds",
    "decode_seconds_per_token",
    "s3gen_seconds",
    "vocoder_calls",
    "peak_memory_bytes",
)
FORWARD_METRICS = ("forward_seconds", "forward_peak_bytes")

ClaimBound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Limits(Section):
    """How far from the reference a stack may be."""

    logits_relative_error_max: Limit | None = None
    kl_mean_max: Limit | None = None
    top1_agreement_min: Share | None = None
    mel_distance_max: Limit | None = None
    clipped_growth_max: Share | None = 0.01
    hidden_relative_error_max: Limit | None = None
    seam_ratio_max: Limit | None = 1.2

    def active(self, *, forward: bool = False) -> dict[str, float]:
        """Only what is limited, of utterances or of forwards of the backbone alone."""
        limits: dict[str, float] = self.model_dump(exclude_none=True)
        return {name: limit for name, limit in limits.items() if name.startswith("hidden_") == forward}


class QualityLimits(Section):
    """For stacks that compute exactly, in reduced precision, or with quantized weights."""

    exact: Limits = Field(
        default=Limits(
            logits_relative_error_max=1e-3, kl_mean_max=1e-6, mel_distance_max=1e-3, hidden_relative_error_max=1e-3
        ),
        description="of stacks in fp32",
    )
    half: Limits = Field(
        default=Limits(
            logits_relative_error_max=0.1, kl_mean_max=0.02, mel_distance_max=0.2, hidden_relative_error_max=0.1
        ),
        description="of stacks in half precision, tf32 or under autocast",
    )
    quantized: Limits = Field(
        default=Limits(
            logits_relative_error_max=0.3, kl_mean_max=0.2, mel_distance_max=0.2, hidden_relative_error_max=0.3
        ),
        description="of stacks with quantized weights",
    )


class Claim(Section):
    """What somebody says that a stack brings, to be laid beside our figure."""

    id: Name = Field(description="names the claim in the report")
    says: str = Field(max_length=1_000, description="the claim in its own words")
    stack: str = Field(description="whose figure it is about")
    metric: Annotated[str, OneOf((*UTTERANCE_METRICS, *FORWARD_METRICS))] = Field(description="which figure")
    at: dict[str, Any] | None = Field(
        default=None, description="axis: value; the points of the matrix it is about, all of them if left out"
    )
    kind: Annotated[str, OneOf(CLAIM_KINDS)] = Field(
        description="speedup (times the baseline's), saving (share of it), difference (less than it, in the figure's "
        "unit), or value (the figure itself)"
    )
    low: ClaimBound | None = Field(default=None, description="the least that is claimed; not for value")
    high: ClaimBound | None = Field(default=None, description="the most that is claimed; for value, what it may be")

    @model_validator(mode="after")
    def _has_its_bound(self) -> Claim:
        needed = "high" if self.kind == "value" else "low"
        if getattr(self, needed) is None:
            raise refused(f"a claim of the kind {self.kind} needs {needed}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise refused(f"low is {self.low:g} and high is {self.high:g}; low is the smaller one")
        return self
