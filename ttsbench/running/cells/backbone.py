"""The backbone alone, on seeded random embeddings: one forward, or decode steps after a prompt.

`ForwardPipeline` has the face that slots know from `Pipeline`, as far as it concerns T3's backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from ttsbench.errors import CheckpointError
from ttsbench.instruments import attest
from ttsbench.instruments.attest import WarmCall
from ttsbench.instruments.swapping import within
from ttsbench.model import checkpoint
from ttsbench.model.families import FAMILIES, files_of
from ttsbench.model.pipeline import parameter_bytes
from ttsbench.optimizations.registry import BY_NAME
from ttsbench.optimizations.stacks import complete
from ttsbench.optimizations.target import S3GenParts, T3Parts
from ttsbench.optimizations.undo import Undo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ttsbench.optimizations.parts.backbones import Backbone
    from ttsbench.optimizations.parts.lean_loop import LeanLoop
    from ttsbench.records.jobs import ForwardJob, Job

# As large as the rows of an embedding table when training begins.
EMBEDDING_STD = 0.02


class BackboneOnly(torch.nn.Module):
    """In T3's place: its `tfmr`, and nothing around it."""

    def __init__(self, tfmr: Any) -> None:
        super().__init__()
        self.tfmr = tfmr

    @property
    def speech_head(self) -> Any:
        """What others ask for T3's dtype: any of its parameters can tell."""
        return SimpleNamespace(weight=next(self.tfmr.parameters()))


class OwnBackbone:
    """The backbone's own forward over transformers' growing cache, with what it works out for itself at each call."""

    def __init__(self, tfmr: Any) -> None:
        self._tfmr = tfmr

    def prefill(self, embeds: torch.Tensor, limit: int) -> torch.Tensor:
        """A new cache; it grows, whatever the limit."""
        self._cache = DynamicCache(config=self._tfmr.config)
        return self.step(embeds)

    def step(self, embed: torch.Tensor) -> torch.Tensor:
        output = self._tfmr(inputs_embeds=embed, past_key_values=self._cache, use_cache=True)
        assert isinstance(output.last_hidden_state, torch.Tensor)
        return output.last_hidden_state


class StepLoop:
    """In the place of a loop: its backbone, which takes steps, and no tokens."""

    def __init__(self, option: str, backbone: Backbone) -> None:
        self.option = option
        self.backbone = backbone
        self.calls = 0

    def evidence(self) -> dict[str, Any]:
        return {"backbone": type(self.backbone).__name__}


class ForwardPipeline:
    """One backbone, ready for forwards of one shape. Options are applied to `tts` from outside."""

    def __init__(self, tfmr: Any, shape: ForwardJob, seed: int, slots: Mapping[str, str]) -> None:
        # Without a voice, and with a module of no parts where S3Gen would be.
        self.tts = SimpleNamespace(t3=BackboneOnly(tfmr), s3gen=torch.nn.Module(), conds=None)
        self.shape = shape
        self.slots = {
            name: option for name, option in complete(slots).items() if BY_NAME[name].is_in_forward(shape.steps)
        }
        self.undo, self.t3_parts, self.s3gen_parts = Undo(), T3Parts(), S3GenParts()
        self.loop = StepLoop("upstream", OwnBackbone(tfmr))
        self.generator = None
        self.warm_call = WarmCall()
        self.forget_captures: list[Callable[[], None]] = []
        self._seed = seed
        self._embeds = torch.empty(0)

    @property
    def backbone(self) -> Any:
        return self.loop.backbone

    @backbone.setter
    def backbone(self, backbone: Any) -> None:
        self.loop.backbone = backbone

    def use_loop(self, loop: type[LeanLoop]) -> None:
        """Of a loop of our own its backbone: nothing is drawn here."""
        from ttsbench.optimizations.parts.backbones import GrowingBackbone

        self.undo.replace(self, "loop", StepLoop(loop.option, GrowingBackbone(self.tts.t3.tfmr)))

    @property
    def device(self) -> torch.device:
        device = self.tts.t3.tfmr.device
        assert isinstance(device, torch.device)
        return device

    def draw_embeddings(self) -> None:
        """The same on every device and in every stack, rounded to the backbone's dtype; once the stack is applied."""
        shape, tfmr = self.shape, self.tts.t3.tfmr
        generator = torch.Generator().manual_seed(self._seed)
        size = (shape.rows, shape.positions + shape.steps, tfmr.config.hidden_size)
        self._embeds = (torch.randn(size, generator=generator) * EMBEDDING_STD).to(self.device, tfmr.dtype)

    @torch.inference_mode()
    def begin(self) -> None:
        """What comes before the work that is measured: the prompt, where there are steps after it."""
        if self.shape.steps:
            self.loop.calls += 1
            with within(self.t3_parts.contexts):
                self.backbone.prefill(self._embeds[:, : self.shape.positions], self.shape.steps)

    @torch.inference_mode()
    def work(self) -> None:
        """The forward, or all the steps."""
        with within(self.t3_parts.contexts):
            for _ in self._hidden():
                pass

    @torch.inference_mode()
    def hidden(self) -> torch.Tensor:
        """The last hidden states of the work, on the host and in fp32: (rows, positions or steps, width)."""
        self.begin()
        with within(self.t3_parts.contexts):
            return torch.cat([hidden.float().cpu() for hidden in self._hidden()], dim=1)

    def _hidden(self) -> Iterator[torch.Tensor]:
        first = self.shape.positions
        if not self.shape.steps:
            yield self.tts.t3.tfmr(inputs_embeds=self._embeds, use_cache=False).last_hidden_state
        for position in range(first, first + self.shape.steps):
            yield self.backbone.step(self._embeds[:, position : position + 1])

    def weights_bytes(self) -> int:
        return parameter_bytes(self.tts.t3)


def load(job: Job) -> Any:
    """The job's backbone on its device, in the dtype it is stored in."""
    tfmr = _of_checkpoint(job) if FAMILIES[job.family].speaks() else _qwen2(job)
    return tfmr.to(job.device).eval().requires_grad_(requires_grad=False)


def _qwen2(job: Job) -> Any:
    from transformers import Qwen2Config, Qwen2Model

    from ttsbench.model import synthetic

    sizes: Any = FAMILIES[job.family].sizes[job.size]
    config = Qwen2Config(**sizes, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    with synthetic.seeded(job.model_seed, "qwen2"):
        model = Qwen2Model(config)
        synthetic.roughen(model)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(synthetic.TORCH_DTYPES[job.dtype])
    return model


def _of_checkpoint(job: Job) -> Any:
    """T3's backbone from its own file; S3Gen and the rest are never read."""
    from chatterbox.models.t3 import T3
    from safetensors.torch import load_file
    from transformers.initialization import no_init_weights

    from ttsbench.model import architecture, synthetic
    from ttsbench.model.checkpoint_files import read_manifest

    folder = checkpoint.locate(*job.checkpoint)
    manifest = read_manifest(folder)
    with architecture.registered(job.family, manifest.size if manifest else "full"), no_init_weights():
        tfmr: Any = T3(synthetic.t3_config(job.family)).tfmr
    file = folder / files_of(job.family).t3
    stored = load_file(file, device=job.device)
    own = {name.removeprefix("tfmr."): tensor for name, tensor in stored.items() if name.startswith("tfmr.")}
    try:
        # Assigned, not copied: so each keeps the dtype it is stored in.
        tfmr.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{file} does not fit: {str(error).splitlines()[-1]}") from None
    if hasattr(tfmr, "wte"):
        del tfmr.wte  # as upstream does: 50,000 rows that nothing reads
    return tfmr


def record_warm_call(pipeline: ForwardPipeline) -> WarmCall:
    """A warm call of each part under the profiler; without steps there is one part, and it stands for both."""
    layers = attest.LayerDtypes(pipeline.tts.t3.tfmr)
    with layers.recording():
        pipeline.begin()
        if not pipeline.shape.steps:
            pipeline.work()
    pipeline.begin()
    pipeline.work()
    prefill = attest.record_activity(pipeline.device, pipeline.begin) if pipeline.shape.steps else None
    work = attest.record_activity(pipeline.device, pipeline.work)
    return WarmCall(
        prefill=prefill or work,
        decode=work,
        steps=max(pipeline.shape.steps, 1),
        activation_dtypes=frozenset(layers.dtypes),
        tf32_allowed=layers.tf32_allowed,
    )
