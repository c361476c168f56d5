"""The loop of `decode: persistent`: the prompt as ever, and all that follows it by one kernel, many tokens a launch.

The device keeps the last token, its position and its number, so that a launch needs nothing from the host but the noise
of its draws; after a stop token the launches that are under way end at once. The host reads what one launch has made
while the next one runs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ttsbench.errors import CellError
from ttsbench.optimizations.kernels import persistent_decode as kernel
from ttsbench.optimizations.parts.backbones import StaticBackbone
from ttsbench.optimizations.parts.host_copy import HostCopy
from ttsbench.optimizations.parts.lean_loop import LeanLoop
from ttsbench.optimizations.parts.next_token import NOT_FORCED
from ttsbench.optimizations.parts.random_stream import Draws, of_process
from ttsbench.optimizations.parts.samplers import TritonSampler
from ttsbench.optimizations.parts.t3 import Request

# Beside tokens of 450 µs each a launch costs less than 70 µs. Who listens wants to hear of them earlier.
TOKENS_PER_LAUNCH, WITH_A_LISTENER = 25, 8


class PersistentLoop(LeanLoop):
    """Needs weights in half precision, a static cache, and the sampler whose arithmetic the kernel has."""

    option = "persistent"
    backbone: StaticBackbone
    sampler: TritonSampler

    def __init__(self, t3: Any) -> None:
        super().__init__(t3)
        config = t3.tfmr.config
        kernel.check_shape(
            width=config.hidden_size, mlp=config.intermediate_size, heads=config.num_attention_heads,
            key_value_heads=config.num_key_value_heads, head=config.head_dim, vocabulary=t3.speech_head.out_features,
        )  # fmt: skip
        self._kernels: dict[int, kernel.PersistentDecode] = {}
        self._weights: torch.Tensor | None = None
        # Of the cache, by the number of its allocation.
        self._memory = -1
        self._drawn = torch.empty(1, 0, dtype=torch.long, device=t3.device)
        self._race = torch.empty(TOKENS_PER_LAUNCH, t3.speech_head.out_features, device=t3.device)
        self.launches = 0

    def evidence(self) -> dict[str, Any]:
        """How often the kernel ran, and what it takes of a multiprocessor."""
        if not self.launches:
            raise CellError("decode: persistent was asked for, and its kernel was never launched")
        return super().evidence() | {
            "launches": self.launches,
            "blocks": kernel.BLOCKS,
            "registers": {rows: held.registers for rows, held in self._kernels.items()},
            "shared_bytes": {rows: held.shared_bytes for rows, held in self._kernels.items()},
            "packed_bytes": 0 if self._weights is None else self._weights.nbytes,
        }

    def _speak(self, embeds: torch.Tensor, request: Request, analyzer: Any) -> tuple[torch.Tensor, bool]:
        """The first draw comes from the prompt's last logits, every other one from the kernel."""
        rows, prompt = embeds.shape[:2]
        draws = Draws(of_process(embeds.device))
        first = self._next_token(self.backbone.prefill(embeds, request.limit), request.cfg_weight, 0)
        draws.first_is_over()
        arguments = self._arguments(rows, request)
        self._drawn[:, :1] = first
        held = self._kernels[rows]
        stop_token = int(self.model.t3.hp.stop_speech_token)
        held.begin(first[0, 0], step=1, position=prompt, stop_token=stop_token)
        count, stopped = self._follow(held, arguments, request.limit)
        draws.rewind(count)
        return self._drawn[:, :count].clone(), stopped

    def _follow(self, held: kernel.PersistentDecode, arguments: kernel.Arguments, limit: int) -> tuple[int, bool]:
        """Launches until the last token, or the stop; how many tokens there are then, and whether it stopped."""
        if self.on_tokens is not None:
            self.on_tokens(self._drawn[:, :1])
        at_most = TOKENS_PER_LAUNCH if self.on_tokens is None else WITH_A_LISTENER
        left = HostCopy(held.state)
        for first in range(1, limit, at_most):
            tokens = min(at_most, limit - first)
            self._launch(held, arguments, tokens)
            if self.on_tokens is not None:
                self.on_tokens(self._drawn[:, first : first + tokens])
            before, left = left, HostCopy(held.state)
            if self.on_logits is not None:
                self._show_logits(state_of(left, held)["step"] - first)
            if state_of(before, held)["stopped"]:
                break
        state = state_of(left, held)
        return state["step"], bool(state["stopped"])

    def _launch(self, held: kernel.PersistentDecode, arguments: kernel.Arguments, tokens: int) -> None:
        """The noise is drawn as the sampler draws it, a row at a time: one stream gives the same tokens."""
        for row in self._race[:tokens]:
            row.exponential_(1.0)
        arguments.tokens = tokens
        held.launch(arguments)
        self.launches += 1

    def _show_logits(self, made: int) -> None:
        assert self.on_logits is not None
        for logits in self._shown[: max(made, 0)]:  # none by a launch that follows the stop
            self.on_logits(logits)

    def _make_room(self, rows: int, limit: int) -> None:
        """What lasts beyond an utterance: the kernel, the packed weights, and memory for so many tokens."""
        t3, device = self.model.t3, self.model.t3.device
        head, positions = t3.speech_head, t3.speech_pos_emb.emb.num_embeddings
        if limit > positions:
            raise CellError(
                f"decode: persistent: T3 has {positions} speech positions, and {limit} tokens were asked for"
            )
        if rows not in self._kernels:
            self._kernels[rows] = kernel.PersistentDecode(
                vocabulary=head.out_features, layers=len(t3.tfmr.layers), rows=rows, dtype=head.weight.dtype
            )
        if self._weights is None:
            self._weights = packed_weights(t3)
        if self._memory != self.backbone.allocations:
            self._memory = self.backbone.allocations
            memory = (*self.backbone.keys, *self.backbone.values)
            self._caches = torch.tensor([part.data_ptr() for part in memory], device=device)
            self._rotary = rotary_table(t3.tfmr, self.backbone.keys[0].size(2))
        if self._drawn.size(1) < limit:
            self._drawn = torch.empty(1, limit, dtype=torch.long, device=device)
            self._forced = torch.empty_like(self._drawn)

    def _arguments(self, rows: int, request: Request) -> kernel.Arguments:
        """Everything that this utterance's launches read, in places that stay while it lasts."""
        self._make_room(rows, request.limit)
        assert self._weights is not None
        t3, device = self.model.t3, self.model.t3.device
        head = t3.speech_head
        # What stands behind a stop is stop tokens, for a listener who is handed a whole launch's.
        self._drawn.fill_(t3.hp.stop_speech_token)
        if self.forced:
            forced = self.forced[: self._forced.size(1)]
            self._forced.fill_(NOT_FORCED)
            self._forced[0, : len(forced)] = torch.tensor(forced, device=device)
        shown = TOKENS_PER_LAUNCH if self.on_logits is not None else 0
        self._shown = torch.empty(shown, rows, head.out_features, device=device)
        self._bias = torch.zeros(head.out_features, device=device) if head.bias is None else head.bias.float()
        settings = {"cfg_weight": request.cfg_weight, **asdict(request.sampling)}
        self._settings = torch.tensor([settings[name] for name in kernel.SETTINGS], device=device)
        return kernel.Arguments(
            weights=self._weights.data_ptr(),
            token_embeddings=t3.speech_emb.weight.data_ptr(),
            step_embeddings=t3.speech_pos_emb.emb.weight.data_ptr(),
            head_bias=self._bias.data_ptr(),
            rotary=self._rotary.data_ptr(),
            caches=self._caches.data_ptr(),
            settings=self._settings.data_ptr(),
            race=self._race.data_ptr(),
            forced=self._forced.data_ptr() if self.forced else None,
            drawn=self._drawn.data_ptr(),
            seen=self.sampler.state[0].data_ptr(),
            logits=self._shown.data_ptr() if self.on_logits is not None else None,
            patience=int(kernel.PATIENCE_SECONDS * 1e9),
            cache_positions=self.backbone.keys[0].size(2),
            stop_token=t3.hp.stop_speech_token,
            epsilon=t3.tfmr.norm.variance_epsilon,
        )


def state_of(copy: HostCopy, held: kernel.PersistentDecode) -> dict[str, int]:
    """What a launch left, by name; waits for it, and raises where it gave up."""
    state = dict(zip(kernel.STATE, copy.read(), strict=True))
    if state["gave_up"]:
        held.forget()
        raise CellError(
            f"decode: persistent: blocks waited more than {kernel.PATIENCE_SECONDS:g} s for each other; "
            "does something else hold the GPU? decode: cuda_graph needs no blocks that run together"
        )
    return state


def packed_weights(t3: Any) -> torch.Tensor:
    """In the kernel's layout and the model's dtype, each norm's weight multiplied into the matrix after it."""
    layers, dtype = t3.tfmr.layers, t3.speech_head.weight.dtype
    biased = [name for name, _ in t3.tfmr.named_parameters() if name.endswith(".bias")]
    if biased:
        raise CellError(f"decode: persistent is written for layers without biases, and this model has {biased[0]}")

    def normed(norm: Any, *projections: Any) -> torch.Tensor:
        scale = norm.weight.detach().float()
        return torch.cat([(part.weight.detach().float() * scale).to(dtype) for part in projections])

    def of_layer(layer: Any) -> kernel.Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return kernel.Layer(
            qkv=normed(layer.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj),
            out=attention.o_proj.weight.detach(),
            gate=normed(layer.post_attention_layernorm, mlp.gate_proj),
            up=normed(layer.post_attention_layernorm, mlp.up_proj),
            down=mlp.down_proj.weight.detach(),
        )

    head = normed(t3.tfmr.norm, t3.speech_head)
    return kernel.pack(map(of_layer, layers), head, count=len(layers), dtype=dtype)


def rotary_table(tfmr: Any, positions: int) -> torch.Tensor:
    """(positions, half a head, 2): cosine and sine in single precision, whatever base and scaling the config names."""
    ids = torch.arange(positions, device=tfmr.device)[None]
    cosine, sine = tfmr.rotary_emb(torch.zeros(1, device=tfmr.device), position_ids=ids)
    half = cosine.size(-1) // 2
    return torch.stack([cosine[0, :, :half], sine[0, :, :half]], -1).contiguous()
