"""Logits to one token per row: penalty, temperature, top-k, min-p, top-p and the draw, in one launch, without a sort.

The draw is torch's own: `multinomial` divides probabilities by exponential noise and takes the largest, so that the
same noise gives the same token. The noise ("race") is an input, and so are the settings, as a small tensor on the
device: a captured graph is replayed with others.

Where upstream sorts, a threshold is found by bisection over the bit patterns of the logits, which order as the floats
do. Ties are those of a stable ascending sort: top-k and min-p keep or drop equal logits together, top-p drops those of
the lowest index first, and always leaves the last. All is fp32, whatever the logits are.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ttsbench.optimizations.kernels.kernel import DTYPES, Case, Kernel, Shape, Tensors, normal
from ttsbench.optimizations.kernels.tensors import require

VOCABULARY_MAX = 16384
SETTINGS = ("temperature", "repetition_penalty", "min_p", "top_p", "top_k")
# Llama's T3 penalizes first, GPT-2's (Turbo) last.
PENALTY_FIRST = {"llama": True, "gpt2": False}

NEGATIVE_INFINITY_KEY = tl.constexpr(-2139095041)


def settings(
    device: torch.device | str,
    *,
    temperature: float = 1.0,
    repetition_penalty: float = 1.0,
    min_p: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
) -> torch.Tensor:
    """The tensor that the kernel reads; the defaults, and a temperature of 0 or less, leave the logits as they are."""
    return torch.tensor([temperature, repetition_penalty, min_p, top_p, top_k], dtype=torch.float32, device=device)


def race_from_uniforms(uniforms: torch.Tensor) -> torch.Tensor:
    """Exponential noise from uniforms in [0, 1); never zero, so that no probability is divided by it."""
    return (-torch.log1p(-uniforms.float())).clamp_min(torch.finfo(torch.float32).tiny)


def sample_reference(
    logits: torch.Tensor, seen: torch.Tensor, settings: torch.Tensor | list[float], race: torch.Tensor, *, order: str
) -> torch.Tensor:
    """The same tokens by upstream's steps; of settings on the device the host waits to read them."""
    values = settings.tolist() if isinstance(settings, torch.Tensor) else settings
    temperature, penalty, min_p, top_p, top_k = values
    scores = logits.float()
    if PENALTY_FIRST[order]:
        scores = _penalized(scores, seen, penalty)
    if temperature > 0:
        scores = scores / temperature
    if top_k > 0:
        kth = scores.topk(min(int(top_k), scores.shape[-1])).values[..., -1, None]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    probabilities = scores.softmax(-1)
    scores = scores.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), -torch.inf)
    if top_p < 1:
        ascending, indices = scores.sort(dim=-1, stable=True)
        dropped = ascending.softmax(-1).cumsum(-1) <= 1 - top_p
        dropped[..., -1] = False
        scores = scores.masked_fill(dropped.scatter(-1, indices, dropped), -torch.inf)
    if not PENALTY_FIRST[order]:
        scores = _penalized(scores, seen, penalty)
    return (scores.softmax(-1) / race).argmax(-1)


def _penalized(scores: torch.Tensor, seen: torch.Tensor, penalty: float) -> torch.Tensor:
    return torch.where(seen.bool(), torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def sample(
    logits: torch.Tensor,
    seen: torch.Tensor,
    settings: torch.Tensor,
    race: torch.Tensor,
    token: torch.Tensor,
    *,
    order: str,
) -> torch.Tensor:
    """Writes a token per row of [rows, vocabulary] into `token`, int64 of [rows] or [rows, 1], and returns it.

    `seen` (bool or int8) marks the tokens to penalize; `order` is `llama` or `gpt2`.
    """
    rows, vocabulary = logits.shape
    require(0 < vocabulary <= VOCABULARY_MAX, f"a program holds a row of 1 to {VOCABULARY_MAX} logits")
    require(seen.shape == race.shape == logits.shape, "logits, seen and race differ in shape")
    require(seen.element_size() == 1 and race.dtype == torch.float32, "seen is bool or int8, race is float32")
    require(settings.shape == (len(SETTINGS),) and settings.dtype == torch.float32, "settings() makes the settings")
    require(token.shape in ((rows,), (rows, 1)) and token.dtype == torch.int64, "token is int64, one per row")
    require(order in PENALTY_FIRST, f"order is one of {', '.join(PENALTY_FIRST)}")
    if rows:
        block = triton.next_power_of_2(vocabulary)
        _sampler_kernel[(rows,)](
            logits, seen.view(torch.int8), settings.contiguous(), race, token, *logits.stride(), *seen.stride(),
            *race.stride(), token.stride(0), vocabulary, PENALTY_FIRST=PENALTY_FIRST[order], BLOCK=block,
            num_warps=max(1, min(16, block // 512)),
        )  # fmt: skip
    return token


@triton.jit
def _sampler_kernel(  # type: ignore[no-untyped-def]
    logits, seen, settings, race, token, logits_row, logits_place, seen_row, seen_place, race_row, race_place,
    token_row, vocabulary, PENALTY_FIRST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    inside = place < vocabulary
    temperature, penalty = tl.load(settings), tl.load(settings + 1)
    min_p, top_p, top_k = tl.load(settings + 2), tl.load(settings + 3), tl.load(settings + 4).to(tl.int32)

    scores = tl.load(logits + row * logits_row + place * logits_place, mask=inside, other=-float("inf"))
    scores = scores.to(tl.float32)
    penalized = tl.load(seen + row * seen_row + place * seen_place, mask=inside, other=0) != 0
    if PENALTY_FIRST:
        scores = _penalize(scores, penalized, penalty)
    scores = tl.div_rn(scores, tl.where(temperature > 0, temperature, 1.0))
    scores = tl.where(scores == 0, 0.0, scores)  # -0 and 0 are one float and two bit patterns

    key = _key_of(scores)
    if (top_k > 0) & (top_k < vocabulary):
        scores = tl.where(key > _below_top_k(key, top_k), scores, -float("inf"))
    largest = tl.max(scores, axis=0)
    mass = tl.exp(scores - largest)
    scores = tl.where(mass < min_p, -float("inf"), scores)
    if top_p < 1:
        key = _key_of(scores)
        mass = tl.where(scores == -float("inf"), 0.0, mass)
        scores = tl.where(_in_top_p(key, mass, largest, top_p), scores, -float("inf"))
    if not PENALTY_FIRST:
        scores = _penalize(scores, penalized, penalty)
        largest = tl.max(scores, axis=0)

    noise = tl.load(race + row * race_row + place * race_place, mask=inside, other=1.0)
    finish = tl.exp(scores - largest) / noise
    finish = tl.where(inside & (finish >= 0), finish, -1.0)  # of a row without a finite logit, the first
    tl.store(token + row * token_row, tl.argmax(finish, axis=0).to(tl.int64))


@triton.jit
def _penalize(scores, penalized, penalty):  # type: ignore[no-untyped-def]
    return tl.where(penalized, tl.where(scores < 0, scores * penalty, tl.div_rn(scores, penalty)), scores)


@triton.jit
def _key_of(scores):  # type: ignore[no-untyped-def]
    """Integers that order as the floats do."""
    bits = scores.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _score_of(key):  # type: ignore[no-untyped-def]
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _between(low, high):  # type: ignore[no-untyped-def]
    """The middle, rounded down, of integers whose difference may not fit."""
    return (low & high) + ((low ^ high) >> 1)


@triton.jit
def _below_top_k(key, top_k):  # type: ignore[no-untyped-def]
    """The largest key that at least k keys exceed: those above it are the k largest and what equals the last."""
    low, high = tl.full((), NEGATIVE_INFINITY_KEY, tl.int32), tl.max(key, axis=0)
    middle = _between(low, high)
    while (low < middle) & (middle < high):
        above = tl.sum((key > middle).to(tl.int32), axis=0)
        high = tl.where(above >= top_k, high, middle)
        low = tl.where(above >= top_k, middle, low)
        # Just k exceed it: nothing between here and the k-th is left to be found.
        middle = tl.where(above == top_k, low, _between(low, high))
    return low


@triton.jit
def _in_top_p(key, mass, largest, top_p):  # type: ignore[no-untyped-def]
    """What an ascending cumulative sum leaves once it exceeds 1 − p; `largest` is the score whose mass is 1."""
    total = tl.sum(mass, axis=0)
    dropped_mass = (1.0 - top_p) * total
    low, high = tl.full((), NEGATIVE_INFINITY_KEY, tl.int32), tl.max(key, axis=0)
    low_mass, high_mass = tl.full((), 0.0, tl.float32), total
    middle = _between(low, high)
    while (low < middle) & (middle < high):
        middle_mass = tl.sum(tl.where(key <= middle, mass, 0.0), axis=0)
        drop = middle_mass <= dropped_mass
        low, low_mass = tl.where(drop, middle, low), tl.where(drop, middle_mass, low_mass)
        high, high_mass = tl.where(drop, high, middle), tl.where(drop, high_mass, middle_mass)
        # Each key in (low, high] weighs more than one at low would. Less than two of them weigh: one is there, which
        # is the first to stay. Where a weight drowns in the sum's rounding, the bisection goes on to the last bit.
        least = tl.exp(_score_of(low) - largest)
        alone = (high_mass - low_mass < 1.5 * least) & (least > 1e-5 * total)
        middle = tl.where(alone, low, _between(low, high))

    kept = key > low
    # Equal keys at the boundary: as many of the first as the sum still has room for, but never all.
    each = tl.exp(_score_of(high) - largest)
    room = tl.floor((dropped_mass - low_mass) / each).to(tl.int32)
    equal = (key == high).to(tl.int32)
    if room > 0:
        room = tl.minimum(room, tl.sum(equal, axis=0) - 1)
        kept = kept & ((key != high) | (tl.cumsum(equal, axis=0) > room))
    return kept


def _case(order: str, **values: float) -> dict[str, Any]:
    """With upstream's settings, which the kernel reads from the device and the reference knows when it is launched."""
    known = settings("cpu", **values).tolist()  # type: ignore[arg-type]

    def inputs(dims: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensors:
        device = generator.device
        logits = normal(generator, *dims, dtype=dtype, scale=3.0)
        seen = torch.rand(dims, generator=generator, device=device) < 0.02
        race = torch.empty(dims, device=device).exponential_(generator=generator)
        no_token = torch.full(dims[:1], -1, dtype=torch.int64, device=device)
        return logits, seen, torch.tensor(known, device=device), race, no_token

    def reference(
        logits: torch.Tensor, seen: torch.Tensor, _: torch.Tensor, race: torch.Tensor, __: torch.Tensor
    ) -> torch.Tensor:
        return sample_reference(logits, seen, known, race, order=order)

    return {
        "inputs": inputs,
        "reference": reference,
        "ours": lambda *inputs: sample(*inputs, order=order),
        "exact": reference,
        "small": (Shape("small", (3, 131)),),
        "tolerances": dict.fromkeys(DTYPES, 0.0),  # the very same tokens
    }


KERNEL = Kernel(
    device_names=("^_sampler_kernel",),
    cases=(
        Case(
            name="sampler_llama",
            shapes=(Shape("T3", (1, 8194)), Shape("T3 batch", (64, 8194))),
            **_case("llama", temperature=0.8, repetition_penalty=1.2, min_p=0.05),
        ),
        Case(
            name="sampler_gpt2",
            shapes=(Shape("Turbo", (1, 6563)), Shape("Turbo batch", (64, 6563))),
            **_case("gpt2", temperature=0.8, repetition_penalty=1.2, top_k=1000, top_p=0.95),
        ),
    ),
)
